package nats

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/synadia-io/orbit.go/jetstreamext"

	"github.com/slipwayhq/slipway/platform/broker"
)

// PublisherConfig is how messages get into a stream.
type PublisherConfig struct {
	// Stream is declared before the first message, and again when the server has
	// lost it.
	Stream Stream
	// Mode is how batches are sent. Empty means ModeFast, or ModeAtomic with
	// SyncAlways.
	Mode Mode
	// SyncAlways says that the server syncs each write (sync_interval: always).
	SyncAlways bool `env:"BROKER_SYNC_ALWAYS"`
	// AckTimeout bounds the wait for one acknowledgement. 0 means 5 seconds.
	AckTimeout time.Duration
}

// Mode is a way to send a batch. What a server refuses to take in one of the batch
// modes is sent by ModeAsync.
type Mode string

// The modes.
const (
	// ModeAsync sends messages one by one, not waiting for the acknowledgement of
	// another key before. Of one key at most one is on its way.
	ModeAsync Mode = "async"
	// ModeFast sends a stream of messages that the server acknowledges now and then,
	// and that ends at the first gap. It does not tell which of them it had already,
	// and of the caller's context it heeds the deadline only.
	// Servers from 2.14 on.
	ModeFast Mode = "fast"
	// ModeAtomic has the server store all or nothing, with one sync of its files.
	// Servers from 2.12 on.
	ModeAtomic Mode = "atomic"
)

// maxAtomic is how many messages a server takes in one atomic batch.
const maxAtomic = 1000

// Publisher is a broker.Publisher into one stream.
type Publisher struct {
	conn     *Conn
	cfg      PublisherConfig
	declared atomic.Bool
	dup      prometheus.Counter
}

// NewPublisher returns a publisher. A nil registerer is none.
func NewPublisher(conn *Conn, cfg PublisherConfig, reg prometheus.Registerer) (*Publisher, error) {
	cfg.Stream.SetDefaults()
	cfg.AckTimeout = cmp.Or(cfg.AckTimeout, 5*time.Second)
	if cfg.Mode == "" {
		if cfg.Mode = ModeFast; cfg.SyncAlways {
			cfg.Mode = ModeAtomic
		}
	}
	if err := cfg.Stream.Validate(); err != nil {
		return nil, fmt.Errorf("stream: %w", err)
	}
	if cfg.Mode != ModeAsync && cfg.Mode != ModeFast && cfg.Mode != ModeAtomic {
		return nil, fmt.Errorf("mode: %q is not async, fast or atomic", cfg.Mode)
	}
	p := &Publisher{conn: conn, cfg: cfg, dup: prometheus.NewCounter(prometheus.CounterOpts{
		Name: "broker_duplicates_total", Help: "Messages that the server knew already and did not store again, where it tells.",
		ConstLabels: prometheus.Labels{"stream": cfg.Stream.Name},
	})}
	if reg != nil {
		if err := reg.Register(p.dup); err != nil {
			return nil, fmt.Errorf("register publisher metrics: %w", err)
		}
	}
	return p, nil
}

// Publish implements broker.Publisher.
func (p *Publisher) Publish(ctx context.Context, messages []broker.Message) error {
	if len(messages) == 0 {
		return nil
	}
	if err := p.declare(ctx); err != nil {
		return err
	}
	b := p.prepare(messages)
	if len(b.todo) > 1 && p.cfg.Mode != ModeAsync {
		p.batch(ctx, b)
	}
	p.waves(ctx, b)
	err := broker.Joined(b.errs)
	if errors.Is(err, broker.ErrUnavailable) {
		p.declared.Store(false) // whoever comes back may have lost it
	}
	return err
}

// declare makes sure that the stream is there, as far as is known.
func (p *Publisher) declare(ctx context.Context) error {
	if p.declared.Load() {
		return nil
	}
	if err := p.conn.EnsureStream(ctx, p.cfg.Stream); err != nil {
		return fmt.Errorf("%w: %w", broker.ErrUnavailable, offline(err))
	}
	p.declared.Store(true)
	return nil
}

// sending is a batch on its way.
type sending struct {
	messages []broker.Message
	errs     []error
	todo     []int           // what is not settled, in order
	failed   map[string]bool // keys of which one was not acknowledged
}

func (b *sending) fail(i int, err error) {
	b.errs[i] = err
	if key := b.messages[i].Key; key != "" {
		b.failed[key] = true
	}
}

// prepare refuses what the stream can never take.
func (p *Publisher) prepare(messages []broker.Message) *sending {
	b := &sending{messages: messages, errs: make([]error, len(messages)), failed: map[string]bool{}}
	for i, m := range messages {
		err := m.Validate()
		switch {
		case b.failed[m.Key]:
			b.errs[i] = broker.ErrSkipped
		case err != nil:
			b.fail(i, fmt.Errorf("%w: %w", broker.ErrRefused, err))
		case !p.cfg.Stream.covers(m.Subject):
			b.fail(i, fmt.Errorf("%w: stream %s does not store the subject %s", broker.ErrRefused, p.cfg.Stream.Name, m.Subject))
		case p.conn.nc.MaxPayload() > 0 && size(m) > p.conn.nc.MaxPayload():
			b.fail(i, fmt.Errorf("%w: %d bytes with its headers, and the server takes %d", broker.ErrRefused, size(m), p.conn.nc.MaxPayload()))
		default:
			b.todo = append(b.todo, i)
		}
	}
	return b
}

// size is about that of the message on the wire.
func size(m broker.Message) int64 {
	n := len(m.Payload) + len(m.Dedup()) + len(m.ID) + len(m.Key) + 200
	for k, v := range m.Headers {
		n += len(k) + len(v) + 4
	}
	return int64(n)
}

// batch sends what it can in one of the batch modes. What is not known to be stored
// afterwards is left to waves, which repeats it in order: the server drops what it
// has by its id; half of the time is for that.
func (p *Publisher) batch(ctx context.Context, b *sending) {
	limit := p.cfg.AckTimeout
	if deadline, ok := ctx.Deadline(); ok {
		limit = min(limit, time.Until(deadline)/2)
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	stored := 0
	if p.cfg.Mode == ModeAtomic {
		for stored < len(b.todo) {
			n := min(maxAtomic, len(b.todo)-stored)
			if n < 2 || !p.atomic(ctx, b, b.todo[stored:stored+n]) {
				break
			}
			stored += n
		}
	} else {
		stored = p.fast(ctx, b)
	}
	b.todo = b.todo[stored:]
}

func (p *Publisher) atomic(ctx context.Context, b *sending, part []int) bool {
	pub, err := jetstreamext.NewBatchPublisher(p.conn.js, jetstreamext.BatchFlowControl{AckFirst: false})
	if err != nil {
		return false
	}
	for _, i := range part[:len(part)-1] {
		if err := pub.AddMsg(encode(b.messages[i])); err != nil {
			return false
		}
	}
	_, err = pub.CommitMsg(ctx, encode(b.messages[part[len(part)-1]]))
	return err == nil
}

// fast returns how many are known to be stored, from the first on.
func (p *Publisher) fast(ctx context.Context, b *sending) int {
	pub, err := jetstreamext.NewFastPublisher(p.conn.js, jetstreamext.FastPublishFlowControl{
		Flow: 200, MaxOutstandingAcks: 4, AckTimeout: left(ctx),
	})
	if err != nil {
		return 0
	}
	acked := uint64(0)
	last := len(b.todo) - 1
	for _, i := range b.todo[:last] {
		ack, err := pub.AddMsg(encode(b.messages[i]))
		if err != nil {
			p.abandon(ctx, pub)
			return int(acked)
		}
		acked = max(acked, ack.AckSequence)
	}
	ack, err := pub.CommitMsg(ctx, encode(b.messages[b.todo[last]]))
	if err != nil || ack.BatchSize != uint64(len(b.todo)) {
		p.abandon(ctx, pub)
		return int(acked)
	}
	return len(b.todo)
}

// left is the time until the deadline of ctx, which must have one, for what takes no
// context.
func left(ctx context.Context) time.Duration {
	deadline, _ := ctx.Deadline()
	return max(time.Until(deadline), time.Millisecond)
}

// abandon ends a batch that went wrong, so that nothing of it comes later.
func (p *Publisher) abandon(ctx context.Context, pub jetstreamext.FastPublisher) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	if !pub.IsClosed() {
		_, _ = pub.Close(ctx)
	}
}

// waves sends the rest one by one: in each wave the first of each key that is not
// settled, and the next wave when all of them are.
func (p *Publisher) waves(ctx context.Context, b *sending) {
	for len(b.todo) > 0 {
		busy := map[string]bool{}
		var wave, rest []int
		for _, i := range b.todo {
			key := b.messages[i].Key
			switch {
			case b.failed[key]:
				b.errs[i] = broker.ErrSkipped
			case key != "" && busy[key]:
				rest = append(rest, i)
			default:
				busy[key] = true
				wave = append(wave, i)
			}
		}
		p.wave(ctx, b, wave)
		b.todo = rest
	}
}

func (p *Publisher) wave(ctx context.Context, b *sending, wave []int) {
	ctx, cancel := context.WithTimeout(ctx, p.cfg.AckTimeout)
	defer cancel()
	futures := make([]jetstream.PubAckFuture, len(wave))
	for n, i := range wave {
		if ctx.Err() != nil {
			b.fail(i, fmt.Errorf("%w: not sent: %w", broker.ErrUnavailable, context.Cause(ctx)))
			continue
		}
		f, err := p.conn.js.PublishMsgAsync(encode(b.messages[i]), jetstream.WithStallWait(left(ctx)))
		if err != nil {
			b.fail(i, p.verdict(err))
			continue
		}
		futures[n] = f
	}
	for n, f := range futures {
		if f == nil {
			continue
		}
		select {
		case ack := <-f.Ok():
			if ack.Duplicate {
				p.dup.Inc()
			}
		case err := <-f.Err():
			b.fail(wave[n], p.verdict(err))
		case <-ctx.Done():
			b.fail(wave[n], fmt.Errorf("%w: no acknowledgement: %w", broker.ErrUnavailable, context.Cause(ctx)))
		}
	}
}

// Error codes of JetStream that concern the message.
const (
	codeMessageTooLarge = 10054
	codeHeadersTooLarge = 10064
)

// verdict says what an error means for the message.
func (p *Publisher) verdict(err error) error {
	var api *jetstream.APIError
	switch {
	case errors.Is(err, nats.ErrMaxPayload):
		return fmt.Errorf("%w: %w", broker.ErrRefused, err)
	case errors.As(err, &api) && (api.ErrorCode == codeMessageTooLarge || api.ErrorCode == codeHeadersTooLarge):
		return fmt.Errorf("%w: %w", broker.ErrRefused, err)
	case errors.As(err, &api) && api.Code < 500 && api.Code != 404:
		return err
	case errors.Is(err, jetstream.ErrNoStreamResponse):
		return fmt.Errorf("%w: stream %s is missing or has no leader, the next attempt declares it: %w", broker.ErrUnavailable, p.cfg.Stream.Name, err)
	default: // no server, no room, no answer
		return fmt.Errorf("%w: %w", broker.ErrUnavailable, offline(err))
	}
}

// encode makes the message one of NATS.
func encode(m broker.Message) *nats.Msg {
	out := &nats.Msg{Subject: m.Subject, Data: m.Payload, Header: make(nats.Header, len(m.Headers)+6)}
	for name, value := range m.Headers {
		out.Header[name] = []string{value}
	}
	out.Header[broker.HeaderID] = []string{m.ID}
	if m.Key != "" {
		out.Header[broker.HeaderKey] = []string{m.Key}
	}
	out.Header[nats.MsgIdHdr] = []string{m.Dedup()}
	return out
}
