package nats

import (
	"cmp"
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
	// messages. 0 means 2 seconds.
	Takeover time.Duration
}

// Subscriber is a broker.Subscriber on durable consumers.
type Subscriber struct {
	conn *Conn
	cfg  SubscriberConfig
}

// NewSubscriber returns a subscriber.
func NewSubscriber(conn *Conn, cfg SubscriberConfig) *Subscriber {
	cfg.Takeover = cmp.Or(cfg.Takeover, 2*time.Second)
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
	for pause := 50 * time.Millisecond; ctx.Err() == nil; pause = min(2*pause, 2*time.Second) {
		began := time.Now()
		err := s.session(ctx, sub, handle)
		switch {
		case ctx.Err() != nil:
			continue
		case errors.Is(err, errTaken):
			log.Info("begins again with what is not settled", zap.Error(err))
		default:
			log.Warn("interrupted, trying again", zap.Error(err))
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

// errTaken ends a session: messages have gone to another process, or got lost on
// their way here, so that what comes next may be later than what is not settled.
var errTaken = errors.New("messages are in other hands")

// session consumes until ctx ends or something is wrong. The order holds because a
// session takes over only from the first message that is not settled, and ends as
// soon as it does not see every delivery: the server numbers them.
func (s *Subscriber) session(ctx context.Context, sub broker.Subscription, handle broker.Handler) error {
	stream, consumer, err := s.consumer(ctx, sub)
	if err != nil {
		return err
	}
	if abandoned(consumer.CachedInfo()) {
		if err := s.rewind(ctx, stream, sub.Name); err != nil {
			return err
		}
	}
	iter, err := consumer.Messages(jetstream.PullPriorityGroup(group), jetstream.PullMaxMessages(4*sub.Concurrency),
		jetstream.PullExpiry(max(s.cfg.Takeover/2, time.Second)), jetstream.PullHeartbeat(max(s.cfg.Takeover/4, 500*time.Millisecond)))
	if err != nil {
		return fmt.Errorf("pull messages: %w", err)
	}
	defer context.AfterFunc(ctx, iter.Stop)()
	defer iter.Stop()
	d := newDispatcher(context.WithoutCancel(ctx), sub, handle, s.cfg.Takeover, iter.Stop)
	err = s.receive(ctx, consumer, iter, d)
	d.drain()
	iter.Stop() // before the server begins again: what it sent here would be lost
	if errors.Is(err, errTaken) {
		return errors.Join(err, s.rewind(ctx, stream, sub.Name))
	}
	if ctx.Err() != nil {
		s.letGo(ctx, stream, sub.Name)
	}
	return err
}

// abandoned tells whether messages are in the hands of nobody: they need not wait
// for the end of their AckWait.
func abandoned(info *jetstream.ConsumerInfo) bool {
	if info == nil || info.NumAckPending == 0 {
		return false
	}
	for _, g := range info.PriorityGroups {
		if g.PinnedClientID != "" {
			return false
		}
	}
	return true
}

// letGo lets another process take over at once. Without it, that takes a moment.
func (s *Subscriber) letGo(ctx context.Context, stream, name string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	if handle, err := s.conn.js.Stream(ctx, stream); err == nil {
		_ = handle.UnpinConsumer(ctx, name, group)
	}
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
		PriorityPolicy: jetstream.PriorityPolicyPinned, PriorityGroups: []string{group}, PinnedTTL: s.cfg.Takeover,
	})
	if err != nil {
		return "", nil, fmt.Errorf("declare consumer %s of stream %s: %w", sub.Name, stream, err)
	}
	return stream, c, nil
}

// receive hands messages to the dispatcher for as long as none is missing.
func (s *Subscriber) receive(ctx context.Context, consumer jetstream.Consumer, iter jetstream.MessagesContext, d *dispatcher) error {
	var last uint64
	for {
		msg, err := iter.Next()
		if d.stale() {
			return errTaken
		}
		if err != nil && ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			return fmt.Errorf("receive message: %w", err)
		}
		meta, err := msg.Metadata()
		if err != nil {
			return fmt.Errorf("read message: %w", err)
		}
		if last == 0 {
			info, err := consumer.Info(ctx)
			if err != nil {
				return fmt.Errorf("ask for state of consumer: %w", err)
			}
			last = info.AckFloor.Consumer
		}
		if meta.Sequence.Consumer != last+1 {
			return fmt.Errorf("%w: delivery %d follows %d", errTaken, meta.Sequence.Consumer, last)
		}
		last = meta.Sequence.Consumer
		d.take(msg, meta)
	}
}

// rewind has the server begin again after the last message before which all are
// settled, and lets go of whoever it gives messages to now.
func (s *Subscriber) rewind(ctx context.Context, stream, name string) error {
	if _, err := s.conn.js.ResetConsumer(ctx, stream, name); err != nil {
		return fmt.Errorf("reset consumer: %w", err)
	}
	handle, err := s.conn.js.Stream(ctx, stream)
	if err != nil {
		return fmt.Errorf("find stream: %w", err)
	}
	if err := handle.UnpinConsumer(ctx, name, group); err != nil {
		return fmt.Errorf("let go of consumer: %w", err)
	}
	return nil
}
