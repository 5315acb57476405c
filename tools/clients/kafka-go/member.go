package main

import (
	"context"
	"errors"
	"log"
	"sync"
	"time"

	"millstream/tools/clients/go-common"

	"github.com/segmentio/kafka-go"
)

// member uses ConsumerGroup and a Reader for each partition. A Reader with a GroupID would do all of
// this, but it may commit in a generation what it has read in the one before it: for partitions
// that are another member's by now.
func member(ctx context.Context, args matrix.Args) (err error) {
	group, err := kafka.NewConsumerGroup(kafka.ConsumerGroupConfig{
		ID:                args["group"],
		Brokers:           []string{matrix.Bootstrap()},
		Topics:            []string{args["topic"]},
		SessionTimeout:    6 * time.Second,
		HeartbeatInterval: time.Second,
		StartOffset:       kafka.FirstOffset,
		ErrorLogger:       log.Default(),
	})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, group.Close()) }() // it leaves the group

	ctx, stop := context.WithCancel(ctx)
	defer stop()
	work := &work{topic: args["topic"], left: int(args.Max()), stop: stop}
	for {
		generation, err := group.Next(ctx)
		if ctx.Err() != nil {
			return matrix.Ended(ctx.Err())
		}
		if err != nil {
			log.Print(err)
			continue
		}
		for _, partition := range generation.Assignments[args["topic"]] {
			generation.Start(func(ctx context.Context) {
				if err := work.on(ctx, generation, partition); err != nil {
					log.Printf("partition %d: %v", partition.ID, err)
				}
			})
		}
	}
}

// work is what the partitions of a member have in common: one batch is processed at a time.
type work struct {
	topic string
	stop  func()

	mutex sync.Mutex
	left  int // records to process yet; below 0: as many as there are
}

// on processes a partition until the generation ends. The member joins the next one only when all
// have returned.
func (w *work) on(ctx context.Context, generation *kafka.Generation, partition kafka.PartitionAssignment) (err error) {
	reader := newReader(w.topic, partition.ID)
	defer func() { err = errors.Join(err, reader.Close()) }()
	if err := reader.SetOffset(partition.Offset); err != nil {
		return err
	}
	for {
		batch, err := fetch(ctx, reader)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		if err := w.process(generation, batch); err != nil {
			return err
		}
	}
}

// fetch waits for a message, and takes what comes right behind it.
func fetch(ctx context.Context, reader *kafka.Reader) ([]kafka.Message, error) {
	message, err := reader.FetchMessage(ctx)
	if err != nil {
		return nil, err
	}
	batch := []kafka.Message{message}
	soon, cancel := context.WithTimeout(ctx, 10*time.Millisecond)
	defer cancel()
	for {
		message, err := reader.FetchMessage(soon)
		if err != nil {
			return batch, nil // if it was not the time, the next call meets it again
		}
		batch = append(batch, message)
	}
}

// process prints and commits the batch, or as much of it as is asked for yet.
func (w *work) process(generation *kafka.Generation, batch []kafka.Message) error {
	w.mutex.Lock()
	defer w.mutex.Unlock()
	if w.left >= 0 && w.left < len(batch) {
		batch = batch[:w.left]
	}
	if len(batch) == 0 {
		return nil
	}
	for _, message := range batch {
		if err := matrix.PrintProcessed(int32(message.Partition), message.Offset); err != nil {
			return err
		}
	}
	if w.left > 0 {
		w.left -= len(batch)
	}
	if w.left == 0 {
		defer w.stop()
	}
	partition, next := batch[0].Partition, batch[len(batch)-1].Offset+1
	if err := generation.CommitOffsets(map[string]map[int]int64{w.topic: {partition: next}}); err != nil {
		log.Printf("not committed: %v", err)
		return nil
	}
	return matrix.PrintCommitted(matrix.Offsets{int32(partition): next})
}
