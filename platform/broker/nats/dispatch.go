package nats

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/slipwayhq/slipway/platform/broker"
	"github.com/slipwayhq/slipway/platform/failpoint"
)

// dispatcher runs the handlers of one session: keys side by side, messages of a key
// one after the other.
type dispatcher struct {
	ctx    context.Context //nolint:containedctx // that of the session: when it ends, no handler is begun any more
	sub    broker.Subscription
	handle broker.Handler

	slots   chan struct{} // one for each running handler
	drained chan struct{}
	wg      sync.WaitGroup

	mu       sync.Mutex
	closed   bool
	keys     map[string]*queue
	held     map[uint64]jetstream.Msg // by stream sequence: delivered and not settled
	until    time.Time                // no other process gets the messages before
	extended chan struct{}            // closed when until is later
}

// queue holds the messages of a key that wait, in order.
type queue struct{ waiting []item }

type item struct {
	msg      jetstream.Msg
	seq      uint64
	delivery broker.Delivery
}

func newDispatcher(ctx context.Context, sub broker.Subscription, handle broker.Handler) *dispatcher {
	d := &dispatcher{
		ctx: ctx, sub: sub, handle: handle,
		slots: make(chan struct{}, sub.Concurrency), drained: make(chan struct{}),
		keys: map[string]*queue{}, held: map[uint64]jetstream.Msg{}, extended: make(chan struct{}),
	}
	go d.keep()
	return d
}

// take queues a message. One that is in hand already, because the server did not see
// the sign that it is, is not taken twice.
func (d *dispatcher) take(msg jetstream.Msg, meta *jetstream.MsgMetadata) {
	m := decode(msg)
	it := item{msg: msg, seq: meta.Sequence.Stream, delivery: broker.Delivery{Message: m, Attempt: int(meta.NumDelivered)}}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return
	}
	_, inHand := d.held[it.seq]
	d.held[it.seq] = msg
	if inHand {
		return
	}
	if m.Key == "" {
		d.wg.Go(func() { d.work(&queue{waiting: []item{it}}, "") })
		return
	}
	q, running := d.keys[m.Key]
	if !running {
		q = &queue{}
		d.keys[m.Key] = q
	}
	q.waiting = append(q.waiting, it)
	if !running {
		d.wg.Go(func() { d.work(q, m.Key) })
	}
}

// work handles the messages of a key until there are no more.
func (d *dispatcher) work(q *queue, key string) {
	for {
		d.mu.Lock()
		if len(q.waiting) == 0 {
			if key != "" {
				delete(d.keys, key)
			}
			d.mu.Unlock()
			return
		}
		it := q.waiting[0]
		q.waiting = q.waiting[1:]
		d.mu.Unlock()
		if !d.settle(it) {
			return // the session ends; the rest comes again
		}
	}
}

// settle handles a message as often as it takes, and tells whether that came to an
// end.
func (d *dispatcher) settle(it item) bool {
	for {
		verdict, ok := d.run(it.delivery)
		if !ok {
			return false
		}
		if verdict.Settled() {
			d.done(it, verdict)
			return true
		}
		timer := time.NewTimer(verdict.Delay())
		select {
		case <-timer.C:
		case <-d.ctx.Done():
			timer.Stop()
			return false
		}
		it.delivery.Attempt++
	}
}

// run calls the handler once there is a slot for it and the message is surely ours.
func (d *dispatcher) run(m broker.Delivery) (v broker.Verdict, ok bool) {
	select {
	case <-d.ctx.Done():
		return v, false
	case d.slots <- struct{}{}:
	}
	defer func() { <-d.slots }()
	if !d.owned() {
		return v, false
	}
	return d.handle(context.WithoutCancel(d.ctx), m), true
}

// owned waits for as long as another process may have got the messages. It is false
// when the session has ended.
func (d *dispatcher) owned() bool {
	for d.ctx.Err() == nil {
		d.mu.Lock()
		left, extended := time.Until(d.until), d.extended
		d.mu.Unlock()
		if left > 0 {
			return true
		}
		select {
		case <-extended:
		case <-d.ctx.Done():
		}
	}
	return false
}

// extend says until when no other process gets the messages.
func (d *dispatcher) extend(until time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.until = until
	close(d.extended)
	d.extended = make(chan struct{})
}

func (d *dispatcher) done(it item, v broker.Verdict) {
	d.mu.Lock()
	msg := d.held[it.seq]
	delete(d.held, it.seq)
	d.mu.Unlock()
	if reason, terminated := v.Terminated(); terminated {
		_ = msg.TermWithReason(reason)
		return
	}
	failpoint.At(failpoint.BeforeAck, d.sub.Name)
	_ = msg.Ack() // lost, it comes again
	failpoint.At(failpoint.AfterAck, d.sub.Name)
}

// keep tells the server that what is in hand is being worked on.
func (d *dispatcher) keep() {
	beat := time.NewTicker(d.sub.AckWait / 3)
	defer beat.Stop()
	for {
		select {
		case <-d.drained:
			return
		case <-beat.C:
		}
		d.mu.Lock()
		held := slices.Collect(maps.Values(d.held))
		d.mu.Unlock()
		for _, msg := range held {
			_ = msg.InProgress()
		}
	}
}

// drain waits for the handlers that run, once the session has ended.
func (d *dispatcher) drain() {
	d.mu.Lock()
	d.closed = true
	d.mu.Unlock()
	d.wg.Wait()
	close(d.drained)
}

// decode makes a message of NATS one of ours.
func decode(msg jetstream.Msg) broker.Message {
	headers := msg.Headers()
	m := broker.Message{
		ID: headers.Get(broker.HeaderID), DedupID: headers.Get(nats.MsgIdHdr), Key: headers.Get(broker.HeaderKey),
		Subject: msg.Subject(), Payload: msg.Data(), Headers: make(map[string]string, len(headers)),
	}
	for name, values := range headers {
		if len(values) > 0 && name != nats.MsgIdHdr && name != jetstreamPin {
			m.Headers[name] = values[0]
		}
	}
	if m.ID == "" {
		m.ID = m.DedupID
	}
	return m
}

const jetstreamPin = "Nats-Pin-Id"
