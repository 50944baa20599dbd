package watermill

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/slipwayhq/slipway/platform/broker"
)

// TopicFunc returns the topic of a subject, or of a pattern that ends in ".>": then it
// is that of every subject below. Without such a topic it returns "".
type TopicFunc func(subject string) string

// FirstToken is the TopicFunc by default: "order" for "order.placed" and "order.>".
func FirstToken(subject string) string {
	token, _, _ := strings.Cut(subject, ".")
	return token
}

// PartitionKey returns the message's key, or its id if it has none. Its shape is that
// which Watermill's drivers for Kafka and Google Pub/Sub take.
func PartitionKey(_ string, m *message.Message) (string, error) {
	return cmp.Or(m.Metadata[broker.HeaderKey], m.UUID), nil
}

// reserved is where Watermill's drivers carry the id: they take no message that has
// metadata of this name.
const reserved = "_watermill_message_uuid"

// PublisherConfig is how messages get to their topics.
type PublisherConfig struct {
	// Topic is FirstToken when nil. Subscribers need the same.
	Topic TopicFunc
	// MaxPayload is how many bytes a payload may have, more are refused. 0 leaves that
	// to the broker: see Refused.
	MaxPayload int
	// Refused tells of an error of pub whether the broker will never take the message,
	// however long one waits. nil knows of none.
	Refused func(err error) bool
	// Concurrency is how many keys of a batch are published at once. 0 means 16.
	Concurrency int
}

// Publisher is a broker.Publisher over one of Watermill. Each message is published
// by itself: of a batch that fails Watermill does not tell how far it came.
type Publisher struct {
	pub message.Publisher
	cfg PublisherConfig

	acked atomic.Uint64 // messages that the broker has acknowledged

	mu     sync.Mutex
	busy   map[string]chan struct{} // closed when the key is free
	failed map[string]uint64        // acked when the key failed, until it succeeds
}

// NewPublisher returns a publisher over pub, which must wait for the broker's
// acknowledgement. Closing pub is up to the caller.
func NewPublisher(pub message.Publisher, cfg PublisherConfig) *Publisher {
	if cfg.Topic == nil {
		cfg.Topic = FirstToken
	}
	if cfg.Concurrency < 1 {
		cfg.Concurrency = 16
	}
	return &Publisher{pub: pub, cfg: cfg, busy: map[string]chan struct{}{}, failed: map[string]uint64{}}
}

// queue is the messages of one key, with their index in the batch. It has its own
// copies: when Publish has given up, the batch is the caller's again.
type queue struct {
	key      string
	messages []broker.Message
	indexes  []int
	fates    chan []error
}

// Publish implements broker.Publisher. Watermill's publishers cannot be told to give
// up: when ctx ends before they do, the keys that they have are reported as unknown,
// and the next messages of these keys wait until the publisher is through with them,
// in this process. Other keys do not wait.
//
// Of an error of theirs that is not Refused nobody knows whether it is of the message or
// of the broker. It is the broker's, and in it is broker.ErrUnavailable, unless the broker
// has acknowledged another message meanwhile: in this call, or since the key failed the
// last time.
func (p *Publisher) Publish(ctx context.Context, messages []broker.Message) error {
	before := p.acked.Load()
	queues := queuesOf(messages)
	slots := make(chan struct{}, p.cfg.Concurrency)
	for _, q := range queues {
		go func() { q.fates <- p.drain(ctx, q, slots) }()
	}
	fates := make([]error, len(messages))
	for _, q := range queues {
		var got []error
		select {
		case got = <-q.fates:
		case <-ctx.Done():
			got = repeat(unavailable(context.Cause(ctx)), len(q.indexes))
		}
		for n, at := range q.indexes {
			fates[at] = got[n]
		}
	}
	for _, q := range queues {
		p.blame(q, fates, before)
	}
	return broker.Joined(fates)
}

// blame says of the error of a driver whose it is. before is what the broker had
// acknowledged before the call.
func (p *Publisher) blame(q *queue, fates []error, before uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	name := cmp.Or(q.key, q.messages[0].ID)
	for _, at := range q.indexes {
		err := fates[at]
		if err == nil {
			continue
		}
		if errors.Is(err, broker.ErrUnavailable) || errors.Is(err, broker.ErrRefused) {
			return
		}
		since, again := p.failed[name]
		if !again {
			since = before
		}
		now := p.acked.Load()
		p.failed[strings.Clone(name)] = now // it may be part of a long text, and stay for long
		if now == since {
			fates[at] = unavailable(err)
		}
		return
	}
	delete(p.failed, name)
}

func queuesOf(messages []broker.Message) (queues []*queue) {
	byKey := map[string]*queue{}
	for i, m := range messages {
		q := byKey[m.Key]
		if q == nil || m.Key == "" {
			q = &queue{key: m.Key, fates: make(chan []error, 1)}
			byKey[m.Key], queues = q, append(queues, q)
		}
		m.Headers = maps.Clone(m.Headers)
		q.messages, q.indexes = append(q.messages, m), append(q.indexes, i)
	}
	return queues
}

// drain publishes the messages of a key one after the other, once the key is free and
// there is a slot. The key first: who waits for a key that hangs holds no slot.
func (p *Publisher) drain(ctx context.Context, q *queue, slots chan struct{}) []error {
	free, err := p.reserve(ctx, q.key)
	if err != nil {
		return repeat(unavailable(err), len(q.messages))
	}
	defer free()
	select {
	case slots <- struct{}{}:
		defer func() { <-slots }()
	case <-ctx.Done():
		return repeat(unavailable(context.Cause(ctx)), len(q.messages))
	}
	fates := make([]error, len(q.messages))
	for n, m := range q.messages {
		if fates[n] = p.one(ctx, m); fates[n] != nil {
			copy(fates[n+1:], repeat(broker.ErrSkipped, len(fates)))
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
	if err := p.check(m); err != nil {
		return fmt.Errorf("%w: %w", broker.ErrRefused, err)
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
	// A driver that gave up with ctx would leave the message under way, and the next
	// one of its key could overtake it.
	out.SetContext(context.WithoutCancel(ctx))
	err := p.pub.Publish(p.cfg.Topic(m.Subject), out)
	switch {
	case err == nil:
		p.acked.Add(1)
	case p.cfg.Refused != nil && p.cfg.Refused(err):
		return fmt.Errorf("%w: %w", broker.ErrRefused, err)
	}
	return err
}

// check names what no repetition mends.
func (p *Publisher) check(m broker.Message) error {
	if err := m.Validate(); err != nil {
		return err
	}
	if _, taken := m.Headers[reserved]; taken {
		return fmt.Errorf("header: %s is taken by watermill", reserved)
	}
	if p.cfg.MaxPayload > 0 && len(m.Payload) > p.cfg.MaxPayload {
		return fmt.Errorf("payload: %d bytes, at most %d are allowed", len(m.Payload), p.cfg.MaxPayload)
	}
	return nil
}

// unavailable marks an error as one of a broker that is away.
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
