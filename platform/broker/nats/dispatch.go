package nats

import (
	"context"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/slipwayhq/slipway/platform/broker"
)

// dispatcher runs the handlers of one session: keys side by side, messages of a key
// one after the other.
type dispatcher struct {
	ctx      context.Context //nolint:containedctx // that of the handlers, which outlives the session's
	sub      broker.Subscription
	handle   broker.Handler
	takeover time.Duration
	abort    func() // ends the session

	slots chan struct{} // one for each running handler
	ended chan struct{} // no handler is begun any more
	wg    sync.WaitGroup

	mu    sync.Mutex
	keys  map[string]*queue
	held  map[uint64]jetstream.Msg // by stream sequence: delivered and not settled
	alive time.Time
	old   bool
}

// queue holds the messages of a key that wait, in order.
type queue struct{ waiting []item }

type item struct {
	msg      jetstream.Msg
	seq      uint64
	delivery broker.Delivery
}

func newDispatcher(ctx context.Context, sub broker.Subscription, handle broker.Handler, takeover time.Duration, abort func()) *dispatcher {
	d := &dispatcher{
		ctx: ctx, sub: sub, handle: handle, takeover: takeover, abort: abort,
		slots: make(chan struct{}, sub.Concurrency), ended: make(chan struct{}),
		keys: map[string]*queue{}, held: map[uint64]jetstream.Msg{}, alive: time.Now(),
	}
	d.wg.Go(d.keep)
	return d
}

// take queues a message. One that is in hand already, because the server did not see
// the sign that it is, is not taken twice.
func (d *dispatcher) take(msg jetstream.Msg, meta *jetstream.MsgMetadata) {
	m := decode(msg)
	it := item{msg: msg, seq: meta.Sequence.Stream, delivery: broker.Delivery{Message: m, Attempt: int(meta.NumDelivered)}}
	d.mu.Lock()
	defer d.mu.Unlock()
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
		case <-d.ended:
			timer.Stop()
			return false
		}
		it.delivery.Attempt++
	}
}

// run calls the handler once there is a slot for it.
func (d *dispatcher) run(m broker.Delivery) (v broker.Verdict, ok bool) {
	select {
	case <-d.ended:
		return v, false
	case d.slots <- struct{}{}:
	}
	defer func() { <-d.slots }()
	select {
	case <-d.ended:
		return v, false
	default:
	}
	if d.suspicious() {
		return v, false
	}
	return d.handle(d.ctx, m), true
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
	_ = msg.Ack() // lost, it comes again
}

// keep tells the server that what is in hand is being worked on, and notices when
// this process stood still.
func (d *dispatcher) keep() {
	beat := time.NewTicker(d.takeover / 8)
	defer beat.Stop()
	told := time.Now()
	for {
		select {
		case <-d.ended:
			return
		case <-beat.C:
		}
		if d.suspicious() {
			return
		}
		d.mu.Lock()
		d.alive = time.Now()
		var held []jetstream.Msg
		if time.Since(told) > d.sub.AckWait/3 {
			told = time.Now()
			for _, msg := range d.held {
				held = append(held, msg)
			}
		}
		d.mu.Unlock()
		for _, msg := range held {
			_ = msg.InProgress()
		}
	}
}

// suspicious tells whether this process stood still for so long that another may
// have got its messages; then the session ends.
func (d *dispatcher) suspicious() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.old && time.Since(d.alive) > d.takeover/2 {
		d.old = true
		go d.abort()
	}
	return d.old
}

func (d *dispatcher) stale() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.old
}

// drain begins no more handlers, waits for those that run, and gives the rest back.
func (d *dispatcher) drain() {
	close(d.ended)
	d.wg.Wait()
	for _, msg := range d.held {
		_ = msg.Nak()
	}
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
