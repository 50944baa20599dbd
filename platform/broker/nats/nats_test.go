package nats_test

import (
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap/zaptest"

	"github.com/slipwayhq/slipway/platform/broker"
	"github.com/slipwayhq/slipway/platform/broker/brokertest"
	"github.com/slipwayhq/slipway/platform/broker/nats"
	"github.com/slipwayhq/slipway/platform/internal/leaktest"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

// host is a server that can be ended and started again on its port.
type host struct {
	opts   server.Options
	server *server.Server
}

func startServer(tb testing.TB, change ...func(o *server.Options)) *host {
	tb.Helper()
	h := &host{opts: server.Options{Host: "127.0.0.1", Port: server.RANDOM_PORT, JetStream: true, StoreDir: tb.TempDir(), NoSigs: true, NoLog: true}}
	for _, c := range change {
		c(&h.opts)
	}
	h.start(tb)
	tb.Cleanup(h.stop)
	return h
}

func (h *host) start(tb testing.TB) {
	tb.Helper()
	opts := h.opts
	s, err := server.NewServer(&opts)
	require.NoError(tb, err)
	go s.Start()
	require.True(tb, s.ReadyForConnections(time.Minute))
	h.server = s
	h.opts.Port = opts.Port // the one that was free
}

// stop ends the server when it has answered what it was asked: a stream that it makes while it ends
// outlives it, with its goroutines.
func (h *host) stop() {
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); <-tick.C {
		if info, err := h.server.Jsz(nil); err != nil || info.API.Inflight == 0 {
			break
		}
	}
	h.server.Shutdown()
	h.server.WaitForShutdown()
}

func (h *host) connect(tb testing.TB) *nats.Conn {
	tb.Helper()
	c, err := nats.Connect(nats.Config{URL: h.server.ClientURL()}, zaptest.NewLogger(tb))
	require.NoError(tb, err)
	tb.Cleanup(c.Close)
	return c
}

func (h *host) publisher(tb testing.TB, mode nats.Mode) *nats.Publisher {
	tb.Helper()
	p, err := nats.NewPublisher(h.connect(tb), nats.PublisherConfig{Stream: nats.Stream{Name: "orders", Subjects: []string{"order.>"}}, Mode: mode}, prometheus.NewRegistry())
	require.NoError(tb, err)
	return p
}

func TestConformance(t *testing.T) {
	t.Parallel()
	for _, mode := range []nats.Mode{nats.ModeAsync, nats.ModeFast, nats.ModeAtomic} {
		t.Run(string(mode), func(t *testing.T) {
			t.Parallel()
			brokertest.Run(t, func(t *testing.T) brokertest.Driver {
				t.Helper()
				h := startServer(t)
				return brokertest.Driver{
					Publisher: h.publisher(t, mode),
					NewSubscriber: func(tb testing.TB) broker.Subscriber {
						tb.Helper()
						return nats.NewSubscriber(h.connect(tb), nats.SubscriberConfig{Stream: "orders"})
					},
					Subjects: [2]string{"order.placed", "order.paid"}, Pattern: "order.>", TooLarge: 2 << 20,
					Restart: func(tb testing.TB) {
						tb.Helper()
						h.stop()
						h.start(tb)
					},
				}
			})
		})
	}
}
