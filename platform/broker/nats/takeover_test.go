package nats_test

import (
	"context"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/slipwayhq/slipway/platform/broker"
	"github.com/slipwayhq/slipway/platform/broker/brokertest"
	"github.com/slipwayhq/slipway/platform/broker/nats"
	"github.com/slipwayhq/slipway/platform/internal/faultproxy"
)

// journal is what all processes of a subscription began, in order of time.
type journal struct {
	mu    sync.Mutex
	begun []begin
}

type begin struct {
	process, key, payload string
	at                    time.Time
}

func (j *journal) write(process string, d broker.Delivery) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.begun = append(j.begun, begin{process, d.Key, string(d.Payload), time.Now()})
}

// of returns what a process began, "" for all.
func (j *journal) of(process string) (some []begin) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, b := range j.begun {
		if process == "" || b.process == process {
			some = append(some, b)
		}
	}
	return some
}

// firsts returns the payloads of a key in the order in which they were first begun.
func (j *journal) firsts(key string) (payloads []string) {
	seen := map[string]bool{}
	for _, b := range j.of("") {
		if b.key == key && !seen[b.payload] {
			seen[b.payload] = true
			payloads = append(payloads, b.payload)
		}
	}
	return payloads
}

// requireInOrder shows that each of the keys got n messages in order, that each
// process had them in order without a gap, and that the first began nothing after
// the second had begun.
func (j *journal) requireInOrder(t *testing.T, n int, keys ...string) {
	t.Helper()
	for _, key := range keys {
		require.Len(t, j.firsts(key), n)
		next := map[string]int{}
		for _, b := range j.of("") {
			if b.key != key {
				continue
			}
			number, err := strconv.Atoi(b.payload)
			require.NoError(t, err)
			if last, ok := next[b.process]; ok {
				require.Equal(t, last, number, "%s of %s", key, b.process)
			}
			next[b.process] = number + 1
			if b.process == "one" {
				require.NotContains(t, next, "two", "the first process began %s of %s after the second", b.payload, key)
			}
		}
	}
}

// process is one that consumes until it is stopped.
func (h *host) process(t *testing.T, name string, c *nats.Conn, sub broker.Subscription, handle func(d broker.Delivery) broker.Verdict, j *journal) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	s := nats.NewSubscriber(c, nats.SubscriberConfig{Stream: orders.Name})
	go func() {
		done <- s.Subscribe(ctx, sub, func(_ context.Context, d broker.Delivery) broker.Verdict {
			j.write(name, d)
			return handle(d)
		})
	}()
	stop = sync.OnceFunc(func() {
		cancel()
		require.NoError(t, <-done)
	})
	t.Cleanup(stop)
	return stop
}

var consumer = broker.Subscription{Name: "payment", Subjects: []string{"order.>"}, Concurrency: 4, AckWait: 20 * time.Second}

func ack(broker.Delivery) broker.Verdict { return broker.Ack() }

// scene is a process that has messages in hand, one of each key in its handlers, and
// another that stands by.
type scene struct {
	*journal
	host    *host
	proxy   *faultproxy.Proxy // of the first process
	release func()            // lets the handlers of the first end
	begun   int               // by the first process
}

var keys = []string{"a", "b", "c"}

func newScene(t *testing.T) *scene {
	t.Helper()
	s := &scene{journal: &journal{}, host: startServer(t)}
	gate := make(chan struct{})
	s.release = sync.OnceFunc(func() { close(gate) })
	var conn *nats.Conn
	conn, s.proxy = s.host.proxied(t)
	s.publish(t, "order.placed", 10*len(keys), 0)
	s.host.process(t, "one", conn, consumer, func(d broker.Delivery) broker.Verdict {
		if string(d.Payload) == "3" {
			<-gate
		}
		return broker.Ack()
	}, s.journal)
	t.Cleanup(s.release)
	s.begun = 4 * len(keys)
	require.Eventually(t, func() bool { return len(s.of("one")) == s.begun }, patience, time.Millisecond)
	s.host.process(t, "two", s.host.connect(t), consumer, ack, s.journal)
	s.standby(t)
	return s
}

// standby waits until the server knows the second process.
func (s *scene) standby(t *testing.T) {
	t.Helper()
	c, err := s.host.direct(t).Consumer(t.Context(), orders.Name, consumer.Name)
	require.NoError(t, err)
	require.Eventually(t, func() bool {
		info, err := c.Info(t.Context())
		return err == nil && info.NumWaiting >= 2
	}, patience, 5*time.Millisecond)
}

// publish publishes n messages, of the keys in turn, numbered from on.
func (s *scene) publish(t *testing.T, subject string, n, from int) {
	t.Helper()
	p, _ := publisher(t, s.host.connect(t), nats.ModeAsync)
	batch := brokertest.Messages(subject, n, keys...)
	for i := range batch {
		batch[i].Payload = []byte(strconv.Itoa(from + i/len(keys)))
	}
	require.NoError(t, p.Publish(t.Context(), batch))
}

// takeover returns how long it takes from now on until the second process begins.
func (s *scene) takeover(t *testing.T) time.Duration {
	t.Helper()
	from := time.Now()
	require.Eventually(t, func() bool { return len(s.of("two")) > 0 }, patience, time.Millisecond)
	took := s.of("two")[0].at.Sub(from)
	t.Logf("taken over after %s", took.Round(time.Millisecond))
	return took
}

func (s *scene) all(t *testing.T, n int) {
	t.Helper()
	require.Eventually(t, func() bool {
		for _, key := range keys {
			if len(s.firsts(key)) < n {
				return false
			}
		}
		return true
	}, patience, 5*time.Millisecond)
}

func TestSubscriber_Subscribe_takeover(t *testing.T) {
	t.Parallel()

	t.Run("of a process that was killed", func(t *testing.T) {
		t.Parallel()
		s := newScene(t)
		s.proxy.SetFault(faultproxy.Fault{Refuse: true})
		s.proxy.Cut()
		require.Less(t, s.takeover(t), 5*time.Second)
		s.all(t, 10)
		s.publish(t, "order.paid", 5*len(keys), 10)
		s.all(t, 15)
		s.requireInOrder(t, 15, keys...)
		require.Len(t, s.of("one"), s.begun)
	})

	t.Run("of a process whose connection is frozen", func(t *testing.T) {
		t.Parallel()
		s := newScene(t)
		s.proxy.SetFault(faultproxy.Fault{Stall: true})
		require.Less(t, s.takeover(t), 5*time.Second)
		s.release()
		s.all(t, 10)
		s.proxy.SetFault(faultproxy.Fault{})
		s.publish(t, "order.paid", 5*len(keys), 10)
		s.all(t, 15)
		s.requireInOrder(t, 15, keys...)
		require.Len(t, s.of("one"), s.begun)
	})
}
