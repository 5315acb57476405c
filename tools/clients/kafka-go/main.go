package main

import (
	"context"
	"errors"
	"time"

	"millstream/tools/clients/go-common"

	"github.com/segmentio/kafka-go"
)

func main() {
	matrix.Run(matrix.Commands{
		"version":   version,
		"create":    create,
		"list":      list,
		"describe":  describe,
		"alter":     alter,
		"delete":    deleteTopic,
		"produce":   produce,
		"consume":   consume,
		"member":    member,
		"commit":    commit,
		"committed": committed,
		"seek":      seek,
		"lag":       lag,
	})
}

// client is what kafka-go offers beside its Reader and Writer: a method for each of Kafka's APIs.
var client = &kafka.Client{Addr: kafka.TCP(matrix.Bootstrap())}

func version(context.Context, matrix.Args) error {
	return matrix.PrintVersion("github.com/segmentio/kafka-go")
}

func create(ctx context.Context, args matrix.Args) error {
	name, value := args.Config()
	topic := kafka.TopicConfig{
		Topic:             args["topic"],
		NumPartitions:     int(args.Int("partitions")),
		ReplicationFactor: -1, // the broker's default
		ConfigEntries:     []kafka.ConfigEntry{{ConfigName: name, ConfigValue: value}},
	}
	response, err := client.CreateTopics(ctx, &kafka.CreateTopicsRequest{Topics: []kafka.TopicConfig{topic}})
	if err != nil {
		return err
	}
	return response.Errors[args["topic"]]
}

func list(ctx context.Context, _ matrix.Args) error {
	metadata, err := client.Metadata(ctx, &kafka.MetadataRequest{})
	if err != nil {
		return err
	}
	names := []string{}
	for _, topic := range metadata.Topics {
		names = append(names, topic.Name)
	}
	return matrix.Print(matrix.Object{"topics": names})
}

func describe(ctx context.Context, args matrix.Args) error {
	metadata, err := client.Metadata(ctx, &kafka.MetadataRequest{Topics: []string{args["topic"]}})
	if err == nil {
		err = metadata.Topics[0].Error
	}
	if err != nil {
		return err
	}
	resource := kafka.DescribeConfigRequestResource{
		ResourceType: kafka.ResourceTypeTopic, ResourceName: args["topic"],
	}
	described, err := client.DescribeConfigs(ctx, &kafka.DescribeConfigsRequest{
		Resources: []kafka.DescribeConfigRequestResource{resource},
	})
	if err == nil {
		err = described.Resources[0].Error
	}
	if err != nil {
		return err
	}
	configs := map[string]string{}
	for _, entry := range described.Resources[0].ConfigEntries {
		configs[entry.ConfigName] = entry.ConfigValue
	}
	partitions := len(metadata.Topics[0].Partitions)
	return matrix.Print(matrix.Object{"partitions": partitions, "configs": configs})
}

func alter(ctx context.Context, args matrix.Args) error {
	growth := kafka.TopicPartitionsConfig{Name: args["topic"], Count: int32(args.Int("partitions"))}
	grown, err := client.CreatePartitions(ctx, &kafka.CreatePartitionsRequest{
		Topics: []kafka.TopicPartitionsConfig{growth},
	})
	if err == nil {
		err = grown.Errors[args["topic"]]
	}
	if err != nil {
		return err
	}
	name, value := args.Config()
	change := kafka.IncrementalAlterConfigsRequestConfig{
		Name: name, Value: value, ConfigOperation: kafka.ConfigOperationSet,
	}
	altered, err := client.IncrementalAlterConfigs(ctx, &kafka.IncrementalAlterConfigsRequest{
		Resources: []kafka.IncrementalAlterConfigsRequestResource{{
			ResourceType: kafka.ResourceTypeTopic,
			ResourceName: args["topic"],
			Configs:      []kafka.IncrementalAlterConfigsRequestConfig{change},
		}},
	})
	if err != nil {
		return err
	}
	return altered.Resources[0].Error
}

func deleteTopic(ctx context.Context, args matrix.Args) error {
	response, err := client.DeleteTopics(ctx, &kafka.DeleteTopicsRequest{Topics: []string{args["topic"]}})
	if err != nil {
		return err
	}
	return response.Errors[args["topic"]]
}

var codecs = map[string]kafka.Compression{
	"none":   0,
	"gzip":   kafka.Gzip,
	"snappy": kafka.Snappy,
	"lz4":    kafka.Lz4,
	"zstd":   kafka.Zstd,
}

func produce(ctx context.Context, args matrix.Args) error {
	if args["idempotent"] == "1" {
		return matrix.PrintUnsupported("no idempotent producer")
	}
	writer := &kafka.Writer{
		Addr:         kafka.TCP(matrix.Bootstrap()),
		Topic:        args["topic"],
		Balancer:     kafka.BalancerFunc(partitionOf),
		Compression:  codecs[args["codec"]],
		RequiredAcks: kafka.RequireAll,
		BatchTimeout: 10 * time.Millisecond,
	}
	var messages []kafka.Message
	for _, record := range args.Records("kafka-go") {
		messages = append(messages, toSend(record))
	}
	if err := errors.Join(writer.WriteMessages(ctx, messages...), writer.Close()); err != nil {
		return err
	}
	return matrix.Print(matrix.Object{"acked": len(messages)})
}

// partitionOf is the partition that toSend has left with the message: the Writer allows none to be
// set on it.
func partitionOf(message kafka.Message, _ ...int) int {
	return message.WriterData.(int)
}

func toSend(record matrix.Record) kafka.Message {
	var headers []kafka.Header
	for _, header := range record.Headers {
		headers = append(headers, kafka.Header{Key: header.Key, Value: []byte(header.Value)})
	}
	return kafka.Message{
		WriterData: int(record.Partition),
		Key:        []byte(record.Key),
		Value:      []byte(record.Value),
		Time:       time.UnixMilli(record.Timestamp),
		Headers:    headers,
	}
}

func consume(ctx context.Context, args matrix.Args) error {
	bounds, err := offsets(ctx, args["topic"], args.Partitions(), kafka.FirstOffsetOf, kafka.LastOffsetOf)
	if err != nil {
		return err
	}
	for _, partition := range bounds {
		err := read(ctx, args["topic"], partition.Partition, partition.FirstOffset, partition.LastOffset,
			func(record matrix.Record) error { return matrix.Print(record) })
		if err != nil {
			return err
		}
	}
	return nil
}

// offsets asks for those offsets of each partition.
func offsets(
	ctx context.Context, topic string, partitions []int32, asked ...func(int) kafka.OffsetRequest,
) ([]kafka.PartitionOffsets, error) {
	var requests []kafka.OffsetRequest
	for _, partition := range partitions {
		for _, request := range asked {
			requests = append(requests, request(int(partition)))
		}
	}
	response, err := client.ListOffsets(ctx, &kafka.ListOffsetsRequest{
		Topics: map[string][]kafka.OffsetRequest{topic: requests},
	})
	if err != nil {
		return nil, err
	}
	for _, partition := range response.Topics[topic] {
		if partition.Error != nil {
			return nil, partition.Error
		}
	}
	return response.Topics[topic], nil
}

// read calls each for the records of a partition from start up to (not with) end.
func read(
	ctx context.Context, topic string, partition int, start, end int64, each func(matrix.Record) error,
) (err error) {
	reader := newReader(topic, partition)
	defer func() { err = errors.Join(err, reader.Close()) }()
	if err := reader.SetOffset(start); err != nil {
		return err
	}
	for next := start; next < end; {
		message, err := reader.ReadMessage(ctx)
		if err != nil {
			return err
		}
		if err := each(received(message)); err != nil {
			return err
		}
		next = message.Offset + 1
	}
	return nil
}

func newReader(topic string, partition int) *kafka.Reader {
	return kafka.NewReader(kafka.ReaderConfig{
		Brokers:   []string{matrix.Bootstrap()},
		Topic:     topic,
		Partition: partition,
		MaxWait:   500 * time.Millisecond, // Close waits as long
	})
}

func received(message kafka.Message) matrix.Record {
	var headers matrix.Headers
	for _, header := range message.Headers {
		headers = append(headers, matrix.Header{Key: header.Key, Value: string(header.Value)})
	}
	return matrix.Record{
		Partition: int32(message.Partition),
		Offset:    message.Offset,
		Key:       string(message.Key),
		Value:     string(message.Value),
		Timestamp: message.Time.UnixMilli(),
		Headers:   headers,
	}
}

func commit(ctx context.Context, args matrix.Args) error {
	response, err := client.OffsetCommit(ctx, &kafka.OffsetCommitRequest{
		GroupID:      args["group"],
		GenerationID: -1, // of no member
		Topics: map[string][]kafka.OffsetCommit{args["topic"]: {{
			Partition: int(args.Int("partition")),
			Offset:    args.Int("offset"),
			Metadata:  args["metadata"],
		}}},
	})
	if err != nil {
		return err
	}
	return response.Topics[args["topic"]][0].Error
}

func committed(ctx context.Context, args matrix.Args) error {
	commits, err := commits(ctx, args)
	if err != nil {
		return err
	}
	return matrix.Print(commits)
}

// commits are the group's, without partitions that have none.
func commits(ctx context.Context, args matrix.Args) (map[int32]matrix.Commit, error) {
	var partitions []int
	for _, partition := range args.Partitions() {
		partitions = append(partitions, int(partition))
	}
	response, err := client.OffsetFetch(ctx, &kafka.OffsetFetchRequest{
		GroupID: args["group"],
		Topics:  map[string][]int{args["topic"]: partitions},
	})
	if err == nil {
		err = response.Error
	}
	if err != nil {
		return nil, err
	}
	commits := map[int32]matrix.Commit{}
	for _, partition := range response.Topics[args["topic"]] {
		if partition.Error != nil {
			return nil, partition.Error
		}
		if partition.CommittedOffset >= 0 {
			commits[int32(partition.Partition)] = matrix.Commit{
				Offset: partition.CommittedOffset, Metadata: partition.Metadata,
			}
		}
	}
	return commits, nil
}

func seek(ctx context.Context, args matrix.Args) error {
	at := func(partition int) kafka.OffsetRequest {
		return kafka.TimeOffsetOf(partition, time.UnixMilli(args.Int("timestamp")))
	}
	found, err := offsets(ctx, args["topic"], []int32{0}, at)
	if err != nil {
		return err
	}
	for offset := range found[0].Offsets { // one, and -1 if there is none
		if offset < 0 {
			break
		}
		return read(ctx, args["topic"], 0, offset, offset+1, func(record matrix.Record) error {
			return matrix.PrintSought(&record)
		})
	}
	return matrix.PrintSought(nil)
}

func lag(ctx context.Context, args matrix.Args) error {
	commits, err := commits(ctx, args)
	if err != nil {
		return err
	}
	ends, err := offsets(ctx, args["topic"], args.Partitions(), kafka.LastOffsetOf)
	if err != nil {
		return err
	}
	lags := map[int32]matrix.Lag{}
	for _, partition := range ends {
		if commit, found := commits[int32(partition.Partition)]; found {
			lags[int32(partition.Partition)] = matrix.Lag{
				Committed: commit.Offset,
				End:       partition.LastOffset,
				Lag:       partition.LastOffset - commit.Offset,
			}
		}
	}
	return matrix.Print(lags)
}
