package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"millstream/tools/clients/go-common"

	"github.com/IBM/sarama"
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
	return matrix.PrintVersion("github.com/IBM/sarama")
}

// newConfig lets the broker's ApiVersions alone limit what is spoken.
func newConfig() *sarama.Config {
	config := sarama.NewConfig()
	config.Version = sarama.MaxVersion
	return config
}

func brokers() []string {
	return []string{matrix.Bootstrap()}
}

// admin makes a command of a function that needs no more than an admin client.
func admin(command func(sarama.ClusterAdmin, matrix.Args) error) func(context.Context, matrix.Args) error {
	return func(_ context.Context, args matrix.Args) error {
		admin, err := sarama.NewClusterAdmin(brokers(), newConfig())
		if err != nil {
			return err
		}
		return errors.Join(command(admin, args), admin.Close())
	}
}

func create(admin sarama.ClusterAdmin, args matrix.Args) error {
	name, value := args.Config()
	detail := sarama.TopicDetail{
		NumPartitions:     int32(args.Int("partitions")),
		ReplicationFactor: -1, // the broker's default
		ConfigEntries:     map[string]*string{name: &value},
	}
	return admin.CreateTopic(args["topic"], &detail, false)
}

func list(admin sarama.ClusterAdmin, _ matrix.Args) error {
	topics, err := admin.ListTopics()
	if err != nil {
		return err
	}
	return matrix.Print(matrix.Object{"topics": slices.Sorted(maps.Keys(topics))})
}

func describe(admin sarama.ClusterAdmin, args matrix.Args) error {
	topics, err := admin.DescribeTopics([]string{args["topic"]})
	if err != nil {
		return err
	}
	if topics[0].Err != sarama.ErrNoError {
		return topics[0].Err
	}
	entries, err := admin.DescribeConfig(sarama.ConfigResource{Type: sarama.TopicResource, Name: args["topic"]})
	if err != nil {
		return err
	}
	configs := map[string]string{}
	for _, entry := range entries {
		configs[entry.Name] = entry.Value
	}
	return matrix.Print(matrix.Object{"partitions": len(topics[0].Partitions), "configs": configs})
}

func alter(admin sarama.ClusterAdmin, args matrix.Args) error {
	if err := admin.CreatePartitions(args["topic"], int32(args.Int("partitions")), nil, false); err != nil {
		return err
	}
	name, value := args.Config()
	changes := map[string]sarama.IncrementalAlterConfigsEntry{
		name: {Operation: sarama.IncrementalAlterConfigsOperationSet, Value: &value},
	}
	return admin.IncrementalAlterConfig(sarama.TopicResource, args["topic"], changes, false)
}

func deleteTopic(admin sarama.ClusterAdmin, args matrix.Args) error {
	return admin.DeleteTopic(args["topic"])
}

var codecs = map[string]sarama.CompressionCodec{
	"none":   sarama.CompressionNone,
	"gzip":   sarama.CompressionGZIP,
	"snappy": sarama.CompressionSnappy,
	"lz4":    sarama.CompressionLZ4,
	"zstd":   sarama.CompressionZSTD,
}

func produce(_ context.Context, args matrix.Args) error {
	config := newConfig()
	config.Producer.Partitioner = sarama.NewManualPartitioner
	config.Producer.Compression = codecs[args["codec"]]
	config.Producer.RequiredAcks = sarama.WaitForAll
	config.Producer.Return.Successes = true // the SyncProducer needs it
	if args["idempotent"] == "1" {
		config.Producer.Idempotent = true
		config.Net.MaxOpenRequests = 1 // it asks for that
	}
	producer, err := sarama.NewSyncProducer(brokers(), config)
	if err != nil {
		return err
	}
	var messages []*sarama.ProducerMessage
	for _, record := range args.Records("sarama") {
		messages = append(messages, toSend(args["topic"], record))
	}
	if err := errors.Join(producer.SendMessages(messages), producer.Close()); err != nil {
		return err
	}
	return matrix.Print(matrix.Object{"acked": len(messages)})
}

func toSend(topic string, record matrix.Record) *sarama.ProducerMessage {
	var headers []sarama.RecordHeader
	for _, header := range record.Headers {
		headers = append(headers, sarama.RecordHeader{Key: []byte(header.Key), Value: []byte(header.Value)})
	}
	return &sarama.ProducerMessage{
		Topic:     topic,
		Partition: record.Partition,
		Key:       sarama.StringEncoder(record.Key),
		Value:     sarama.StringEncoder(record.Value),
		Timestamp: time.UnixMilli(record.Timestamp),
		Headers:   headers,
	}
}

func consume(ctx context.Context, args matrix.Args) error {
	return withConsumer(func(client sarama.Client, consumer sarama.Consumer) error {
		ends := matrix.Offsets{}
		for _, partition := range args.Partitions() {
			end, err := client.GetOffset(args["topic"], partition, sarama.OffsetNewest)
			if err != nil {
				return err
			}
			ends[partition] = end
		}
		for _, partition := range args.Partitions() {
			start, err := client.GetOffset(args["topic"], partition, sarama.OffsetOldest)
			if err != nil {
				return err
			}
			err = read(ctx, consumer, args["topic"], partition, start, ends[partition], func(record matrix.Record) error {
				return matrix.Print(record)
			})
			if err != nil {
				return err
			}
		}
		return nil
	})
}

func withConsumer(use func(sarama.Client, sarama.Consumer) error) error {
	config := newConfig()
	config.Consumer.Return.Errors = true
	client, err := sarama.NewClient(brokers(), config)
	if err != nil {
		return err
	}
	consumer, err := sarama.NewConsumerFromClient(client)
	if err != nil {
		return errors.Join(err, client.Close())
	}
	return errors.Join(use(client, consumer), consumer.Close(), client.Close())
}

// read calls each for the records of a partition from start up to (not with) end.
func read(
	ctx context.Context, consumer sarama.Consumer, topic string, partition int32, start, end int64,
	each func(matrix.Record) error,
) (err error) {
	if start >= end {
		return nil
	}
	reader, err := consumer.ConsumePartition(topic, partition, start)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, reader.Close()) }()
	for next := start; next < end; {
		select {
		case message := <-reader.Messages():
			if err := each(received(message)); err != nil {
				return err
			}
			next = message.Offset + 1
		case err := <-reader.Errors():
			return err
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

func received(message *sarama.ConsumerMessage) matrix.Record {
	var headers matrix.Headers
	for _, header := range message.Headers {
		headers = append(headers, matrix.Header{Key: string(header.Key), Value: string(header.Value)})
	}
	return matrix.Record{
		Partition: message.Partition,
		Offset:    message.Offset,
		Key:       string(message.Key),
		Value:     string(message.Value),
		Timestamp: message.Timestamp.UnixMilli(),
		Headers:   headers,
	}
}

func commit(admin sarama.ClusterAdmin, args matrix.Args) error {
	topic, partition := args["topic"], int32(args.Int("partition"))
	offset := sarama.OffsetAndMetadata{
		Offset: args.Int("offset"), Metadata: args["metadata"], LeaderEpoch: -1,
	}
	offsets := map[string]map[int32]sarama.OffsetAndMetadata{topic: {partition: offset}}
	response, err := admin.AlterConsumerGroupOffsets(args["group"], offsets, nil)
	if err != nil {
		return err
	}
	if refused := response.Errors[topic][partition]; refused != sarama.ErrNoError {
		return refused
	}
	return nil
}

func committed(admin sarama.ClusterAdmin, args matrix.Args) error {
	commits, err := commits(admin, args["group"], args["topic"], args.Partitions())
	if err != nil {
		return err
	}
	return matrix.Print(commits)
}

// commits are the group's, without partitions that have none.
func commits(
	admin sarama.ClusterAdmin, group, topic string, partitions []int32,
) (map[int32]matrix.Commit, error) {
	response, err := admin.ListConsumerGroupOffsets(group, map[string][]int32{topic: partitions})
	if err != nil {
		return nil, err
	}
	commits := map[int32]matrix.Commit{}
	for _, partition := range partitions {
		block := response.GetBlock(topic, partition)
		if block == nil {
			return nil, fmt.Errorf("no answer for partition %d", partition)
		}
		if block.Err != sarama.ErrNoError {
			return nil, block.Err
		}
		if block.Offset >= 0 {
			commits[partition] = matrix.Commit{Offset: block.Offset, Metadata: block.Metadata}
		}
	}
	return commits, nil
}

func seek(ctx context.Context, args matrix.Args) error {
	return withConsumer(func(client sarama.Client, consumer sarama.Consumer) error {
		offset, err := client.GetOffset(args["topic"], 0, args.Int("timestamp"))
		if err != nil {
			return err
		}
		if offset == -1 {
			return matrix.PrintSought(nil)
		}
		return read(ctx, consumer, args["topic"], 0, offset, offset+1, func(record matrix.Record) error {
			return matrix.PrintSought(&record)
		})
	})
}

func lag(admin sarama.ClusterAdmin, args matrix.Args) error {
	commits, err := commits(admin, args["group"], args["topic"], args.Partitions())
	if err != nil {
		return err
	}
	wanted := map[int32]int64{}
	for partition := range commits {
		wanted[partition] = sarama.OffsetNewest
	}
	ends, err := admin.ListOffsets(map[string]map[int32]int64{args["topic"]: wanted}, nil)
	if err != nil {
		return err
	}
	lags := map[int32]matrix.Lag{}
	for partition, commit := range commits {
		end := ends[args["topic"]][partition]
		if end.Err != nil && end.Err != sarama.ErrNoError {
			return end.Err
		}
		lags[partition] = matrix.Lag{Committed: commit.Offset, End: end.Offset, Lag: end.Offset - commit.Offset}
	}
	return matrix.Print(lags)
}
