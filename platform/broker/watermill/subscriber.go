package watermill

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"github.com/slipwayhq/slipway/platform/broker"
)

// OpenFunc returns a subscriber of Watermill for a consumer group. It is closed when
// the subscription ends, and asked for again when it ends by itself.
type OpenFunc func(group string) (message.Subscriber, error)

// SubscriberConfig is where messages come from.
type SubscriberConfig struct {
	// Topic is FirstToken when nil. It must be that of the publisher.
	Topic TopicFunc
}

// Subscriber is a broker.Subscriber over those of Watermill.
type Subscriber struct {
	open OpenFunc
	cfg  SubscriberConfig
	log  *zap.Logger
}

// NewSubscriber returns a subscriber. A nil logger is none.
func NewSubscriber(open OpenFunc, cfg SubscriberConfig, log *zap.Logger) *Subscriber {
	if cfg.Topic == nil {
		cfg.Topic = FirstToken
	}
	if log == nil {
		log = zap.NewNop()
	}
	return &Subscriber{open: open, cfg: cfg, log: log.Named("watermill")}
}

// Subscribe implements broker.Subscriber. The subscription's name is the consumer
// group. Its Concurrency and AckWait are those of the broker: how many messages of a
// topic are in hand at once, and for how long, is set where the group is opened.
func (s *Subscriber) Subscribe(ctx context.Context, sub broker.Subscription, handle broker.Handler) error {
	sub.SetDefaults()
	if err := sub.Validate(); err != nil {
		return fmt.Errorf("subscribe: %w", err)
	}
	log := s.log.With(zap.String("consumer", sub.Name))
	for pause := 50 * time.Millisecond; ctx.Err() == nil; pause = min(2*pause, 2*time.Second) {
		began := time.Now()
		if err := s.run(ctx, sub, handle); ctx.Err() == nil {
			log.Warn("interrupted, trying again", zap.Error(err))
			wait(ctx, pause)
		}
		if time.Since(began) > 10*time.Second {
			pause = 50 * time.Millisecond
		}
	}
	return nil
}

// run consumes until ctx or one of the topics ends.
func (s *Subscriber) run(ctx context.Context, sub broker.Subscription, handle broker.Handler) error {
	from, err := s.open(sub.Name)
	if err != nil {
		return fmt.Errorf("open consumer group: %w", err)
	}
	// It outlives ctx: the handler that runs then has its message to settle.
	open, end := context.WithCancel(context.WithoutCancel(ctx))
	defer func() {
		end()
		_ = from.Close()
	}()
	var topics []string
	for _, subject := range sub.Subjects {
		topics = append(topics, s.cfg.Topic(subject))
	}
	slices.Sort(topics)
	group, soft := errgroup.WithContext(ctx)
	for _, topic := range slices.Compact(topics) {
		messages, err := from.Subscribe(open, topic)
		if err != nil {
			err = fmt.Errorf("subscribe to topic %s: %w", topic, err)
			group.Go(func() error { return err })
			break
		}
		group.Go(func() error {
			for {
				select {
				case <-soft.Done():
					return nil
				case m, ok := <-messages:
					if !ok {
						return errors.New("topic " + topic + " ended by itself")
					}
					s.settle(soft, sub, m, handle)
				}
			}
		})
	}
	return group.Wait()
}

// settle hands a message over until it is settled or soft ends. Then it is given
// back.
func (s *Subscriber) settle(soft context.Context, sub broker.Subscription, m *message.Message, handle broker.Handler) {
	d := broker.Delivery{Message: messageOf(m)}
	if !slices.ContainsFunc(sub.Subjects, func(p string) bool { return broker.Matches(p, d.Subject) }) {
		m.Ack()
		return
	}
	for soft.Err() == nil {
		d.Attempt++
		verdict := handle(context.WithoutCancel(soft), d)
		if reason, terminated := verdict.Terminated(); terminated {
			s.log.Warn("message terminated", zap.String("consumer", sub.Name), zap.String("message_id", d.ID), zap.String("reason", reason))
		}
		if verdict.Settled() {
			m.Ack()
			return
		}
		wait(soft, max(verdict.Delay(), 10*time.Millisecond))
	}
	m.Nack()
}

func messageOf(m *message.Message) broker.Message {
	out := broker.Message{
		ID: m.UUID, Subject: m.Metadata[broker.HeaderSubject], Key: m.Metadata[broker.HeaderKey],
		Headers: maps.Clone(m.Metadata), Payload: m.Payload,
	}
	delete(out.Headers, broker.HeaderSubject)
	delete(out.Headers, broker.HeaderKey)
	return out
}

func wait(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
