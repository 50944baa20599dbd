// Package brokertest holds the tests that every driver of a broker passes: what
// packages built on a broker rely on.
package brokertest

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/slipwayhq/slipway/platform/broker"
)

// Driver is a fresh broker for one test.
type Driver struct {
	// Publisher publishes to Subjects.
	Publisher broker.Publisher
	// NewSubscriber returns a subscriber as another process would have it.
	NewSubscriber func(tb testing.TB) broker.Subscriber
	// Subjects are two that the broker stores. Pattern, if set, covers both.
	Subjects [2]string
	Pattern  string
	// TooLarge is a size of payload that the broker refuses. 0 skips the test.
	TooLarge int
	// Serial says that a subscription handles one message at a time, whatever its
	// key: tests of keys side by side are skipped.
	Serial bool
	// Restart ends the broker and starts it again with its data. nil skips the test.
	Restart func(tb testing.TB)
}

// patience is what a test waits for something that takes milliseconds.
const patience = 90 * time.Second

// Run runs the suite. start returns a fresh broker for each test.
func Run(t *testing.T, start func(t *testing.T) Driver) {
	t.Helper()
	for name, test := range map[string]func(t *testing.T, d Driver){
		"what is published arrives as it is":                             arrives,
		"each name gets every message":                                   names,
		"messages of a key arrive in order":                              inOrder,
		"a key waits for its message that is handed over again":          redelivers,
		"a terminated message is not handed over again":                  terminates,
		"a blocked key does not hold up others":                          sideBySide,
		"a subscription that ends finishes what runs":                    finishes,
		"what one process has not settled the next gets":                 handsOver,
		"a refused message stops only its key":                           refuses,
		"an empty batch is nothing":                                      empty,
		"a subscription without a name is refused":                       invalid,
		"a pattern covers what is below it":                              pattern,
		"acknowledged messages survive a restart, and consuming goes on": restart,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, start(t))
		})
	}
}

// Messages returns n messages on a subject, of the given keys in turn; the payload
// counts them within their key.
func Messages(subject string, n int, keys ...string) []broker.Message {
	all := make([]broker.Message, n)
	for i := range all {
		key := keys[i%len(keys)]
		all[i] = broker.Message{ID: fmt.Sprintf("%s-%s-%d", subject, key, i), Subject: subject, Key: key, Payload: []byte(strconv.Itoa(i / len(keys)))}
	}
	return all
}

// consumer collects what it is handed.
type consumer struct {
	mu   sync.Mutex
	got  []broker.Delivery
	stop func()
}

// consume subscribes until stop or the end of the test. decide, if set, says what
// becomes of a message.
func consume(t *testing.T, s broker.Subscriber, sub broker.Subscription, decide func(d broker.Delivery) broker.Verdict) *consumer {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	c := &consumer{}
	done := make(chan error, 1)
	go func() {
		done <- s.Subscribe(ctx, sub, func(_ context.Context, d broker.Delivery) broker.Verdict {
			verdict := broker.Ack()
			if decide != nil {
				verdict = decide(d)
			}
			c.mu.Lock()
			defer c.mu.Unlock()
			c.got = append(c.got, d)
			return verdict
		})
	}()
	var once sync.Once
	c.stop = func() {
		once.Do(func() {
			cancel()
			require.NoError(t, <-done)
		})
	}
	t.Cleanup(c.stop)
	return c
}

func (c *consumer) all() []broker.Delivery {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]broker.Delivery{}, c.got...)
}

// distinct returns the ids in the order in which they were first handed over.
func (c *consumer) distinct() (ids []string) {
	seen := map[string]bool{}
	for _, d := range c.all() {
		if !seen[d.ID] {
			seen[d.ID] = true
			ids = append(ids, d.ID)
		}
	}
	return ids
}

// order returns the payloads of a key in the order in which they first came.
func (c *consumer) order(key string) (payloads []string) {
	seen := map[string]bool{}
	for _, d := range c.all() {
		if d.Key == key && !seen[d.ID] {
			seen[d.ID] = true
			payloads = append(payloads, string(d.Payload))
		}
	}
	return payloads
}

func eventually(t *testing.T, condition func() bool, what string) {
	t.Helper()
	require.Eventually(t, condition, patience, 5*time.Millisecond, what)
}

func publish(t *testing.T, d Driver, messages ...broker.Message) {
	t.Helper()
	require.Eventually(t, func() bool { return d.Publisher.Publish(t.Context(), messages) == nil }, patience, 20*time.Millisecond, "publish")
}

func numbers(n int) []string {
	all := make([]string, n)
	for i := range all {
		all[i] = strconv.Itoa(i)
	}
	return all
}

func subscription(d Driver, name string) broker.Subscription {
	return broker.Subscription{Name: name, Subjects: d.Subjects[:], Concurrency: 4, AckWait: 30 * time.Second}
}

func arrives(t *testing.T, d Driver) {
	t.Helper()
	big := strings.Repeat("x", 100<<10)
	want := []broker.Message{
		{ID: "1", Subject: d.Subjects[0], Key: "order/ä 1", Headers: map[string]string{"traceparent": "00-01-02-01", "tenant": "acme, inc"}, Payload: []byte{0, 1, 255}},
		{ID: "2", DedupID: "2/again", Subject: d.Subjects[1], Payload: []byte{}},
		{ID: "3", Subject: d.Subjects[0], Key: "k", Payload: []byte(big)},
	}
	publish(t, d, want...)
	c := consume(t, d.NewSubscriber(t), subscription(d, "c"), nil)
	eventually(t, func() bool { return len(c.distinct()) == 3 }, "three messages")
	got := map[string]broker.Delivery{}
	for _, m := range c.all() {
		got[m.ID] = m
	}
	for _, w := range want {
		g := got[w.ID]
		require.Equal(t, w.Subject, g.Subject)
		require.Equal(t, w.Key, g.Key)
		require.Equal(t, string(w.Payload), string(g.Payload))
		require.GreaterOrEqual(t, g.Attempt, 1)
		for name, value := range w.Headers {
			require.Equal(t, value, g.Headers[name])
		}
	}
}

func names(t *testing.T, d Driver) {
	t.Helper()
	publish(t, d, Messages(d.Subjects[0], 10, "a", "b")...)
	one, two := consume(t, d.NewSubscriber(t), subscription(d, "one"), nil), consume(t, d.NewSubscriber(t), subscription(d, "two"), nil)
	publish(t, d, Messages(d.Subjects[1], 10, "a", "b")...)
	eventually(t, func() bool { return len(one.distinct()) == 20 && len(two.distinct()) == 20 }, "both get all")
}

func inOrder(t *testing.T, d Driver) {
	t.Helper()
	keys := []string{"a", "b", "c", "d", "e", "f", "g"}
	all := Messages(d.Subjects[0], 50*len(keys), keys...)
	c := consume(t, d.NewSubscriber(t), subscription(d, "c"), nil)
	for len(all) > 0 {
		n := min(33, len(all))
		publish(t, d, all[:n]...)
		all = all[n:]
	}
	eventually(t, func() bool { return len(c.distinct()) == 50*len(keys) }, "all messages")
	for _, key := range keys {
		require.Equal(t, numbers(50), c.order(key))
	}
}

func redelivers(t *testing.T, d Driver) {
	t.Helper()
	var mu sync.Mutex
	refused := 0
	attempts := []int{}
	c := consume(t, d.NewSubscriber(t), subscription(d, "c"), func(m broker.Delivery) broker.Verdict {
		mu.Lock()
		defer mu.Unlock()
		if m.Key == "bad" && string(m.Payload) == "0" {
			attempts = append(attempts, m.Attempt)
			if refused++; refused < 4 {
				return broker.Nack(20 * time.Millisecond)
			}
		}
		return broker.Ack()
	})
	publish(t, d, Messages(d.Subjects[0], 10, "bad", "good")...)
	eventually(t, func() bool { return len(c.distinct()) == 10 }, "all messages")
	require.Equal(t, numbers(5), c.order("good"))
	var bad []string
	for _, m := range c.all() {
		if m.Key == "bad" {
			bad = append(bad, string(m.Payload))
		}
	}
	require.Equal(t, []string{"0", "0", "0", "0", "1", "2", "3", "4"}, bad)
	mu.Lock()
	defer mu.Unlock()
	require.IsIncreasing(t, attempts)
}

func terminates(t *testing.T, d Driver) {
	t.Helper()
	decide := func(m broker.Delivery) broker.Verdict {
		if string(m.Payload) == "0" {
			return broker.Terminate("poison")
		}
		return broker.Ack()
	}
	c := consume(t, d.NewSubscriber(t), subscription(d, "c"), decide)
	publish(t, d, Messages(d.Subjects[0], 3, "a")...)
	eventually(t, func() bool { return len(c.distinct()) == 3 }, "those after it")
	c.stop()
	again := consume(t, d.NewSubscriber(t), subscription(d, "c"), nil)
	publish(t, d, broker.Message{ID: "last", Subject: d.Subjects[0], Key: "a", Payload: []byte("last")})
	eventually(t, func() bool { ids := again.distinct(); return len(ids) > 0 && ids[len(ids)-1] == "last" }, "the last message")
	require.NotContains(t, again.order("a"), "0")
}

func sideBySide(t *testing.T, d Driver) {
	t.Helper()
	if d.Serial {
		t.Skip("this broker hands over one message at a time")
	}
	release := make(chan struct{})
	var running sync.Map
	c := consume(t, d.NewSubscriber(t), subscription(d, "c"), func(m broker.Delivery) broker.Verdict {
		_, twice := running.LoadOrStore(m.Key, true)
		require.False(t, twice, "two handlers of a key at once")
		defer running.Delete(m.Key)
		if m.Key == "blocked" {
			<-release
		}
		return broker.Ack()
	})
	t.Cleanup(sync.OnceFunc(func() { close(release) }))
	publish(t, d, Messages(d.Subjects[0], 20, "blocked", "free")...)
	eventually(t, func() bool { return len(c.order("free")) == 10 }, "the other key")
	require.Empty(t, c.order("blocked"))
	for range 10 {
		release <- struct{}{}
	}
	eventually(t, func() bool { return len(c.order("blocked")) == 10 }, "the key that was blocked")
}

func finishes(t *testing.T, d Driver) {
	t.Helper()
	began, release := make(chan struct{}, 10), make(chan struct{})
	c := consume(t, d.NewSubscriber(t), subscription(d, "c"), func(broker.Delivery) broker.Verdict {
		began <- struct{}{}
		<-release
		return broker.Ack()
	})
	publish(t, d, Messages(d.Subjects[0], 3, "a")...)
	<-began
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		c.stop()
	}()
	select {
	case <-stopped:
		t.Error("it did not wait for the handler")
	case <-time.After(100 * time.Millisecond):
	}
	close(release)
	<-stopped
	require.Len(t, c.all(), 1)
	next := consume(t, d.NewSubscriber(t), subscription(d, "c"), nil)
	eventually(t, func() bool { o := next.order("a"); return len(o) >= 2 && o[len(o)-1] == "2" }, "the rest")
}

func handsOver(t *testing.T, d Driver) {
	t.Helper()
	const n = 200
	keys := []string{"a", "b", "c"}
	var mu sync.Mutex
	settled := map[string][]string{}
	decide := func(limit int) func(broker.Delivery) broker.Verdict {
		count := 0
		return func(m broker.Delivery) broker.Verdict {
			mu.Lock()
			defer mu.Unlock()
			if count++; limit > 0 && count > limit {
				return broker.Nack(time.Minute)
			}
			settled[m.Key] = append(settled[m.Key], string(m.Payload))
			return broker.Ack()
		}
	}
	publish(t, d, Messages(d.Subjects[0], n*len(keys), keys...)...)
	for range 3 {
		c := consume(t, d.NewSubscriber(t), subscription(d, "c"), decide(50))
		eventually(t, func() bool { return len(c.all()) > 50 }, "some messages")
		c.stop()
	}
	_ = consume(t, d.NewSubscriber(t), subscription(d, "c"), decide(0))
	firsts := func(key string) (order []string) {
		mu.Lock()
		defer mu.Unlock()
		seen := map[string]bool{}
		for _, p := range settled[key] {
			if !seen[p] {
				seen[p] = true
				order = append(order, p)
			}
		}
		return order
	}
	for _, key := range keys {
		eventually(t, func() bool { return len(firsts(key)) == n }, "all messages of "+key)
		require.Equal(t, numbers(n), firsts(key))
	}
}

func refuses(t *testing.T, d Driver) {
	t.Helper()
	if d.TooLarge == 0 {
		t.Skip("this broker takes messages of any size")
	}
	publish(t, d, broker.Message{ID: "first", Subject: d.Subjects[0], Key: "x"})
	all := Messages(d.Subjects[0], 6, "good", "bad")
	all[1].Payload = make([]byte, d.TooLarge)
	err := d.Publisher.Publish(t.Context(), all)
	fates := broker.Outcomes(err, len(all))
	for i := range all {
		switch {
		case i == 1:
			require.ErrorIs(t, fates[i], broker.ErrRefused)
		case all[i].Key == "bad":
			require.ErrorIs(t, fates[i], broker.ErrSkipped)
		default:
			require.NoError(t, fates[i])
		}
	}
	c := consume(t, d.NewSubscriber(t), subscription(d, "c"), nil)
	eventually(t, func() bool { return len(c.order("good")) == 3 }, "the others")
	require.Empty(t, c.order("bad"))
}

func empty(t *testing.T, d Driver) {
	t.Helper()
	require.NoError(t, d.Publisher.Publish(t.Context(), nil))
}

func invalid(t *testing.T, d Driver) {
	t.Helper()
	require.Error(t, d.NewSubscriber(t).Subscribe(t.Context(), broker.Subscription{Subjects: d.Subjects[:]}, nil))
}

func pattern(t *testing.T, d Driver) {
	t.Helper()
	if d.Pattern == "" {
		t.Skip("this broker knows no patterns")
	}
	sub := subscription(d, "c")
	sub.Subjects = []string{d.Pattern}
	c := consume(t, d.NewSubscriber(t), sub, nil)
	publish(t, d, broker.Message{ID: "0", Subject: d.Subjects[0]}, broker.Message{ID: "1", Subject: d.Subjects[1]})
	eventually(t, func() bool { return len(c.distinct()) == 2 }, "both subjects")
}

func restart(t *testing.T, d Driver) {
	t.Helper()
	if d.Restart == nil {
		t.Skip("this broker cannot be restarted here")
	}
	c := consume(t, d.NewSubscriber(t), subscription(d, "c"), nil)
	publish(t, d, Messages(d.Subjects[0], 100, "a", "b")...)
	d.Restart(t)
	publish(t, d, Messages(d.Subjects[1], 100, "a", "b")...)
	eventually(t, func() bool { return len(c.distinct()) == 200 }, "messages of before and after")
}
