package watermill

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/prometheus/client_golang/prometheus"
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
	open       OpenFunc
	cfg        SubscriberConfig
	log        *zap.Logger
	terminated *prometheus.CounterVec
}

// NewSubscriber returns a subscriber. A nil logger or registerer is none.
func NewSubscriber(open OpenFunc, cfg SubscriberConfig, log *zap.Logger, reg prometheus.Registerer) (*Subscriber, error) {
	if cfg.Topic == nil {
		cfg.Topic = FirstToken
	}
	if log == nil {
		log = zap.NewNop()
	}
	s := &Subscriber{open: open, cfg: cfg, log: log.Named("watermill"), terminated: prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "broker_terminated_total", Help: "Messages that a handler settled without success.",
	}, []string{"consumer"})}
	if reg != nil {
		if err := reg.Register(s.terminated); err != nil {
			return nil, fmt.Errorf("register subscriber metrics: %w", err)
		}
	}
	return s, nil
}

// Subscribe implements broker.Subscriber. The subscription's name is the consumer
// group. How many messages are in hand at once, and for how long, is set where the
// group is opened: AckWait has no effect here.
func (s *Subscriber) Subscribe(ctx context.Context, sub broker.Subscription, handle broker.Handler) error {
	sub.SetDefaults()
	if err := sub.Validate(); err != nil {
		return fmt.Errorf("subscribe: %w", err)
	}
	topics, err := s.topics(sub.Subjects)
	if err != nil {
		return fmt.Errorf("subscribe: %w", err)
	}
	s.terminated.WithLabelValues(sub.Name)
	log := s.log.With(zap.String("consumer", sub.Name))
	for pause := 50 * time.Millisecond; ctx.Err() == nil; pause = min(2*pause, 2*time.Second) {
		began := time.Now()
		if err := s.run(ctx, sub, topics, handle); ctx.Err() == nil {
			log.Warn("interrupted, trying again", zap.Error(err))
		}
		if time.Since(began) > 10*time.Second {
			pause = 50 * time.Millisecond
		}
		wait(ctx, pause)
	}
	return nil
}

// topics returns those of the subjects. No broker of Watermill knows patterns: one
// needs a topic that has all of its subjects.
func (s *Subscriber) topics(subjects []string) (topics []string, err error) {
	var errs []error
	for _, subject := range subjects {
		topic := s.cfg.Topic(subject)
		if topic == "" || strings.HasSuffix(topic, ">") {
			errs = append(errs, fmt.Errorf("subjects: no topic has all of %q", subject))
		}
		topics = append(topics, topic)
	}
	slices.Sort(topics)
	return slices.Compact(topics), errors.Join(errs...)
}

// run consumes until ctx or one of the topics ends.
func (s *Subscriber) run(ctx context.Context, sub broker.Subscription, topics []string, handle broker.Handler) error {
	from, err := s.open(sub.Name)
	if err != nil {
		return fmt.Errorf("open consumer group: %w", err)
	}
	// It outlives ctx: what is handled then is still to be settled.
	open, end := context.WithCancel(context.WithoutCancel(ctx))
	defer func() {
		end()
		if err := from.Close(); err != nil {
			s.log.Debug("closing a consumer group", zap.String("consumer", sub.Name), zap.Error(err))
		}
	}()
	channels, err := subscribe(ctx, open, end, from, topics)
	if err != nil {
		return err
	}
	group, session := errgroup.WithContext(ctx)
	d := newDispatcher(sub, s.settler(sub, handle))
	for i, messages := range channels {
		group.Go(func() error { return d.receive(session, topics[i], messages) })
	}
	err = group.Wait()
	d.wg.Wait()
	return err
}

// subscribe opens all topics. Only until it has done so the end of ctx is that of
// open.
func subscribe(ctx, open context.Context, end func(), from message.Subscriber, topics []string) ([]<-chan *message.Message, error) {
	stop := context.AfterFunc(ctx, end)
	defer stop()
	channels := make([]<-chan *message.Message, len(topics))
	for i, topic := range topics {
		var err error
		if channels[i], err = from.Subscribe(open, topic); err != nil {
			return nil, fmt.Errorf("subscribe to topic %s: %w", topic, err)
		}
	}
	return channels, nil
}

// settler returns what counts and logs terminated messages around handle.
func (s *Subscriber) settler(sub broker.Subscription, handle broker.Handler) broker.Handler {
	return func(ctx context.Context, d broker.Delivery) broker.Verdict {
		v := handle(ctx, d)
		if reason, terminated := v.Terminated(); terminated {
			s.terminated.WithLabelValues(sub.Name).Inc()
			s.log.Warn("message terminated", zap.String("consumer", sub.Name), zap.String("message_id", d.ID), zap.String("reason", reason))
		}
		return v
	}
}

func wait(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
