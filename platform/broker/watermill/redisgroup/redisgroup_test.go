package redisgroup_test

import (
	"context"
	"os/exec"
	"slices"
	"strconv"
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
// order. Broken by: Watermill's defaults; a session that ends before the driver has
// passed on the last acknowledgement.
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

// A connection that is cut again and again costs duplicates at most: also an answer of
// Redis that is lost on its way is handed over in order. Broken by: reads that are
// repeated by the client; sessions that go on behind an error.
func TestOpen_cut(t *testing.T) {
	t.Parallel()
	const n = 200
	client := redistest.New(t)
	proxy := faultproxy.Start(t, client.Options().Addr)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	var j journal
	seen := map[string]bool{}
	p := publisher(t, client)
	go func() {
		for _, m := range brokertest.Messages("order.placed", n, "a") {
			_ = p.Publish(ctx, []broker.Message{m})
			if i, _ := strconv.Atoi(string(m.Payload)); i%20 == 10 {
				proxy.SetFault(faultproxy.Fault{Drop: true})
			}
			if i, _ := strconv.Atoi(string(m.Payload)); i%20 == 12 {
				proxy.SetFault(faultproxy.Fault{})
				proxy.Cut()
			}
		}
	}()
	require.NoError(t, subscriber(t, proxy.Addr(), nil).Subscribe(ctx, shipping, func(_ context.Context, d broker.Delivery) broker.Verdict {
		if !seen[string(d.Payload)] {
			seen[string(d.Payload)] = true
			j.write(d)
		}
		if len(seen) == n {
			cancel()
		}
		return broker.Ack()
	}))
	require.Equal(t, numbers(n), j.all())
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
