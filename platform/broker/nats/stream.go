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

// Stream is where messages are stored. Whoever publishes declares it.
type Stream struct {
	// Name holds letters, digits, "-" and "_".
	Name string
	// Subjects are those that it stores, "order.>".
	Subjects []string
	// Replicas is how many servers store each message. 0 means 1.
	Replicas int `env:"BROKER_STREAM_REPLICAS"`
	// MaxAge is after how long messages are removed. 0 means 7 days.
	MaxAge time.Duration `env:"BROKER_STREAM_MAX_AGE"`
	// MaxBytes is from which size on the oldest are removed. 0 means no limit.
	MaxBytes int64 `env:"BROKER_STREAM_MAX_BYTES"`
	// Dedup is for how long the server remembers the ids of messages. 0 means 2
	// minutes.
	Dedup time.Duration
	// Memory stores messages in memory only, for tests.
	Memory bool
}

// SetDefaults fills the fields that are zero.
func (s *Stream) SetDefaults() {
	s.Replicas = cmp.Or(s.Replicas, 1)
	s.MaxAge = cmp.Or(s.MaxAge, 7*24*time.Hour)
	s.Dedup = cmp.Or(s.Dedup, 2*time.Minute)
}

// Validate names every field that is wrong.
func (s Stream) Validate() error {
	return broker.Subscription{Name: s.Name, Subjects: s.Subjects, Concurrency: 1, AckWait: time.Second}.Validate()
}

func (s Stream) config() jetstream.StreamConfig {
	cfg := jetstream.StreamConfig{
		Name: s.Name, Subjects: s.Subjects, Replicas: s.Replicas, MaxAge: s.MaxAge, MaxBytes: cmp.Or(s.MaxBytes, -1),
		Duplicates: min(s.Dedup, s.MaxAge), Discard: jetstream.DiscardOld, AllowAtomicPublish: true, AllowBatchPublish: true,
	}
	if s.Memory {
		cfg.Storage = jetstream.MemoryStorage
	}
	return cfg
}

// covers tells whether the stream stores a subject.
func (s Stream) covers(subject string) bool {
	for _, pattern := range s.Subjects {
		if broker.Matches(pattern, subject) {
			return true
		}
	}
	return false
}

// EnsureStream creates the stream, or changes it to what is declared, and logs a
// warning when it creates one: after the first time it means that the server lost
// what it had. A server that does not know batches gets it without.
func (c *Conn) EnsureStream(ctx context.Context, s Stream) error {
	s.SetDefaults()
	if err := s.Validate(); err != nil {
		return fmt.Errorf("declare stream: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, c.cfg.RequestTimeout)
	defer cancel()
	cfg := s.config()
	err := c.declare(ctx, cfg)
	var api *jetstream.APIError
	if errors.As(err, &api) && api.Code == 400 {
		cfg.AllowAtomicPublish, cfg.AllowBatchPublish = false, false
		if c.declare(ctx, cfg) == nil {
			return nil
		}
	}
	if err != nil {
		return fmt.Errorf("declare stream %s: %w", s.Name, err)
	}
	return nil
}

func (c *Conn) declare(ctx context.Context, cfg jetstream.StreamConfig) error {
	_, err := c.js.UpdateStream(ctx, cfg)
	if !errors.Is(err, jetstream.ErrStreamNotFound) {
		return err
	}
	if _, err = c.js.CreateStream(ctx, cfg); err == nil {
		c.log.Warn("created a stream that the server did not have", zap.String("stream", cfg.Name))
	}
	return err
}
