package redisgroup_test

import (
	"context"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	wm "github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill-redisstream/pkg/redisstream"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/slipwayhq/slipway/platform/broker"
	"github.com/slipwayhq/slipway/platform/broker/brokertest"
	"github.com/slipwayhq/slipway/platform/broker/watermill"
	"github.com/slipwayhq/slipway/platform/broker/watermill/redisgroup"
	"github.com/slipwayhq/slipway/platform/internal/faultproxy"
	"github.com/slipwayhq/slipway/platform/redisdb/redistest"
)

// patience is what a test waits for something that takes a moment.
const patience = 60 * time.Second

func TestMain(m *testing.M) {
	// A reader goes on for a moment when its subscriber is closed.
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/ThreeDotsLabs/watermill-redisstream/pkg/redisstream.(*Subscriber).read"))
}

func publisher(t *testing.T, client redis.UniversalClient) *watermill.Publisher {
	t.Helper()
	pub, err := redisstream.NewPublisher(redisstream.PublisherConfig{Client: client}, wm.NopLogger{})
	require.NoError(t, err)
	return watermill.NewPublisher(pub, watermill.PublisherConfig{MaxPayload: 1 << 20})
}

func subscriber(tb testing.TB, addr string, log *zap.Logger) *watermill.Subscriber {
	tb.Helper()
	open := redisgroup.Open(redis.Options{Addr: addr, DisableIdentity: true}, log)
	s, err := watermill.NewSubscriber(open, watermill.SubscriberConfig{}, log, nil)
	require.NoError(tb, err)
	return s
}

// The whole suite, with the order of keys over processes that come one after the
// other. Broken by: groups opened with Watermill's defaults.
func TestConformance(t *testing.T) {
	t.Parallel()
	brokertest.Run(t, func(t *testing.T) brokertest.Driver {
		t.Helper()
		server := redistest.Start(t)
		client := redis.NewClient(&redis.Options{Addr: server.Addr(), DisableIdentity: true})
		t.Cleanup(func() { client.Close() })
		d := brokertest.Driver{
			Publisher: publisher(t, client),
			NewSubscriber: func(tb testing.TB) broker.Subscriber {
				tb.Helper()
				return subscriber(tb, server.Addr(), nil)
			},
			Subjects: [2]string{"order.placed", "order.cancelled"}, Pattern: "order.>",
			TooLarge: 1<<20 + 1, Serial: true,
		}
		if _, err := exec.LookPath("redis-server"); err == nil { // others forget what they saved
			d.Restart = func(tb testing.TB) {
				tb.Helper()
				require.NoError(tb, client.Save(t.Context()).Err())
				server.Restart()
			}
		}
		return d
	})
}

// shipping consumes all messages of the tests.
var shipping = broker.Subscription{Name: "shipping", Subjects: []string{"order.>"}}

// journal is what was handled, by payload.
type journal struct {
	mu      sync.Mutex
	handled []string
}

func (j *journal) write(d broker.Delivery) int {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.handled = append(j.handled, string(d.Payload))
	return len(j.handled)
}

func (j *journal) all() []string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return slices.Clone(j.handled)
}

func numbers(n int) []string {
	all := make([]string, n)
	for i := range all {
		all[i] = strconv.Itoa(i)
	}
	return all
}

// A process that ends in good order and starts again handles each message once, and in
// order. Broken by: Watermill's MaxIdleTime.
func TestOpen_restarts(t *testing.T) {
	t.Parallel()
	const n = 60
	client := redistest.New(t)
	require.NoError(t, publisher(t, client).Publish(t.Context(), brokertest.Messages("order.placed", n, "a")))
	var j journal
	for len(j.all()) < n {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		require.NoError(t, subscriber(t, client.Options().Addr, nil).Subscribe(ctx, shipping, func(_ context.Context, d broker.Delivery) broker.Verdict {
			if j.write(d)%5 == 0 {
				cancel()
			}
			return broker.Ack()
		}))
		require.ErrorIs(t, ctx.Err(), context.Canceled, "more messages")
	}
	require.Equal(t, numbers(n), j.all())
}

// pending is what Redis takes to be in hand, nothing while there is no group.
func pending(t *testing.T, client *redis.Client) []redis.XPendingExt {
	t.Helper()
	return client.XPendingExt(t.Context(), &redis.XPendingExtArgs{Stream: "order", Group: shipping.Name, Start: "-", End: "+", Count: 10}).Val()
}

// consume handles what is on the server of addr until the test ends.
func consume(t *testing.T, addr string, handle func(d broker.Delivery)) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	s, done := subscriber(t, addr, nil), make(chan error, 1)
	go func() {
		done <- s.Subscribe(ctx, shipping, func(_ context.Context, d broker.Delivery) broker.Verdict {
			handle(d)
			return broker.Ack()
		})
	}()
	t.Cleanup(func() {
		cancel()
		require.NoError(t, <-done)
	})
}

// A message whose delivery is lost on its way is handed over before those behind it.
// Broken by: reads that the client repeats; sessions that go on behind an error.
func TestOpen_lost(t *testing.T) {
	t.Parallel()
	client := redistest.New(t)
	proxy := faultproxy.Start(t, client.Options().Addr)
	var j journal
	consume(t, proxy.Addr(), func(d broker.Delivery) { j.write(d) })
	p := publisher(t, client)
	published := 0
	send := func() {
		m := broker.Message{ID: strconv.Itoa(published), Subject: "order.placed", Key: "a", Payload: []byte(strconv.Itoa(published))}
		require.NoError(t, p.Publish(t.Context(), []broker.Message{m}))
		published++
	}
	send()
	for lost := 0; lost < 3; {
		require.Eventually(t, func() bool {
			return len(j.all()) == published && len(pending(t, client)) == 0 &&
				strings.Contains(client.Info(t.Context(), "clients").Val(), "blocked_clients:1")
		}, patience, time.Millisecond, "all handled, and a reader that waits for more")
		proxy.SetFault(faultproxy.Fault{Drop: true})
		send()
		if len(pending(t, client)) == 1 { // else the reader has just ended its turn
			lost++
		}
		send()
		proxy.SetFault(faultproxy.Fault{})
		proxy.Cut()
	}
	require.Eventually(t, func() bool { return len(j.all()) == published }, patience, time.Millisecond)
	require.Equal(t, numbers(published), j.all())
}

// A session does not claim what it has in hand itself. Broken by: claiming whatever is
// idle.
func TestOpen_slow(t *testing.T) {
	t.Parallel()
	client := redistest.New(t)
	release := make(chan struct{})
	var j journal
	consume(t, client.Options().Addr, func(d broker.Delivery) {
		<-release
		j.write(d)
	})
	t.Cleanup(sync.OnceFunc(func() { close(release) }))
	require.NoError(t, publisher(t, client).Publish(t.Context(), brokertest.Messages("order.placed", 1, "a")))
	require.Eventually(t, func() bool { return len(pending(t, client)) == 1 }, patience, time.Millisecond)
	for began := time.Now(); time.Since(began) < 2500*time.Millisecond; { // two intervals of claiming
		inHand := pending(t, client)
		require.False(t, len(inHand) == 1 && inHand[0].RetryCount > 1)
	}
}

// Nobody is alarmed by a subscription that ends. Broken by: errors of closed clients
// in the log.
func TestOpen_ends(t *testing.T) {
	t.Parallel()
	client := redistest.New(t)
	core, logs := observer.New(zapcore.WarnLevel)
	for range 5 {
		ctx, cancel := context.WithCancel(t.Context())
		require.NoError(t, publisher(t, client).Publish(t.Context(), brokertest.Messages("order.placed", 1, "a")))
		require.NoError(t, subscriber(t, client.Options().Addr, zap.New(core)).Subscribe(ctx, shipping, func(context.Context, broker.Delivery) broker.Verdict {
			cancel()
			return broker.Ack()
		}))
	}
	require.Empty(t, logs.All())
}
