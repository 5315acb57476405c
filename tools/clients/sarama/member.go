package main

import (
	"context"
	"errors"
	"log"
	"sync"
	"time"

	"millstream/tools/clients/go-common"

	"github.com/IBM/sarama"
)

func member(ctx context.Context, args matrix.Args) error {
	config := newConfig()
	config.Consumer.Group.Session.Timeout = 6 * time.Second
	config.Consumer.Group.Heartbeat.Interval = time.Second
	config.Consumer.Group.Rebalance.GroupStrategies = []sarama.BalanceStrategy{sarama.NewBalanceStrategySticky()}
	config.Consumer.Offsets.Initial = sarama.OffsetOldest
	config.Consumer.Offsets.AutoCommit.Enable = false
	config.Consumer.Return.Errors = true

	admin, err := sarama.NewClusterAdmin(brokers(), config)
	if err != nil {
		return err
	}
	defer admin.Close()
	group, err := sarama.NewConsumerGroup(brokers(), args["group"], config)
	if err != nil {
		return err
	}
	go func() {
		for err := range group.Errors() {
			log.Print(err)
		}
	}()
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	handler := &handler{admin: admin, group: args["group"], left: args.Max(), stop: stop}
	return errors.Join(takePart(ctx, group, args["topic"], handler), group.Close())
}

// takePart goes through one session of the group after the other, until it is told to stop.
func takePart(ctx context.Context, group sarama.ConsumerGroup, topic string, handler sarama.ConsumerGroupHandler) error {
	for ctx.Err() == nil {
		if err := group.Consume(ctx, []string{topic}, handler); err != nil {
			log.Print(err)
			time.Sleep(100 * time.Millisecond)
		}
	}
	return matrix.Ended(ctx.Err())
}

// handler gets the records of each partition in a goroutine of its own, and works on one batch at a
// time.
type handler struct {
	admin sarama.ClusterAdmin
	group string
	stop  func()

	mutex sync.Mutex
	left  int64 // records to process yet; below 0: as many as there are
}

func (h *handler) Setup(sarama.ConsumerGroupSession) error   { return nil }
func (h *handler) Cleanup(sarama.ConsumerGroupSession) error { return nil }

func (h *handler) ConsumeClaim(session sarama.ConsumerGroupSession, claim sarama.ConsumerGroupClaim) error {
	for {
		select {
		case message, open := <-claim.Messages():
			if !open {
				return nil
			}
			batch := append([]*sarama.ConsumerMessage{message}, waiting(claim)...)
			if err := h.process(session, batch); err != nil {
				return err
			}
		case <-session.Context().Done():
			return nil
		}
	}
}

// waiting are the messages that are there already.
func waiting(claim sarama.ConsumerGroupClaim) (messages []*sarama.ConsumerMessage) {
	for {
		select {
		case message, open := <-claim.Messages():
			if !open {
				return messages
			}
			messages = append(messages, message)
		default:
			return messages
		}
	}
}

// process prints and commits the batch, or as much of it as is asked for yet.
func (h *handler) process(session sarama.ConsumerGroupSession, batch []*sarama.ConsumerMessage) error {
	h.mutex.Lock()
	defer h.mutex.Unlock()
	if h.left >= 0 && h.left < int64(len(batch)) {
		batch = batch[:h.left]
	}
	if len(batch) == 0 || session.Context().Err() != nil {
		return nil
	}
	for _, message := range batch {
		if err := matrix.PrintProcessed(message.Partition, message.Offset); err != nil {
			return err
		}
	}
	last := batch[len(batch)-1]
	session.MarkMessage(last, "")
	session.Commit()
	if h.left > 0 {
		h.left -= int64(len(batch))
	}
	if h.left == 0 {
		h.stop()
	}
	return h.printCommitted(last.Topic, last.Partition, last.Offset+1)
}

// printCommitted asks what is committed, for Commit does not tell whether it was accepted.
func (h *handler) printCommitted(topic string, partition int32, next int64) error {
	commits, err := commits(h.admin, h.group, topic, []int32{partition})
	if err != nil {
		return err
	}
	if commits[partition].Offset < next {
		return nil
	}
	return matrix.PrintCommitted(matrix.Offsets{partition: next})
}
