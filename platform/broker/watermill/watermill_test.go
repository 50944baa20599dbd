package watermill_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	wm "github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill-redisstream/pkg/redisstream"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest"
	"go.uber.org/zap/zaptest/observer"

	"github.com/slipwayhq/slipway/platform/broker"
	"github.com/slipwayhq/slipway/platform/broker/brokertest"
	"github.com/slipwayhq/slipway/platform/broker/watermill"
	"github.com/slipwayhq/slipway/platform/redisdb/redistest"
)

const patience = 30 * time.Second

func TestMain(m *testing.M) {
	// A reader of Redis Streams sleeps half a second after its end.
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/ThreeDotsLabs/watermill-redisstream/pkg/redisstream.(*Subscriber).read"))
}

// The server of a test has no persistence: that of a restart is left out.
func TestConformance(t *testing.T) {
	t.Parallel()
	brokertest.Run(t, func(t *testing.T) brokertest.Driver {
		t.Helper()
		client := redistest.New(t)
		log := watermill.NewLogger(zap.NewNop()) // its readers go on for a moment after the test
		pub, err := redisstream.NewPublisher(redisstream.PublisherConfig{Client: client}, log)
		require.NoError(t, err)
		return brokertest.Driver{
			Publisher: watermill.NewPublisher(pub, watermill.PublisherConfig{MaxPayload: 1 << 20}),
			NewSubscriber: func(tb testing.TB) broker.Subscriber {
				tb.Helper()
				return watermill.NewSubscriber(redisGroup(client.Options().Addr, log), watermill.SubscriberConfig{}, zaptest.NewLogger(tb))
			},
			Subjects: [2]string{"order.placed", "order.cancelled"}, Pattern: "order.>",
			TooLarge: 1<<20 + 1, Serial: true, OneProcess: true,
		}
	})
}

// redisGroup opens consumer groups whose processes are taken for dead soon. Each has a client of its
// own, which it closes.
func redisGroup(addr string, log wm.LoggerAdapter) watermill.OpenFunc {
	return func(group string) (message.Subscriber, error) {
		return redisstream.NewSubscriber(redisstream.SubscriberConfig{
			Client: redis.NewClient(&redis.Options{Addr: addr, DisableIdentity: true}), ConsumerGroup: group, MaxIdleTime: 200 * time.Millisecond, ClaimInterval: 50 * time.Millisecond,
			BlockTime: 20 * time.Millisecond, DisableIndefiniteInitialBlock: true,
		}, log)
	}
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

// A message that fails keeps the later ones of its key back, and no others. All messages in one call
// to the publisher would leave it unknown which were stored.
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
	require.ErrorIs(t, fates[2], broker.ErrUnavailable)
	require.ErrorContains(t, fates[2], "leader is gone")
	require.ErrorIs(t, fates[4], broker.ErrSkipped)
	require.ElementsMatch(t, []string{all[0].ID, all[1].ID, all[3].ID, all[5].ID}, f.ids())
}

// A publisher that hangs does not hang its caller, and no later message overtakes the one that it has.
// Without the reservation of the key the second call would.
func TestPublisher_Publish_givesUpWithItsContext(t *testing.T) {
	t.Parallel()
	all := brokertest.Messages("order.placed", 3, "a")
	other := brokertest.Messages("order.placed", 1, "b")
	hang, hanging := make(chan struct{}), make(chan struct{})
	f := &flaky{publish: func(_ string, m *message.Message) error {
		if m.UUID == all[0].ID {
			close(hanging)
			<-hang
		}
		return nil
	}}
	p := watermill.NewPublisher(f, watermill.PublisherConfig{})
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-hanging
		cancel()
	}()
	for _, fate := range broker.Outcomes(p.Publish(ctx, all[:2]), 2) {
		require.ErrorIs(t, fate, broker.ErrUnavailable)
	}
	require.NoError(t, p.Publish(t.Context(), other), "another key is free")
	last := make(chan error, 1)
	go func() { last <- p.Publish(t.Context(), all[2:]) }()
	select {
	case err := <-last:
		t.Fatalf("it has overtaken the one that hangs: %v", err)
	case <-time.After(50 * time.Millisecond):
	}
	close(hang)
	require.NoError(t, <-last)
	require.Equal(t, []string{other[0].ID, all[0].ID, all[2].ID}, f.ids())
}

func TestPublisher_Publish_refuses(t *testing.T) {
	t.Parallel()
	f := &flaky{publish: func(string, *message.Message) error { return nil }}
	p := watermill.NewPublisher(f, watermill.PublisherConfig{})
	err := p.Publish(t.Context(), []broker.Message{{ID: "1", Subject: "a b", Key: "x"}, {ID: "2", Subject: "order.placed"}})
	fates := broker.Outcomes(err, 2)
	require.ErrorIs(t, fates[0], broker.ErrRefused)
	require.NoError(t, fates[1])
}

// ending is a subscriber of Watermill whose topics end after a message each.
type ending struct{ messages chan *message.Message }

// Subscribe implements message.Subscriber.
func (e ending) Subscribe(context.Context, string) (<-chan *message.Message, error) {
	one := make(chan *message.Message, 1)
	m, ok := <-e.messages
	if !ok {
		return nil, errors.New("nothing more")
	}
	one <- m
	close(one)
	return one, nil
}

// Close implements message.Subscriber.
func (ending) Close() error { return nil }

// A topic that ends by itself, or a group that cannot be opened, is asked for again.
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
	s := watermill.NewSubscriber(open, watermill.SubscriberConfig{}, nil)
	require.NoError(t, s.Subscribe(ctx, broker.Subscription{Name: "shipping", Subjects: []string{"order.>"}}, func(_ context.Context, d broker.Delivery) broker.Verdict {
		require.Equal(t, map[string]string{"tenant": "blue"}, d.Headers)
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

// What is not settled when the subscription ends is given back, what nobody asked for is not.
func TestSubscriber_Subscribe_givesBack(t *testing.T) {
	t.Parallel()
	source := make(fixed, 2)
	for _, subject := range []string{"order.cancelled", "order.placed"} {
		m := message.NewMessage(subject, nil)
		m.Metadata[broker.HeaderSubject] = subject
		source <- m
	}
	other, wanted := <-source, <-source
	source <- other
	source <- wanted
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	s := watermill.NewSubscriber(func(string) (message.Subscriber, error) { return source, nil }, watermill.SubscriberConfig{}, nil)
	require.NoError(t, s.Subscribe(ctx, broker.Subscription{Name: "shipping", Subjects: []string{"order.placed"}}, func(_ context.Context, d broker.Delivery) broker.Verdict {
		require.Equal(t, "order.placed", d.ID)
		cancel()
		return broker.Nack(time.Hour)
	}))
	<-other.Acked()
	<-wanted.Nacked()
}

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
	log.Trace("payload", nil)
	require.Equal(t, 3, logs.Len())
	require.Equal(t, map[string]any{"topic": "order", "group": "shipping", "error": "gone"}, logs.All()[0].ContextMap())
	require.Equal(t, zapcore.DebugLevel, logs.All()[1].Level)
}
