// Package matrix is what the Go client programs have in common: their arguments, their output, and
// the records they send. What all of it means is in ../README.md.
package matrix

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/signal"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Commands are what a program can be asked to do. Their context is cancelled by SIGTERM, and ends
// with context.DeadlineExceeded after 300 seconds.
type Commands map[string]func(context.Context, Args) error

// Run does what the command line asks for, and ends the process.
func Run(commands Commands) {
	if err := run(commands, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

func run(commands Commands, words []string) error {
	if len(words) == 0 || commands[words[0]] == nil {
		return fmt.Errorf("give one of %v", slices.Sorted(maps.Keys(commands)))
	}
	ctx, cancel := context.WithTimeout(context.Background(), 300*time.Second)
	defer cancel()
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGTERM)
	defer stop()
	return commands[words[0]](ctx, parse(words[1:]))
}

// Ended is the error of a member whose context has ended with err: none if that was SIGTERM.
func Ended(err error) error {
	if errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

// Bootstrap is the broker's address.
func Bootstrap() string {
	return os.Getenv("BOOTSTRAP")
}

// Args are the arguments after the subcommand, by name.
type Args map[string]string

func parse(words []string) Args {
	args := Args{}
	for _, word := range words {
		name, value, _ := strings.Cut(word, "=")
		args[name] = value
	}
	return args
}

// Int is the number given as name=. It ends the process if there is none.
func (a Args) Int(name string) int64 {
	number, err := strconv.ParseInt(a[name], 10, 64)
	if err != nil {
		fmt.Fprintf(os.Stderr, "%s=: %v\n", name, err)
		os.Exit(2)
	}
	return number
}

// Max is what max= says, or -1 if it is not given.
func (a Args) Max() int64 {
	if _, given := a["max"]; !given {
		return -1
	}
	return a.Int("max")
}

// Partitions are the numbers of the partitions that partitions= counts.
func (a Args) Partitions() []int32 {
	partitions := make([]int32, a.Int("partitions"))
	for i := range partitions {
		partitions[i] = int32(i)
	}
	return partitions
}

// Config is what config=name:value says.
func (a Args) Config() (name, value string) {
	name, value, _ = strings.Cut(a["config"], ":")
	return name, value
}

// Record is one record, as it is sent and as it is printed.
type Record struct {
	Partition int32   `json:"partition"`
	Offset    int64   `json:"offset"`
	Key       string  `json:"key"`
	Value     string  `json:"value"`
	Timestamp int64   `json:"timestamp"` // ms since 1970
	Headers   Headers `json:"headers"`
}

// Headers keep their order; they are printed as an object.
type Headers []Header

type Header struct{ Key, Value string }

func (h Headers) MarshalJSON() ([]byte, error) {
	object := map[string]string{}
	for _, header := range h {
		object[header.Key] = header.Value
	}
	return json.Marshal(object)
}

// Records are those to produce, for the client of that name.
func (a Args) Records(by string) []Record {
	records := make([]Record, a.Int("count"))
	for n := range records {
		i := a.Int("start") + int64(n)
		records[n] = Record{
			Partition: int32(i % a.Int("partitions")),
			Key:       fmt.Sprintf("key-%d", i),
			Value:     fmt.Sprintf("value-%d-%s", i, strings.Repeat("x", int(i%200))),
			Timestamp: a.Int("base") + 1000*i,
			Headers:   Headers{{"n", strconv.FormatInt(i, 10)}, {"by", by}},
		}
	}
	return records
}

// Commit is what a group has committed for a partition.
type Commit struct {
	Offset   int64  `json:"offset"`
	Metadata string `json:"metadata"`
}

// Lag is how far a group is in a partition.
type Lag struct {
	Committed int64 `json:"committed"`
	End       int64 `json:"end"`
	Lag       int64 `json:"lag"`
}

// Offsets are a partition's next offset, by partition.
type Offsets map[int32]int64

// Object is one line of output.
type Object map[string]any

// Print writes it as a line of JSON.
func Print(object any) error {
	return json.NewEncoder(os.Stdout).Encode(object)
}

// PrintProcessed says that a member has processed that record.
func PrintProcessed(partition int32, offset int64) error {
	return Print(Object{"processed": [2]int64{int64(partition), offset}})
}

// PrintCommitted says what a member has committed.
func PrintCommitted(offsets Offsets) error {
	pairs := [][2]int64{}
	for _, partition := range slices.Sorted(maps.Keys(offsets)) {
		pairs = append(pairs, [2]int64{int64(partition), offsets[partition]})
	}
	return Print(Object{"committed": pairs})
}

// PrintSought says which record is at a timestamp; nil: none.
func PrintSought(record *Record) error {
	if record == nil {
		return Print(Object{"offset": nil})
	}
	return Print(Object{"offset": record.Offset, "timestamp": record.Timestamp, "key": record.Key})
}

// PrintUnsupported says that the library cannot do it.
func PrintUnsupported(why string) error {
	return Print(Object{"unsupported": why})
}

// PrintVersion says which version of that module was built in.
func PrintVersion(module string) error {
	info, _ := debug.ReadBuildInfo()
	for _, dependency := range info.Deps {
		if dependency.Path == module {
			return Print(Object{"client": strings.TrimPrefix(dependency.Version, "v")})
		}
	}
	return fmt.Errorf("%s is not built in", module)
}
