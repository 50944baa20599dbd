package nats_test

import (
	"context"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	natsgo "github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
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

// owners returns the processes that began something, in turn: a name comes again when
// another began something in between.
func (j *journal) owners() (names []string) {
	for _, b := range j.of("") {
		if len(names) == 0 || names[len(names)-1] != b.process {
			names = append(names, b.process)
		}
	}
	return names
}

// requireInOrder shows that each of the keys got n messages for the first time in
// order, and that what an owner began has no gap.
func (j *journal) requireInOrder(t *testing.T, n int) {
	t.Helper()
	for _, key := range keys {
		want := make([]string, n)
		for i := range want {
			want[i] = strconv.Itoa(i)
		}
		require.Equal(t, want, j.firsts(key), key)
	}
	type line struct{ process, key string }
	next, owner := map[line]int{}, ""
	for _, b := range j.of("") {
		if b.process != owner {
			clear(next)
		}
		owner = b.process
		number, err := strconv.Atoi(b.payload)
		require.NoError(t, err)
		if want, ok := next[line{b.process, b.key}]; ok {
			require.Equal(t, want, number, "%s of %s", b.key, b.process)
		}
		next[line{b.process, b.key}] = number + 1
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
	host     *host
	proxy    *faultproxy.Proxy // of the first process
	stop     func()            // ends the first
	release  func()            // lets the handlers of the first end
	release2 func()            // and those of the second
	kill2    func()
	begun    int // by the first process
}

var keys = []string{"a", "b", "c"}

// gate returns a handler that holds messages with the payload until release.
func gate(t *testing.T, payload string) (handle func(broker.Delivery) broker.Verdict, release func()) {
	t.Helper()
	gate := make(chan struct{})
	release = sync.OnceFunc(func() { close(gate) })
	return func(d broker.Delivery) broker.Verdict {
		if string(d.Payload) == payload {
			<-gate
		}
		return broker.Ack()
	}, release
}

func newScene(t *testing.T) *scene {
	t.Helper()
	s := &scene{journal: &journal{}, host: startServer(t), begun: 4 * len(keys)}
	var handle func(broker.Delivery) broker.Verdict
	handle, s.release = gate(t, "3")
	conn, proxy := s.host.proxied(t)
	s.proxy = proxy
	s.publish(t, "order.placed", 0, 10)
	s.stop = s.host.process(t, "one", conn, consumer, handle, s.journal)
	t.Cleanup(s.release)
	require.Eventually(t, func() bool { return len(s.of("one")) == s.begun }, patience, time.Millisecond)

	handle, s.release2 = gate(t, "8")
	conn, proxy = s.host.proxied(t)
	s.kill2 = func() { kill(proxy) }
	s.host.process(t, "two", conn, consumer, handle, s.journal)
	t.Cleanup(s.release2)
	s.standby(t)
	return s
}

// kill is what the server sees of a process that is killed.
func kill(p *faultproxy.Proxy) {
	p.SetFault(faultproxy.Fault{Refuse: true})
	p.Cut()
}

// standby waits until the server knows two processes.
func (s *scene) standby(t *testing.T) {
	t.Helper()
	s.host.eventually(t, func(info *jetstream.ConsumerInfo) bool { return info.NumWaiting >= 2 })
}

// eventually waits for a state of the consumer.
func (h *host) eventually(t *testing.T, condition func(info *jetstream.ConsumerInfo) bool) {
	t.Helper()
	js := h.direct(t)
	require.Eventually(t, func() bool {
		c, err := js.Consumer(t.Context(), orders.Name, consumer.Name)
		return err == nil && condition(c.CachedInfo())
	}, patience, 5*time.Millisecond)
}

// publish publishes the messages of each key that are numbered from to end.
func (s *scene) publish(t *testing.T, subject string, from, end int) {
	t.Helper()
	p, _ := publisher(t, s.host.connect(t), nats.ModeAsync)
	batch := brokertest.Messages(subject, (end-from)*len(keys), keys...)
	for i := range batch {
		batch[i].Payload = []byte(strconv.Itoa(from + i/len(keys)))
	}
	require.NoError(t, p.Publish(t.Context(), batch))
}

// takeover shows how long it takes from now on until the second process begins.
func (s *scene) takeover(t *testing.T) {
	t.Helper()
	from := time.Now()
	require.Eventually(t, func() bool { return len(s.of("two")) > 0 }, patience, time.Millisecond)
	took := s.of("two")[0].at.Sub(from)
	t.Logf("taken over after %s", took.Round(time.Millisecond))
	require.Less(t, took, 10*time.Second, "half of the AckWait")
}

// all waits until n messages of each key have begun.
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

// What one process has in hand another one gets, in order, however the first one goes. How the subscriber was broken
// is said at each way to go.
func TestSubscriber_Subscribe_takeover(t *testing.T) {
	t.Parallel()

	// Broken by: nothing is ever abandoned; no reset of the consumer.
	t.Run("of a process that was killed and has all messages in hand", func(t *testing.T) {
		t.Parallel()
		s := newScene(t)
		s.release2()
		kill(s.proxy)
		s.takeover(t)
		s.all(t, 10)
		s.requireInOrder(t, 10)
		require.Equal(t, []string{"one", "two"}, s.owners())
	})

	// Broken by: no check of the delivery sequence; no reset of the consumer.
	t.Run("of a process that was killed while messages come in", func(t *testing.T) {
		t.Parallel()
		s := newScene(t)
		s.release2()
		kill(s.proxy)
		s.publish(t, "order.paid", 10, 15)
		s.takeover(t)
		s.all(t, 15)
		s.requireInOrder(t, 15)
		require.Equal(t, []string{"one", "two"}, s.owners())
	})

	// Broken by: handlers that begin without asking whose the messages are; a pin of
	// another taken for one's own.
	t.Run("of a process whose connection is frozen, and back", func(t *testing.T) {
		t.Parallel()
		s := newScene(t)
		s.proxy.SetFault(faultproxy.Fault{Stall: true})
		s.takeover(t)
		s.release() // the late verdicts wait in the connection, and the next messages in the process
		s.all(t, 9)
		require.Equal(t, []string{"one", "two"}, s.owners())
		s.proxy.SetFault(faultproxy.Fault{})
		s.standby(t)
		require.Equal(t, []string{"one", "two"}, s.owners())
		s.kill2()
		s.all(t, 10)
		s.publish(t, "order.paid", 10, 15)
		s.all(t, 15)
		s.requireInOrder(t, 15)
		require.Equal(t, []string{"one", "two", "one"}, s.owners())
	})

	// Broken by: no more asking for messages while the last handlers run; no letting go.
	t.Run("of a process that ends, not before its handlers have", func(t *testing.T) {
		t.Parallel()
		s := newScene(t)
		s.release2()
		var renewed atomic.Int32
		nc := s.host.direct(t).Conn()
		free, err := nc.SubscribeSync("$JS.EVENT.ADVISORY.CONSUMER.UNPINNED.orders.payment")
		require.NoError(t, err)
		_, err = nc.Subscribe("$JS.API.CONSUMER.MSG.NEXT.>", func(m *natsgo.Msg) {
			if strings.Contains(string(m.Data), `"id":`) {
				renewed.Add(1)
			}
		})
		require.NoError(t, err)
		stopped := make(chan struct{})
		go func() {
			defer close(stopped)
			s.stop()
		}()
		s.publish(t, "order.paid", 10, 15)
		require.Eventually(t, func() bool { return len(s.of("two")) > 0 || renewed.Load() >= 3 }, patience, time.Millisecond)
		require.Empty(t, s.of("two"))
		s.release()
		<-stopped
		advisory, err := free.NextMsg(patience)
		require.NoError(t, err)
		require.Contains(t, string(advisory.Data), `"reason":"admin"`, "not by timeout")
		s.takeover(t)
		s.all(t, 15)
		s.requireInOrder(t, 15)
		require.Len(t, s.of("one"), s.begun)
		for _, b := range s.of("two") {
			require.NotContains(t, []string{"0", "1", "2", "3"}, b.payload, "settled by the first")
		}
	})
}

// Broken by: a session that outlives its connection.
func TestSubscriber_Subscribe_cut(t *testing.T) {
	t.Parallel()
	h := startServer(t)
	p, _ := publisher(t, h.connect(t), nats.ModeAsync)
	require.NoError(t, p.Publish(t.Context(), brokertest.Messages("order.placed", 3, "a")))
	conn, proxy := h.proxied(t)
	j := &journal{}
	h.process(t, "one", conn, consumer, ack, j)
	h.eventually(t, func(info *jetstream.ConsumerInfo) bool { return info.AckFloor.Stream == 3 })
	proxy.SetFault(faultproxy.Fault{Drop: true})
	require.NoError(t, p.Publish(t.Context(), brokertest.Messages("order.paid", 3, "b")))
	h.eventually(t, func(info *jetstream.ConsumerInfo) bool { return info.Delivered.Stream == 6 })
	proxy.SetFault(faultproxy.Fault{})
	proxy.Cut()
	began := time.Now()
	require.Eventually(t, func() bool { return len(j.of("")) == 6 }, patience, time.Millisecond)
	require.Less(t, time.Since(began), 10*time.Second, "half of the AckWait")
	require.Equal(t, []string{"0", "1", "2"}, j.firsts("b"))
}

// Broken by: no sign that the handler is at work.
func TestSubscriber_Subscribe_slow(t *testing.T) {
	t.Parallel()
	h := startServer(t)
	sub := consumer
	sub.AckWait = 600 * time.Millisecond
	p, _ := publisher(t, h.connect(t), nats.ModeAsync)
	require.NoError(t, p.Publish(t.Context(), brokertest.Messages("order.placed", 3, "a")))
	var signs, redelivered atomic.Int32
	js := h.direct(t)
	_, err := js.Conn().Subscribe("$JS.ACK.>", func(m *natsgo.Msg) {
		if string(m.Data) == "+WPI" {
			signs.Add(1)
		}
	})
	require.NoError(t, err)
	j := &journal{}
	handle, release := gate(t, "1")
	h.process(t, "one", h.connect(t), sub, handle, j)
	t.Cleanup(release)
	h.eventually(t, func(info *jetstream.ConsumerInfo) bool {
		redelivered.Store(int32(info.NumRedelivered))
		return signs.Load() >= 12 || info.NumRedelivered > 0
	})
	require.Zero(t, redelivered.Load())
	release()
	require.Eventually(t, func() bool { return len(j.of("")) == 3 }, patience, time.Millisecond)
	h.eventually(t, func(info *jetstream.ConsumerInfo) bool { return info.NumAckPending == 0 })
	require.Equal(t, []string{"0", "1", "2"}, j.firsts("a"))
	require.Len(t, j.of(""), 3)
}

// Broken by: a subscription that returns when there is no consumer.
func TestSubscriber_Subscribe_lost(t *testing.T) {
	t.Parallel()
	h := startServer(t)
	p, _ := publisher(t, h.connect(t), nats.ModeAsync)
	require.NoError(t, p.Publish(t.Context(), brokertest.Messages("order.placed", 3, "a")))
	j := &journal{}
	h.process(t, "one", h.connect(t), consumer, ack, j)
	require.Eventually(t, func() bool { return len(j.of("")) == 3 }, patience, time.Millisecond)

	require.NoError(t, h.direct(t).DeleteStream(t.Context(), orders.Name))
	untilStored(t, p, brokertest.Messages("order.paid", 3, "b"))
	require.Eventually(t, func() bool { return len(j.of("")) == 6 }, patience, time.Millisecond)

	h.stop()
	require.NoError(t, os.RemoveAll(h.opts.StoreDir))
	h.start(t)
	untilStored(t, p, brokertest.Messages("order.sent", 3, "c"))
	require.Eventually(t, func() bool { return len(j.of("")) == 9 }, patience, time.Millisecond)
	for _, key := range keys {
		require.Equal(t, []string{"0", "1", "2"}, j.firsts(key))
	}
}
