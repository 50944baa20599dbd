package watermill_test

import (
	"context"
	"errors"
	"sync"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/slipwayhq/slipway/platform/broker/watermill"
)

// memory is a broker that hands out messages of different keys at once, as those do
// that know ordering keys or partitions. It is a message.Publisher.
type memory struct {
	mu      sync.Mutex
	changed chan struct{} // closed when there may be something to hand out
	topics  map[string][]*message.Message
	groups  map[string]*progress // by group and topic
}

// progress is what a group has done of a topic.
type progress struct {
	acked map[int]bool
	busy  map[string]bool // keys that have a message in hand
}

func newMemory() *memory {
	return &memory{changed: make(chan struct{}), topics: map[string][]*message.Message{}, groups: map[string]*progress{}}
}

// Publish implements message.Publisher.
func (b *memory) Publish(topic string, messages ...*message.Message) error {
	b.change(func() { b.topics[topic] = append(b.topics[topic], messages...) })
	return nil
}

// Close implements message.Publisher.
func (*memory) Close() error { return nil }

func (b *memory) change(f func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	f()
	close(b.changed)
	b.changed = make(chan struct{})
}

func (b *memory) open(group string) (message.Subscriber, error) {
	return &member{b: b, group: group, closing: make(chan struct{})}, nil
}

// member is a process of a group. It is a message.Subscriber.
type member struct {
	b       *memory
	group   string
	closing chan struct{}
	wg      sync.WaitGroup
}

// Subscribe implements message.Subscriber.
func (c *member) Subscribe(ctx context.Context, topic string) (<-chan *message.Message, error) {
	select {
	case <-c.closing:
		return nil, errors.New("closed")
	default:
	}
	ctx, cancel := context.WithCancel(ctx)
	out := make(chan *message.Message)
	c.wg.Go(func() {
		defer cancel()
		for {
			at, m, changed := c.next(topic)
			if m != nil {
				c.wg.Go(func() { c.hand(ctx, topic, at, m, out) })
				continue
			}
			select {
			case <-changed:
			case <-ctx.Done():
				return
			case <-c.closing:
				return
			}
		}
	})
	return out, nil
}

// next takes the first message that is not acknowledged and has a free key.
func (c *member) next(topic string) (int, *message.Message, <-chan struct{}) {
	c.b.mu.Lock()
	defer c.b.mu.Unlock()
	p := c.b.groups[c.group+"/"+topic]
	if p == nil {
		p = &progress{acked: map[int]bool{}, busy: map[string]bool{}}
		c.b.groups[c.group+"/"+topic] = p
	}
	for at, m := range c.b.topics[topic] {
		if key := lane(m); !p.acked[at] && !p.busy[key] {
			p.busy[key] = true
			return at, m.Copy(), c.b.changed
		}
	}
	return 0, nil, c.b.changed
}

// lane is the key, or the id of a message that has none.
func lane(m *message.Message) string {
	key, _ := watermill.PartitionKey("", m)
	return key
}

// hand waits for what becomes of a message, as Watermill's drivers do.
func (c *member) hand(ctx context.Context, topic string, at int, m *message.Message, out chan<- *message.Message) {
	acked := false
	processing, through := context.WithCancel(ctx)
	defer func() {
		c.b.change(func() {
			p := c.b.groups[c.group+"/"+topic]
			p.acked[at] = acked
			delete(p.busy, lane(m))
		})
		through()
	}()
	m.SetContext(processing)
	select {
	case out <- m:
	case <-c.closing:
		return
	case <-ctx.Done():
		return
	}
	select {
	case <-m.Acked():
		acked = true
	case <-m.Nacked():
	case <-c.closing:
	case <-ctx.Done():
	}
}

// Close implements message.Subscriber.
func (c *member) Close() error {
	close(c.closing)
	c.wg.Wait()
	return nil
}
