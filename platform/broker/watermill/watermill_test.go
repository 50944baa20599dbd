package watermill_test

import (
	"context"
	"errors"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	wm "github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest"
	"go.uber.org/zap/zaptest/observer"

	"github.com/slipwayhq/slipway/platform/broker"
	"github.com/slipwayhq/slipway/platform/broker/brokertest"
	"github.com/slipwayhq/slipway/platform/broker/watermill"
	"github.com/slipwayhq/slipway/platform/internal/leaktest"
)

// patience is what a test waits for something that takes a moment.
const patience = 30 * time.Second

func TestMain(m *testing.M) { leaktest.Main(m) }

// The suite over a broker that hands out all keys at once, each message of a key when
// the one before it is acknowledged. Broken by: one handler for a topic.
func TestConformance(t *testing.T) {
	t.Parallel()
	brokertest.Run(t, func(t *testing.T) brokertest.Driver {
		t.Helper()
		b := newMemory()
		return brokertest.Driver{
			Publisher: watermill.NewPublisher(b, watermill.PublisherConfig{MaxPayload: 1 << 20}),
			NewSubscriber: func(tb testing.TB) broker.Subscriber {
				tb.Helper()
				return subscriber(tb, b.open, watermill.SubscriberConfig{})
			},
			Subjects: [2]string{"order.placed", "order.cancelled"}, Pattern: "order.>", TooLarge: 1<<20 + 1,
		}
	})
}

func subscriber(tb testing.TB, open watermill.OpenFunc, cfg watermill.SubscriberConfig) *watermill.Subscriber {
	tb.Helper()
	s, err := watermill.NewSubscriber(open, cfg, zaptest.NewLogger(tb), nil)
	require.NoError(tb, err)
	return s
}

// flaky is a publisher of Watermill that does what publish says.
type flaky struct {
	publish func(topic string, m *message.Message) error

	mu     sync.Mutex
	stored []string // ids, by the order of their arrival
}

// Publish implements message.Publisher.
func (f *flaky) Publish(topic string, messages ...*message.Message) error {
	for _, m := range messages {
		if err := f.publish(topic, m); err != nil {
			return err
		}
		f.mu.Lock()
		f.stored = append(f.stored, m.UUID)
		f.mu.Unlock()
	}
	return nil
}

// Close implements message.Publisher.
func (*flaky) Close() error { return nil }

func (f *flaky) ids() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.stored)
}

// A message that fails keeps the later ones of its key back, and no others. Broken by:
// all messages in one call; going on behind an error.
func TestPublisher_Publish_keepsTheOrderOfAKey(t *testing.T) {
	t.Parallel()
	all := brokertest.Messages("order.placed", 6, "a", "b")
	f := &flaky{publish: func(topic string, m *message.Message) error {
		require.Equal(t, "order", topic)
		if m.UUID == all[2].ID {
			return errors.New("leader is gone")
		}
		return nil
	}}
	err := watermill.NewPublisher(f, watermill.PublisherConfig{}).Publish(t.Context(), all)
	fates := broker.Outcomes(err, len(all))
	require.ErrorContains(t, fates[2], "leader is gone")
	require.ErrorIs(t, fates[4], broker.ErrSkipped)
	require.ElementsMatch(t, []string{all[0].ID, all[1].ID, all[3].ID, all[5].ID}, f.ids())
}

// hung is a publisher that hangs with the first message of each key, and has got one.
func hung(keys ...string) (f *flaky, hanging chan string, release func()) {
	hang := make(chan struct{})
	hanging = make(chan string, len(keys))
	return &flaky{publish: func(_ string, m *message.Message) error {
		if key := m.Metadata[broker.HeaderKey]; slices.Contains(keys, key) && string(m.Payload) == "0" {
			hanging <- key
			select {
			case <-hang:
			case <-m.Context().Done(): // as a driver gives up: what it has is still under way
				return m.Context().Err()
			}
		}
		return nil
	}}, hanging, sync.OnceFunc(func() { close(hang) })
}

// A publisher that hangs does not hang its caller, and no later message overtakes the
// one that it has. Broken by: no reservation of the key; a context that ends given to
// the driver; the batch of the caller read later (with -race).
func TestPublisher_Publish_givesUpWithItsContext(t *testing.T) {
	t.Parallel()
	f, hanging, release := hung("a")
	defer release()
	p := watermill.NewPublisher(f, watermill.PublisherConfig{})
	all := brokertest.Messages("order.placed", 3, "a")
	want := []string{all[0].ID, all[2].ID}
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-hanging
		cancel()
	}()
	for _, fate := range broker.Outcomes(p.Publish(ctx, all[:2]), 2) {
		require.ErrorIs(t, fate, broker.ErrUnavailable)
	}
	later := []broker.Message{all[2]}
	clear(all)
	last := make(chan error, 1)
	go func() { last <- p.Publish(t.Context(), later) }()
	select {
	case err := <-last:
		t.Fatalf("it has overtaken the one that hangs: %v", err)
	case <-time.After(50 * time.Millisecond):
	}
	release()
	require.NoError(t, <-last)
	require.Equal(t, want, f.ids())
}

// Keys that hang do not use up what others need. Broken by: waiting for a key while
// holding a slot.
func TestPublisher_Publish_publishesTheOtherKeys(t *testing.T) {
	t.Parallel()
	keys := []string{"a", "b", "c", "d", "e", "f", "g", "h"}
	f, hanging, release := hung(keys...)
	defer release()
	p := watermill.NewPublisher(f, watermill.PublisherConfig{Concurrency: len(keys)})
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		for range keys {
			<-hanging
		}
		cancel()
	}()
	require.ErrorIs(t, p.Publish(ctx, brokertest.Messages("order.placed", len(keys), keys...)), broker.ErrUnavailable)

	ctx, cancel = context.WithCancel(t.Context())
	done := make(chan error, 1)
	more := brokertest.Messages("order.paid", 9*len(keys), append(slices.Repeat(keys, 8), "1", "2", "3", "4", "5", "6", "7", "8")...)
	go func() { done <- p.Publish(ctx, more) }()
	require.Eventually(t, func() bool { return len(f.ids()) == 8 }, patience, time.Millisecond, "the keys that are free")
	cancel()
	require.ErrorIs(t, <-done, broker.ErrUnavailable)
}

// What can never be sent is refused and not tried for ever. Broken by: each check left
// out.
func TestPublisher_Publish_refuses(t *testing.T) {
	t.Parallel()
	f := &flaky{publish: func(string, *message.Message) error { return nil }}
	p := watermill.NewPublisher(f, watermill.PublisherConfig{MaxPayload: 2, Concurrency: -1})
	err := p.Publish(t.Context(), []broker.Message{
		{ID: "1", Subject: "a b", Key: "x"},
		{ID: "2", Subject: "order.placed", Payload: []byte("xx")},
		{ID: "3", Subject: "order.placed", Payload: []byte("xxx")},
		{ID: "4", Subject: "order.placed", Headers: map[string]string{"_watermill_message_uuid": "5"}},
	})
	fates := broker.Outcomes(err, 4)
	for i, part := range []string{"subject", "", "3 bytes", "_watermill_message_uuid"} {
		if part == "" {
			require.NoError(t, fates[i])
			continue
		}
		require.ErrorIs(t, fates[i], broker.ErrRefused)
		require.ErrorContains(t, fates[i], part)
	}
	require.Equal(t, []string{"2"}, f.ids())
}

// What says that the broker takes other messages clears it: the error is that of the message. Without that the
// broker counts as away. Broken by: every error marked as that of a broker that is away; no memory of the last
// failure of a key; one that outlives its success.
func TestPublisher_Publish_tellsTheMessageFromTheBroker(t *testing.T) {
	t.Parallel()
	gone, poison := errors.New("leader is gone"), errors.New("a field is missing")
	var down atomic.Bool
	f := &flaky{publish: func(_ string, m *message.Message) error {
		switch key := m.Metadata[broker.HeaderKey]; {
		case down.Load():
			return gone
		case key == "bad":
			return poison
		}
		return nil
	}}
	p := watermill.NewPublisher(f, watermill.PublisherConfig{})
	publish := func(keys ...string) []error {
		return broker.Outcomes(p.Publish(t.Context(), brokertest.Messages("order.placed", len(keys), keys...)), len(keys))
	}
	requireBlamed := func(fate, cause error, message bool) {
		t.Helper()
		require.ErrorIs(t, fate, cause)
		require.Equal(t, !message, errors.Is(fate, broker.ErrUnavailable))
		require.NotErrorIs(t, fate, broker.ErrRefused)
	}
	requireBlamed(publish("bad")[0], poison, false)
	requireBlamed(publish("bad", "good")[0], poison, true)
	requireBlamed(publish("bad")[0], poison, false)
	require.NoError(t, publish("good")[0])
	requireBlamed(publish("bad")[0], poison, true)

	down.Store(true)
	requireBlamed(publish("good")[0], gone, false)
	down.Store(false)
	require.NoError(t, publish("good")[0])
	down.Store(true)
	requireBlamed(publish("good")[0], gone, false)
}

// What the service knows to be refused is refused, alone or not. Broken by: Refused never asked.
func TestPublisher_Publish_asksWhatIsRefused(t *testing.T) {
	t.Parallel()
	f := &flaky{publish: func(_ string, m *message.Message) error {
		if m.Metadata[broker.HeaderKey] == "bad" {
			return errors.New("invalid record")
		}
		return errors.New("leader is gone")
	}}
	p := watermill.NewPublisher(f, watermill.PublisherConfig{Refused: func(err error) bool { return strings.Contains(err.Error(), "record") }})
	fates := broker.Outcomes(p.Publish(t.Context(), brokertest.Messages("order.placed", 2, "bad", "good")), 2)
	require.ErrorIs(t, fates[0], broker.ErrRefused)
	require.ErrorContains(t, fates[0], "invalid record")
	require.ErrorIs(t, fates[1], broker.ErrUnavailable)
}

// ending is a subscriber of Watermill whose topics end when they have one message
// settled.
type ending struct{ messages chan *message.Message }

// Subscribe implements message.Subscriber.
func (e ending) Subscribe(ctx context.Context, _ string) (<-chan *message.Message, error) {
	m, ok := <-e.messages
	if !ok {
		return nil, errors.New("nothing more")
	}
	one := make(chan *message.Message, 1)
	one <- m
	go func() {
		defer close(one)
		select {
		case <-m.Acked():
		case <-ctx.Done():
		}
	}()
	return one, nil
}

// Close implements message.Subscriber.
func (ending) Close() error { return nil }

// A topic that ends by itself, or a group that cannot be opened, is asked for again.
// Broken by: a subscription that returns.
func TestSubscriber_Subscribe_beginsAgain(t *testing.T) {
	t.Parallel()
	source := ending{make(chan *message.Message, 3)}
	opened := 0
	open := func(group string) (message.Subscriber, error) {
		require.Equal(t, "shipping", group)
		if opened++; opened == 2 {
			return nil, errors.New("the broker is away")
		}
		return source, nil
	}
	for _, id := range []string{"1", "2", "3"} {
		m := message.NewMessage(id, nil)
		m.Metadata[broker.HeaderSubject], m.Metadata[broker.HeaderKey], m.Metadata["tenant"] = "order.placed", "order/1", "blue"
		source.messages <- m
	}
	close(source.messages)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	var got []string
	s := subscriber(t, open, watermill.SubscriberConfig{})
	require.NoError(t, s.Subscribe(ctx, broker.Subscription{Name: "shipping", Subjects: []string{"order.>"}}, func(_ context.Context, d broker.Delivery) broker.Verdict {
		require.Equal(t, map[string]string{"tenant": "blue", broker.HeaderKey: "order/1"}, d.Headers)
		require.Equal(t, "order/1", d.Key)
		if got = append(got, d.ID); len(got) == 3 {
			cancel()
		}
		return broker.Ack()
	}))
	require.Equal(t, []string{"1", "2", "3"}, got)
}

// fixed is a subscriber of Watermill with one topic.
type fixed chan *message.Message

// Subscribe implements message.Subscriber.
func (f fixed) Subscribe(context.Context, string) (<-chan *message.Message, error) { return f, nil }

// Close implements message.Subscriber.
func (fixed) Close() error { return nil }

func (f fixed) open(string) (message.Subscriber, error) { return f, nil }

func await(t *testing.T, verdict <-chan struct{}) {
	t.Helper()
	select {
	case <-verdict:
	case <-time.After(patience):
		t.Fatal("no verdict")
	}
}

// What is not settled when the subscription ends is given back, what nobody asked for
// is not. Broken by: no Nack; no filter.
func TestSubscriber_Subscribe_givesBack(t *testing.T) {
	t.Parallel()
	source := make(fixed, 2)
	other, wanted := message.NewMessage("1", nil), message.NewMessage("2", nil)
	other.Metadata[broker.HeaderSubject], wanted.Metadata[broker.HeaderSubject] = "order.cancelled", "order.placed"
	source <- other
	source <- wanted
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	s := subscriber(t, source.open, watermill.SubscriberConfig{})
	require.NoError(t, s.Subscribe(ctx, broker.Subscription{Name: "shipping", Subjects: []string{"order.placed"}}, func(_ context.Context, d broker.Delivery) broker.Verdict {
		require.Equal(t, "order.placed", d.Subject)
		cancel()
		return broker.Nack(time.Hour)
	}))
	await(t, other.Acked())
	await(t, wanted.Nacked())
}

// The driver is given the time to pass the last acknowledgement on. Broken by: a
// session that ends at once.
func TestSubscriber_Subscribe_waitsForTheLastAcknowledgement(t *testing.T) {
	t.Parallel()
	source := make(fixed, 1)
	m := message.NewMessage("1", nil)
	processing, through := context.WithCancel(t.Context())
	m.SetContext(processing)
	source <- m
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	s, done := subscriber(t, source.open, watermill.SubscriberConfig{}), make(chan error, 1)
	var subject string
	go func() {
		done <- s.Subscribe(ctx, broker.Subscription{Name: "shipping", Subjects: []string{"order"}}, func(_ context.Context, d broker.Delivery) broker.Verdict {
			subject = d.Subject
			cancel()
			return broker.Ack()
		})
	}()
	await(t, m.Acked())
	select {
	case err := <-done:
		t.Fatalf("it did not wait: %v", err)
	case <-time.After(50 * time.Millisecond):
	}
	through()
	require.NoError(t, <-done)
	require.Equal(t, "order", subject, "that of its topic when it has none")
}

// Messages of a key that the broker hands out at once are handled one after the other,
// in no more handlers than Concurrency. Broken by: no wait for the one before; no slots.
func TestSubscriber_Subscribe_keepsTheOrderOfAKey(t *testing.T) {
	t.Parallel()
	const n, keys = 40, 8
	source := make(fixed, n)
	for i := range n {
		m := message.NewMessage(strconv.Itoa(i/keys), nil)
		m.Metadata[broker.HeaderKey] = strconv.Itoa(i % keys)
		source <- m
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	var mu sync.Mutex
	running, most, count, got := 0, 0, 0, map[string][]string{}
	s := subscriber(t, source.open, watermill.SubscriberConfig{})
	require.NoError(t, s.Subscribe(ctx, broker.Subscription{Name: "shipping", Subjects: []string{"order"}, Concurrency: 3}, func(_ context.Context, d broker.Delivery) broker.Verdict {
		mu.Lock()
		running++
		most = max(most, running)
		got[d.Key] = append(got[d.Key], d.ID)
		mu.Unlock()
		runtime.Gosched()
		mu.Lock()
		defer mu.Unlock()
		running--
		if count++; count == n {
			cancel()
		}
		return broker.Ack()
	}))
	require.LessOrEqual(t, most, 3)
	for key, ids := range got {
		require.Equal(t, []string{"0", "1", "2", "3", "4"}, ids, key)
	}
}

// A pattern without a topic is refused, not waited for. Broken by: no check.
func TestSubscriber_Subscribe_refusesPatterns(t *testing.T) {
	t.Parallel()
	s := subscriber(t, make(fixed).open, watermill.SubscriberConfig{Topic: func(subject string) string { return subject }})
	err := s.Subscribe(t.Context(), broker.Subscription{Name: "shipping", Subjects: []string{"order.>", "order.paid"}}, nil)
	require.EqualError(t, err, `subscribe: subjects: no topic has all of "order.>"`)
}

// Broken by: no counter; a series that begins with its first message.
func TestSubscriber_Subscribe_countsTheTerminated(t *testing.T) {
	t.Parallel()
	reg := prometheus.NewRegistry()
	source := make(fixed, 1)
	s, err := watermill.NewSubscriber(source.open, watermill.SubscriberConfig{}, nil, reg)
	require.NoError(t, err)
	sub := broker.Subscription{Name: "shipping", Subjects: []string{"order"}}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	require.NoError(t, s.Subscribe(ended, sub, nil))
	require.NoError(t, testutil.GatherAndCompare(reg, strings.NewReader(terminated+"0\n"), "broker_terminated_total"))
	m := message.NewMessage("1", nil)
	source <- m
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	require.NoError(t, s.Subscribe(ctx, sub, func(context.Context, broker.Delivery) broker.Verdict {
		cancel()
		return broker.Terminate("poison")
	}))
	await(t, m.Acked())
	require.NoError(t, testutil.GatherAndCompare(reg, strings.NewReader(terminated+"1\n"), "broker_terminated_total"))
	_, err = watermill.NewSubscriber(source.open, watermill.SubscriberConfig{}, nil, reg)
	require.ErrorContains(t, err, "register subscriber metrics")
}

const terminated = `# HELP broker_terminated_total Messages that a handler settled without success.
# TYPE broker_terminated_total counter
broker_terminated_total{consumer="shipping"} `

func TestPartitionKey(t *testing.T) {
	t.Parallel()
	m := message.NewMessage("1", nil)
	key, err := watermill.PartitionKey("order", m)
	require.NoError(t, err)
	require.Equal(t, "1", key)
	m.Metadata[broker.HeaderKey] = "order/7"
	key, _ = watermill.PartitionKey("order", m)
	require.Equal(t, "order/7", key)
}

func TestNewLogger(t *testing.T) {
	t.Parallel()
	core, logs := observer.New(zapcore.DebugLevel)
	log := watermill.NewLogger(zap.New(core)).With(wm.LogFields{"topic": "order"})
	log.Error("read fail", errors.New("gone"), wm.LogFields{"group": "shipping"})
	log.Info("subscribing", nil)
	log.Debug("closing", nil)
	log.Error("read fail", context.Canceled, nil)
	log.Trace("payload", nil)
	require.Equal(t, 4, logs.Len())
	require.Equal(t, map[string]any{"topic": "order", "group": "shipping", "error": "gone"}, logs.All()[0].ContextMap())
	require.Equal(t, 1, logs.FilterLevelExact(zapcore.ErrorLevel).Len())
	require.Equal(t, 3, logs.FilterLevelExact(zapcore.DebugLevel).Len())
	watermill.NewLogger(nil).Error("nobody reads this", nil, nil)
}
