package watermill

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/slipwayhq/slipway/platform/broker"
)

// parting is how long a driver may take to pass on the last acknowledgements.
const parting = 2 * time.Second

// dispatcher runs the handlers of one session: keys side by side, as far as the
// driver hands them out so, messages of a key one after the other.
type dispatcher struct {
	sub    broker.Subscription
	handle broker.Handler

	slots chan struct{} // one for each running handler
	wg    sync.WaitGroup

	mu    sync.Mutex
	tails map[string]chan struct{} // by key: closed when its last message is done
}

func newDispatcher(sub broker.Subscription, handle broker.Handler) *dispatcher {
	return &dispatcher{sub: sub, handle: handle, slots: make(chan struct{}, sub.Concurrency), tails: map[string]chan struct{}{}}
}

// receive takes the messages of a topic until the session ends, and with it ctx. Then
// no handler is begun any more.
func (d *dispatcher) receive(ctx context.Context, topic string, messages <-chan *message.Message) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case m, ok := <-messages:
			if !ok {
				return fmt.Errorf("topic %s ended by itself", topic)
			}
			d.take(ctx, m, messageOf(topic, m))
		}
	}
}

// take has a message handled when those of its key that came before are done.
func (d *dispatcher) take(ctx context.Context, m *message.Message, decoded broker.Message) {
	if !slices.ContainsFunc(d.sub.Subjects, func(p string) bool { return broker.Matches(p, decoded.Subject) }) {
		m.Ack()
		return
	}
	before, done := d.enqueue(decoded.Key)
	d.wg.Go(func() {
		if before != nil {
			<-before
		}
		settled := d.settle(ctx, broker.Delivery{Message: decoded})
		if settled {
			m.Ack()
		} else {
			m.Nack()
		}
		done()
		if settled {
			passedOn(m)
		}
	})
}

// enqueue returns what is closed when the message before it is done, nil for none, and
// what says that of this one.
func (d *dispatcher) enqueue(key string) (before <-chan struct{}, done func()) {
	if key == "" {
		return nil, func() {}
	}
	mine := make(chan struct{})
	d.mu.Lock()
	defer d.mu.Unlock()
	last := d.tails[key]
	d.tails[key] = mine
	return last, func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		close(mine)
		if d.tails[key] == mine {
			delete(d.tails, key)
		}
	}
}

// settle hands a message over until it is settled. It is false when the session has
// ended before.
func (d *dispatcher) settle(ctx context.Context, m broker.Delivery) bool {
	for {
		m.Attempt++
		verdict, ok := d.run(ctx, m)
		if !ok || verdict.Settled() {
			return ok
		}
		wait(ctx, max(verdict.Delay(), 10*time.Millisecond))
	}
}

func (d *dispatcher) run(ctx context.Context, m broker.Delivery) (v broker.Verdict, ok bool) {
	select {
	case <-ctx.Done():
		return v, false
	case d.slots <- struct{}{}:
	}
	defer func() { <-d.slots }()
	if ctx.Err() != nil {
		return v, false
	}
	return d.handle(context.WithoutCancel(ctx), m), true
}

// passedOn waits until the driver is through with a message that was acknowledged:
// then it ends the message's context. A session that ended before would have the
// message come again.
func passedOn(m *message.Message) {
	through := m.Context().Done()
	if through == nil {
		return // a driver that does not tell
	}
	timer := time.NewTimer(parting)
	defer timer.Stop()
	select {
	case <-through:
	case <-timer.C:
	}
}

// messageOf makes a message of Watermill one of ours. One that no Publisher of ours
// has sent has the topic as its subject.
func messageOf(topic string, m *message.Message) broker.Message {
	out := broker.Message{
		ID: m.UUID, Subject: cmp.Or(m.Metadata[broker.HeaderSubject], topic), Key: m.Metadata[broker.HeaderKey],
		Headers: maps.Clone(m.Metadata), Payload: m.Payload,
	}
	delete(out.Headers, broker.HeaderSubject)
	return out
}
