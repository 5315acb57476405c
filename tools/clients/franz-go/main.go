package main

import (
	"context"
	"fmt"
	"log"
	"maps"
	"time"

	"millstream/tools/clients/go-common"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

func main() {
	matrix.Run(matrix.Commands{
		"version":   version,
		"create":    admin(create),
		"list":      admin(list),
		"describe":  admin(describe),
		"alter":     admin(alter),
		"delete":    admin(deleteTopic),
		"produce":   produce,
		"consume":   consume,
		"member":    member,
		"commit":    admin(commit),
		"committed": admin(committed),
		"seek":      seek,
		"lag":       admin(lag),
	})
}

func version(context.Context, matrix.Args) error {
	return matrix.PrintVersion("github.com/twmb/franz-go")
}

func newClient(options ...kgo.Opt) (*kgo.Client, error) {
	return kgo.NewClient(append(options, kgo.SeedBrokers(matrix.Bootstrap()))...)
}

// admin makes a command of a function that needs no more than an admin client.
func admin(command func(context.Context, *kadm.Client, matrix.Args) error) func(context.Context, matrix.Args) error {
	return func(ctx context.Context, args matrix.Args) error {
		client, err := newClient()
		if err != nil {
			return err
		}
		defer client.Close()
		return command(ctx, kadm.NewClient(client), args)
	}
}

func create(ctx context.Context, admin *kadm.Client, args matrix.Args) error {
	name, value := args.Config()
	configs := map[string]*string{name: &value}
	const defaultReplicas = -1
	_, err := admin.CreateTopic(ctx, int32(args.Int("partitions")), defaultReplicas, configs, args["topic"])
	return err
}

func list(ctx context.Context, admin *kadm.Client, _ matrix.Args) error {
	topics, err := admin.ListTopics(ctx)
	if err != nil {
		return err
	}
	return matrix.Print(matrix.Object{"topics": topics.Names()})
}

func describe(ctx context.Context, admin *kadm.Client, args matrix.Args) error {
	topics, err := admin.ListTopics(ctx, args["topic"])
	if err == nil {
		err = topics.Error()
	}
	if err != nil {
		return err
	}
	resources, err := admin.DescribeTopicConfigs(ctx, args["topic"])
	if err != nil {
		return err
	}
	resource, err := resources.On(args["topic"], nil)
	if err == nil {
		err = resource.Err
	}
	if err != nil {
		return err
	}
	configs := map[string]string{}
	for _, config := range resource.Configs {
		configs[config.Key] = config.MaybeValue()
	}
	partitions := len(topics[args["topic"]].Partitions)
	return matrix.Print(matrix.Object{"partitions": partitions, "configs": configs})
}

func alter(ctx context.Context, admin *kadm.Client, args matrix.Args) error {
	grown, err := admin.UpdatePartitions(ctx, int(args.Int("partitions")), args["topic"])
	if err == nil {
		err = grown.Error()
	}
	if err != nil {
		return err
	}
	name, value := args.Config()
	change := kadm.AlterConfig{Op: kadm.SetConfig, Name: name, Value: &value}
	altered, err := admin.AlterTopicConfigs(ctx, []kadm.AlterConfig{change}, args["topic"])
	if err != nil {
		return err
	}
	_, err = altered.On(args["topic"], func(r *kadm.AlterConfigsResponse) error { return r.Err })
	return err
}

func deleteTopic(ctx context.Context, admin *kadm.Client, args matrix.Args) error {
	_, err := admin.DeleteTopic(ctx, args["topic"])
	return err
}

var codecs = map[string]kgo.CompressionCodec{
	"none":   kgo.NoCompression(),
	"gzip":   kgo.GzipCompression(),
	"snappy": kgo.SnappyCompression(),
	"lz4":    kgo.Lz4Compression(),
	"zstd":   kgo.ZstdCompression(),
}

func produce(ctx context.Context, args matrix.Args) error {
	options := []kgo.Opt{
		kgo.DefaultProduceTopic(args["topic"]),
		kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.ProducerBatchCompression(codecs[args["codec"]]),
		kgo.RequiredAcks(kgo.AllISRAcks()),
	}
	if args["idempotent"] == "0" {
		options = append(options, kgo.DisableIdempotentWrite())
	}
	client, err := newClient(options...)
	if err != nil {
		return err
	}
	defer client.Close()

	var records []*kgo.Record
	for _, record := range args.Records("franz-go") {
		records = append(records, toSend(record))
	}
	if err := client.ProduceSync(ctx, records...).FirstErr(); err != nil {
		return err
	}
	return matrix.Print(matrix.Object{"acked": len(records)})
}

func toSend(record matrix.Record) *kgo.Record {
	var headers []kgo.RecordHeader
	for _, header := range record.Headers {
		headers = append(headers, kgo.RecordHeader{Key: header.Key, Value: []byte(header.Value)})
	}
	return &kgo.Record{
		Partition: record.Partition,
		Key:       []byte(record.Key),
		Value:     []byte(record.Value),
		Timestamp: time.UnixMilli(record.Timestamp),
		Headers:   headers,
	}
}

func consume(ctx context.Context, args matrix.Args) error {
	client, err := newClient()
	if err != nil {
		return err
	}
	defer client.Close()
	starts, err := listed(kadm.NewClient(client).ListStartOffsets(ctx, args["topic"]))
	if err != nil {
		return err
	}
	ends, err := listed(kadm.NewClient(client).ListEndOffsets(ctx, args["topic"]))
	if err != nil {
		return err
	}
	maps.DeleteFunc(ends, func(partition int32, end int64) bool { return starts[partition] == end })

	from := map[int32]kgo.Offset{}
	for partition := range ends {
		from[partition] = kgo.NewOffset().At(starts[partition])
	}
	client.AddConsumePartitions(map[string]map[int32]kgo.Offset{args["topic"]: from})
	for len(ends) > 0 {
		fetches := client.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			return err
		}
		for _, record := range fetches.Records() {
			end, wanted := ends[record.Partition]
			if !wanted {
				continue
			}
			if err := matrix.Print(received(record)); err != nil {
				return err
			}
			if record.Offset+1 >= end {
				delete(ends, record.Partition)
			}
		}
	}
	return nil
}

// listed makes the offsets of the one topic that was asked for into a map by partition.
func listed(topics kadm.ListedOffsets, err error) (matrix.Offsets, error) {
	if err == nil {
		err = topics.Error()
	}
	if err != nil {
		return nil, err
	}
	offsets := matrix.Offsets{}
	topics.Each(func(o kadm.ListedOffset) { offsets[o.Partition] = o.Offset })
	return offsets, nil
}

func received(record *kgo.Record) matrix.Record {
	var headers matrix.Headers
	for _, header := range record.Headers {
		headers = append(headers, matrix.Header{Key: header.Key, Value: string(header.Value)})
	}
	return matrix.Record{
		Partition: record.Partition,
		Offset:    record.Offset,
		Key:       string(record.Key),
		Value:     string(record.Value),
		Timestamp: record.Timestamp.UnixMilli(),
		Headers:   headers,
	}
}

// member keeps its partitions from a poll until it has committed what it polled
// (BlockRebalanceOnPoll), so whatever it printed is committed when it is told to stop.
func member(ctx context.Context, args matrix.Args) error {
	client, err := newClient(
		kgo.ConsumerGroup(args["group"]),
		kgo.ConsumeTopics(args["topic"]),
		kgo.Balancers(kgo.CooperativeStickyBalancer()),
		kgo.SessionTimeout(6*time.Second),
		kgo.HeartbeatInterval(time.Second),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.DisableAutoCommit(),
		kgo.BlockRebalanceOnPoll(),
	)
	if err != nil {
		return err
	}
	defer client.CloseAllowingRebalance() // it leaves the group

	for left := int(args.Max()); left != 0; {
		fetches := client.PollRecords(ctx, max(left, 0))
		if err := ctx.Err(); err != nil {
			return matrix.Ended(err)
		}
		fetches.EachError(func(topic string, partition int32, err error) {
			log.Printf("%s %d: %v", topic, partition, err)
		})
		if left > 0 {
			left -= fetches.NumRecords()
		}
		if err := process(client, fetches.Records()); err != nil {
			return err
		}
		client.AllowRebalance()
	}
	return nil
}

// process also sees to the end what was polled when the signal came: its context is its own.
func process(client *kgo.Client, records []*kgo.Record) error {
	if len(records) == 0 {
		return nil
	}
	next := matrix.Offsets{}
	for _, record := range records {
		if err := matrix.PrintProcessed(record.Partition, record.Offset); err != nil {
			return err
		}
		next[record.Partition] = record.Offset + 1
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	if err := client.CommitRecords(ctx, records...); err != nil {
		log.Printf("not committed: %v", err)
		return nil
	}
	return matrix.PrintCommitted(next)
}

func commit(ctx context.Context, admin *kadm.Client, args matrix.Args) error {
	offsets := kadm.Offsets{}
	offsets.Add(kadm.Offset{
		Topic:       args["topic"],
		Partition:   int32(args.Int("partition")),
		At:          args.Int("offset"),
		LeaderEpoch: -1,
		Metadata:    args["metadata"],
	})
	return admin.CommitAllOffsets(ctx, args["group"], offsets)
}

func committed(ctx context.Context, admin *kadm.Client, args matrix.Args) error {
	offsets, err := admin.FetchOffsets(ctx, args["group"])
	if err == nil {
		err = offsets.Error()
	}
	if err != nil {
		return err
	}
	commits := map[int32]matrix.Commit{}
	for partition, offset := range offsets[args["topic"]] {
		commits[partition] = matrix.Commit{Offset: offset.At, Metadata: offset.Metadata}
	}
	return matrix.Print(commits)
}

func seek(ctx context.Context, args matrix.Args) error {
	client, err := newClient()
	if err != nil {
		return err
	}
	defer client.Close()
	topics, err := kadm.NewClient(client).ListOffsetsAfterMilli(ctx, args.Int("timestamp"), args["topic"])
	if err == nil {
		err = topics.Error()
	}
	if err != nil {
		return err
	}
	found, ok := topics.Lookup(args["topic"], 0)
	if !ok {
		return fmt.Errorf("%s has no partition 0", args["topic"])
	}
	if found.Timestamp == -1 { // then the offset is the end
		return matrix.PrintSought(nil)
	}

	from := map[int32]kgo.Offset{0: kgo.NewOffset().At(found.Offset)}
	client.AddConsumePartitions(map[string]map[int32]kgo.Offset{args["topic"]: from})
	fetches := client.PollRecords(ctx, 1)
	if err := fetches.Err(); err != nil {
		return err
	}
	record := received(fetches.Records()[0])
	return matrix.PrintSought(&record)
}

func lag(ctx context.Context, admin *kadm.Client, args matrix.Args) error {
	groups, err := admin.Lag(ctx, args["group"])
	if err != nil {
		return err
	}
	group := groups[args["group"]]
	if err := group.Error(); err != nil {
		return err
	}
	lags := map[int32]matrix.Lag{}
	for partition, lag := range group.Lag[args["topic"]] {
		if lag.Err != nil {
			return lag.Err
		}
		if lag.Commit.At >= 0 { // there is one
			lags[partition] = matrix.Lag{Committed: lag.Commit.At, End: lag.End.Offset, Lag: lag.Lag}
		}
	}
	return matrix.Print(lags)
}
