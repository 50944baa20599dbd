package watermill

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"
	"sync"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/slipwayhq/slipway/platform/broker"
)

// TopicFunc returns the topic of a subject, or of a pattern that ends in ".>".
type TopicFunc func(subject string) string

// FirstToken is the TopicFunc by default: "order" for "order.placed".
func FirstToken(subject string) string {
	token, _, _ := strings.Cut(subject, ".")
	return token
}

// PartitionKey returns the message's key, or its id if it has none. Its shape is that
// which Watermill's drivers for Kafka and Google Pub/Sub take.
func PartitionKey(_ string, m *message.Message) (string, error) {
	return cmp.Or(m.Metadata[broker.HeaderKey], m.UUID), nil
}

// PublisherConfig is how messages get to their topics.
type PublisherConfig struct {
	// Topic is FirstToken when nil. Subscribers need the same.
	Topic TopicFunc
	// MaxPayload is from how many bytes on a payload is refused. 0 leaves that to
	// the broker, whose error then looks like one that may pass.
	MaxPayload int
	// Concurrency is how many keys are published at once. 0 means 16.
	Concurrency int
}

// Publisher is a broker.Publisher over one of Watermill. Each message is published
// by itself: of a batch that fails Watermill does not tell how far it came.
type Publisher struct {
	pub message.Publisher
	cfg PublisherConfig

	mu   sync.Mutex
	busy map[string]chan struct{} // closed when the key is free
}

// NewPublisher returns a publisher over pub, which must wait for the broker's
// acknowledgement. Closing pub is up to the caller.
func NewPublisher(pub message.Publisher, cfg PublisherConfig) *Publisher {
	if cfg.Topic == nil {
		cfg.Topic = FirstToken
	}
	cfg.Concurrency = cmp.Or(cfg.Concurrency, 16)
	return &Publisher{pub: pub, cfg: cfg, busy: map[string]chan struct{}{}}
}

// queue is the messages of one key, by their index in the batch.
type queue struct {
	key     string
	indexes []int
}

// Publish implements broker.Publisher. Watermill's publishers cannot be told to give
// up: when ctx ends before they do, the messages that they have are reported as
// unknown, and the next ones of their keys wait for them.
func (p *Publisher) Publish(ctx context.Context, messages []broker.Message) error {
	queues := queuesOf(messages)
	results := make([]chan []error, len(queues))
	slots := make(chan struct{}, p.cfg.Concurrency)
	for i, q := range queues {
		results[i] = make(chan []error, 1)
		go func() {
			select {
			case slots <- struct{}{}:
				defer func() { <-slots }()
				results[i] <- p.drain(ctx, q, messages)
			case <-ctx.Done():
				results[i] <- repeat(unavailable(context.Cause(ctx)), len(q.indexes))
			}
		}()
	}
	fates := make([]error, len(messages))
	for i, q := range queues {
		var got []error
		select {
		case got = <-results[i]:
		case <-ctx.Done():
			got = repeat(unavailable(context.Cause(ctx)), len(q.indexes))
		}
		for n, at := range q.indexes {
			fates[at] = got[n]
		}
	}
	return broker.Joined(fates)
}

func queuesOf(messages []broker.Message) (queues []*queue) {
	byKey := map[string]*queue{}
	for i, m := range messages {
		q := byKey[m.Key]
		if q == nil || m.Key == "" {
			q = &queue{key: m.Key}
			byKey[m.Key], queues = q, append(queues, q)
		}
		q.indexes = append(q.indexes, i)
	}
	return queues
}

// drain publishes the messages of a key one after the other.
func (p *Publisher) drain(ctx context.Context, q *queue, messages []broker.Message) []error {
	fates := make([]error, len(q.indexes))
	free, err := p.reserve(ctx, q.key)
	if err != nil {
		return repeat(unavailable(err), len(fates))
	}
	defer free()
	for n, at := range q.indexes {
		if fates[n] = p.one(ctx, messages[at]); fates[n] != nil {
			for rest := n + 1; rest < len(fates); rest++ {
				fates[rest] = broker.ErrSkipped
			}
			break
		}
	}
	return fates
}

// reserve waits until no other call has the key.
func (p *Publisher) reserve(ctx context.Context, key string) (free func(), err error) {
	if key == "" {
		return func() {}, nil
	}
	for {
		p.mu.Lock()
		taken := p.busy[key]
		if taken == nil {
			mine := make(chan struct{})
			p.busy[key] = mine
			p.mu.Unlock()
			return func() {
				p.mu.Lock()
				defer p.mu.Unlock()
				delete(p.busy, key)
				close(mine)
			}, nil
		}
		p.mu.Unlock()
		select {
		case <-taken:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

func (p *Publisher) one(ctx context.Context, m broker.Message) error {
	if err := m.Validate(); err != nil {
		return fmt.Errorf("%w: %w", broker.ErrRefused, err)
	}
	if p.cfg.MaxPayload > 0 && len(m.Payload) > p.cfg.MaxPayload {
		return fmt.Errorf("%w: %d bytes, at most %d are allowed", broker.ErrRefused, len(m.Payload), p.cfg.MaxPayload)
	}
	if ctx.Err() != nil {
		return unavailable(context.Cause(ctx))
	}
	out := message.NewMessage(m.ID, m.Payload)
	maps.Copy(out.Metadata, m.Headers)
	out.Metadata[broker.HeaderSubject] = m.Subject
	if m.Key != "" {
		out.Metadata[broker.HeaderKey] = m.Key
	}
	out.SetContext(ctx)
	if err := p.pub.Publish(p.cfg.Topic(m.Subject), out); err != nil {
		return unavailable(err)
	}
	return nil
}

// unavailable marks an error as one that may pass: Watermill does not say which do
// not.
func unavailable(err error) error {
	return errors.Join(broker.ErrUnavailable, err)
}

func repeat(err error, n int) []error {
	all := make([]error, n)
	for i := range all {
		all[i] = err
	}
	return all
}
