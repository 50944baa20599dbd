package nats_test

import (
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	natsgo "github.com/nats-io/nats.go"
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

func (h *host) publisher(tb testing.TB, cfg nats.PublisherConfig) *nats.Publisher {
	tb.Helper()
	cfg.Stream = orders
	p, err := nats.NewPublisher(h.connect(tb), cfg, prometheus.NewRegistry())
	require.NoError(tb, err)
	return p
}

// The suite in each mode, and with a server that syncs each write.
func TestConformance(t *testing.T) {
	t.Parallel()
	for name, cfg := range map[string]nats.PublisherConfig{
		"async": {Mode: nats.ModeAsync}, "fast": {Mode: nats.ModeFast}, "atomic": {Mode: nats.ModeAtomic}, "sync always": {SyncAlways: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			brokertest.Run(t, func(t *testing.T) brokertest.Driver {
				t.Helper()
				h := startServer(t, func(o *server.Options) { o.SyncAlways = cfg.SyncAlways })
				return brokertest.Driver{
					Publisher: h.publisher(t, cfg),
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

// A batch goes in the mode that was asked for, and all of it once: what the server does not take as a batch would
// come one by one. Broken by: a batch mode that is never used; one whose success is taken for a failure; SyncAlways
// that changes no mode.
func TestPublisher_Publish_mode(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct {
		cfg  nats.PublisherConfig
		mode nats.Mode
	}{
		"async": {nats.PublisherConfig{Mode: nats.ModeAsync}, nats.ModeAsync}, "fast": {nats.PublisherConfig{Mode: nats.ModeFast}, nats.ModeFast},
		"atomic": {nats.PublisherConfig{Mode: nats.ModeAtomic}, nats.ModeAtomic}, "default": {nats.PublisherConfig{}, nats.ModeFast},
		"sync always": {nats.PublisherConfig{SyncAlways: true}, nats.ModeAtomic},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := startServer(t, func(o *server.Options) { o.SyncAlways = row.cfg.SyncAlways })
			p := h.publisher(t, row.cfg)
			raw, err := natsgo.Connect(h.server.ClientURL())
			require.NoError(t, err)
			t.Cleanup(raw.Close)
			tap, err := raw.SubscribeSync("order.>")
			require.NoError(t, err)
			require.NoError(t, raw.Flush())

			batch := brokertest.Messages("order.placed", 6, "a", "b")
			require.NoError(t, p.Publish(t.Context(), batch))
			last := brokertest.Messages("order.last", 1, "a")
			require.NoError(t, p.Publish(t.Context(), last))
			for i := range batch {
				m, err := tap.NextMsg(patience)
				require.NoError(t, err)
				require.Equal(t, batch[i].ID, m.Header.Get(broker.HeaderID))
				require.Equal(t, row.mode, modeOf(m, i+1, i+1 == len(batch)))
			}
			m, err := tap.NextMsg(patience)
			require.NoError(t, err)
			require.Equal(t, last[0].ID, m.Header.Get(broker.HeaderID), "nothing comes twice")
		})
	}
}

// modeOf tells how a message was sent, as the nth of a batch.
func modeOf(m *natsgo.Msg, nth int, last bool) nats.Mode {
	switch {
	case strings.HasSuffix(m.Reply, ".$FI"):
		return nats.ModeFast
	case m.Header.Get("Nats-Batch-Sequence") == strconv.Itoa(nth) && (m.Header.Get("Nats-Batch-Commit") != "") == last:
		return nats.ModeAtomic
	default:
		return nats.ModeAsync
	}
}
