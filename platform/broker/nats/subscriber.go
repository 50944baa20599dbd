package nats

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/zap"

	"github.com/slipwayhq/slipway/platform/broker"
)

// SubscriberConfig is where messages come from.
type SubscriberConfig struct {
	// Stream is the name of the stream. Empty has the server find the one that
	// stores the subscription's first subject.
	Stream string
	// Takeover is after how long without a sign of life another process gets the
	// messages, about. 0 means 2 seconds, which is the least. It must be the same in
	// all processes.
	Takeover time.Duration
}

// Subscriber is a broker.Subscriber on durable consumers.
type Subscriber struct {
	conn *Conn
	cfg  SubscriberConfig
}

// NewSubscriber returns a subscriber.
func NewSubscriber(conn *Conn, cfg SubscriberConfig) *Subscriber {
	cfg.Takeover = max(cfg.Takeover, 2*time.Second)
	return &Subscriber{conn: conn, cfg: cfg}
}

// group is the one priority group of a consumer: its policy gives all messages to
// one of the processes that ask.
const group = "active"

// Subscribe implements broker.Subscriber. The durable consumer is created if it is
// not there, and changed to what the subscription says.
func (s *Subscriber) Subscribe(ctx context.Context, sub broker.Subscription, handle broker.Handler) error {
	sub.SetDefaults()
	if err := sub.Validate(); err != nil {
		return fmt.Errorf("subscribe: %w", err)
	}
	log := s.conn.log.With(zap.String("consumer", sub.Name))
	complaints := complaints{log: log}
	for pause := 50 * time.Millisecond; ctx.Err() == nil; pause = min(2*pause, 2*time.Second) {
		began := time.Now()
		err := s.run(ctx, sub, complaints.over, handle)
		switch {
		case ctx.Err() != nil:
			continue
		case errors.Is(err, errTaken):
			log.Info("begins again with what is not settled", zap.Error(err))
		default:
			complaints.warn("interrupted, trying again", err)
		}
		if time.Since(began) > 10*time.Second {
			pause = 50 * time.Millisecond
		}
		timer := time.NewTimer(pause)
		select {
		case <-ctx.Done():
		case <-timer.C:
		}
		timer.Stop()
	}
	return nil
}

// consumer declares the durable consumer.
func (s *Subscriber) consumer(ctx context.Context, sub broker.Subscription) (stream string, c jetstream.Consumer, err error) {
	if stream = s.cfg.Stream; stream == "" {
		if stream, err = s.conn.js.StreamNameBySubject(ctx, sub.Subjects[0]); err != nil {
			return "", nil, fmt.Errorf("find stream of %s: %w", sub.Subjects[0], err)
		}
	}
	c, err = s.conn.js.CreateOrUpdateConsumer(ctx, stream, jetstream.ConsumerConfig{
		Durable: sub.Name, FilterSubjects: sub.Subjects, DeliverPolicy: jetstream.DeliverAllPolicy,
		AckPolicy: jetstream.AckExplicitPolicy, AckWait: sub.AckWait, MaxAckPending: 16 * sub.Concurrency,
		PriorityPolicy: jetstream.PriorityPolicyPinned, PriorityGroups: []string{group}, PinnedTTL: pinTTL(s.cfg.Takeover),
	})
	if err != nil {
		return "", nil, fmt.Errorf("declare consumer %s of stream %s: %w", sub.Name, stream, err)
	}
	return stream, c, nil
}
