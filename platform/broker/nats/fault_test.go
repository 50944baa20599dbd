package nats_test

import (
	"context"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	natsgo "github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap/zaptest"

	"github.com/slipwayhq/slipway/platform/broker"
	"github.com/slipwayhq/slipway/platform/broker/brokertest"
	"github.com/slipwayhq/slipway/platform/broker/nats"
	"github.com/slipwayhq/slipway/platform/internal/faultproxy"
)

// patience is what a test waits for something that takes a moment.
const patience = 60 * time.Second

// orders is the stream of these tests.
var orders = nats.Stream{Name: "orders", Subjects: []string{"order.>"}}

// everyMode runs a test for each way to send a batch.
func everyMode(t *testing.T, test func(t *testing.T, mode nats.Mode)) {
	t.Helper()
	for _, mode := range []nats.Mode{nats.ModeAsync, nats.ModeFast, nats.ModeAtomic} {
		t.Run(string(mode), func(t *testing.T) {
			t.Parallel()
			test(t, mode)
		})
	}
}

// proxied returns a connection whose bytes pass the proxy.
func (h *host) proxied(t *testing.T) (*nats.Conn, *faultproxy.Proxy) {
	t.Helper()
	proxy := faultproxy.Start(t, strings.TrimPrefix(h.server.ClientURL(), "nats://"))
	c, err := nats.Connect(nats.Config{URL: "nats://" + proxy.Addr(), RequestTimeout: time.Second}, zaptest.NewLogger(t))
	require.NoError(t, err)
	t.Cleanup(c.Close)
	return c, proxy
}

// received is how many messages the server has read from its clients.
func (h *host) received(t *testing.T) int64 {
	t.Helper()
	v, err := h.server.Varz(&server.VarzOptions{})
	require.NoError(t, err)
	return v.InMsgs
}

// direct returns a connection beside the driver.
func (h *host) direct(t *testing.T) jetstream.JetStream {
	t.Helper()
	nc, err := natsgo.Connect(h.server.ClientURL())
	require.NoError(t, err)
	t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	require.NoError(t, err)
	return js
}

// stored reads the stream from its first message on.
func (h *host) stored(t *testing.T) (messages []*jetstream.RawStreamMsg) {
	t.Helper()
	stream, err := h.direct(t).Stream(t.Context(), orders.Name)
	require.NoError(t, err)
	state := stream.CachedInfo().State
	for seq := max(state.FirstSeq, 1); seq <= state.LastSeq; seq++ {
		m, err := stream.GetMsg(t.Context(), seq)
		require.NoError(t, err)
		messages = append(messages, m)
	}
	return messages
}

// requireOnce shows that the stream has each message once, and those of a key in the
// order of the batch.
func (h *host) requireOnce(t *testing.T, batch []broker.Message) {
	t.Helper()
	want, got := map[string][]string{}, map[string][]string{}
	for _, m := range batch {
		want[m.Key] = append(want[m.Key], m.ID)
	}
	for _, m := range h.stored(t) {
		key := m.Header.Get(broker.HeaderKey)
		got[key] = append(got[key], m.Header.Get(broker.HeaderID))
	}
	require.Equal(t, want, got)
}

func publisher(t *testing.T, c *nats.Conn, mode nats.Mode) (*nats.Publisher, *prometheus.Registry) {
	t.Helper()
	reg := prometheus.NewRegistry()
	p, err := nats.NewPublisher(c, nats.PublisherConfig{Stream: orders, Mode: mode, AckTimeout: 20 * time.Second}, reg)
	require.NoError(t, err)
	return p, reg
}

func duplicates(t *testing.T, reg *prometheus.Registry) int {
	t.Helper()
	families, err := reg.Gather()
	require.NoError(t, err)
	for _, f := range families {
		if f.GetName() == "broker_duplicates_total" {
			return int(f.GetMetric()[0].GetCounter().GetValue())
		}
	}
	t.Fatal("no such metric")
	return 0
}

// failed returns what of the batch is to be published again.
func failed(err error, batch []broker.Message) (again []broker.Message) {
	for i, fate := range broker.Outcomes(err, len(batch)) {
		if fate != nil {
			again = append(again, batch[i])
		}
	}
	return again
}

// untilStored publishes what failed again, with the same ids, until nothing fails.
func untilStored(t *testing.T, p *nats.Publisher, batch []broker.Message) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for len(batch) > 0 {
		require.True(t, time.Now().Before(deadline), "still failing")
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		batch = failed(p.Publish(ctx, batch), batch)
		cancel()
	}
}

// Broken by: no Nats-Msg-Id; no count of duplicates; a missing acknowledgement taken for one.
func TestPublisher_Publish_cut(t *testing.T) {
	t.Parallel()
	everyMode(t, func(t *testing.T, mode nats.Mode) {
		t.Helper()
		t.Run("in the middle of the batch, each message is stored once after all", func(t *testing.T) {
			t.Parallel()
			h := startServer(t)
			conn, proxy := h.proxied(t)
			p, _ := publisher(t, conn, mode)
			batch := brokertest.Messages("order.placed", 300, "a", "b", "c", "d", "e")
			for i := range batch {
				batch[i].Payload = append(batch[i].Payload, make([]byte, 1<<10)...)
			}
			require.NoError(t, conn.EnsureStream(t.Context(), orders))
			before := h.received(t)
			proxy.SetFault(faultproxy.Fault{BytesPerSecond: 1 << 20})
			ctx, giveUp := context.WithTimeout(t.Context(), 20*time.Second)
			defer giveUp()
			result := make(chan error, 1)
			go func() { result <- p.Publish(ctx, batch) }()
			require.Eventually(t, func() bool { return h.received(t) > before+30 }, patience, time.Millisecond)
			kill(proxy)
			giveUp()
			err := <-result
			require.ErrorIs(t, err, broker.ErrUnavailable)
			proxy.SetFault(faultproxy.Fault{})
			untilStored(t, p, failed(err, batch))
			h.requireOnce(t, batch)
		})

		t.Run("before the acknowledgement, the repetition is counted and not stored", func(t *testing.T) {
			t.Parallel()
			h := startServer(t)
			conn, proxy := h.proxied(t)
			p, reg := publisher(t, conn, mode)
			batch := brokertest.Messages("order.placed", 8, "a", "b", "c", "d", "e", "f", "g", "h")
			first := broker.Message{ID: "first", Subject: "order.placed", Key: "z"}
			require.NoError(t, p.Publish(t.Context(), []broker.Message{first}))
			proxy.SetFault(faultproxy.Fault{Delay: 200 * time.Millisecond})
			stream, err := h.direct(t).Stream(t.Context(), orders.Name)
			require.NoError(t, err)
			ctx, giveUp := context.WithTimeout(t.Context(), 2*time.Second)
			defer giveUp()
			result := make(chan error, 1)
			go func() { result <- p.Publish(ctx, batch) }()
			require.Eventually(t, func() bool {
				info, err := stream.Info(t.Context())
				return err == nil && info.State.Msgs > 1
			}, patience, time.Millisecond)
			kill(proxy)
			giveUp()
			err = <-result
			again := failed(err, batch)
			require.NotEmpty(t, again)
			arrived := map[string]bool{}
			for _, m := range h.stored(t) {
				arrived[m.Header.Get(broker.HeaderID)] = true
			}
			known := 0
			for _, m := range again {
				if arrived[m.ID] {
					known++
				}
			}
			require.Positive(t, known)
			proxy.SetFault(faultproxy.Fault{})
			untilStored(t, p, again)
			h.requireOnce(t, append([]broker.Message{first}, batch...))
			if mode != nats.ModeFast { // which does not tell
				require.GreaterOrEqual(t, duplicates(t, reg), known)
			}
		})
	})
}

// Broken by: a wait for acknowledgements that does not end with the caller's.
func TestPublisher_Publish_stopped(t *testing.T) {
	t.Parallel()
	everyMode(t, func(t *testing.T, mode nats.Mode) {
		t.Helper()
		h := startServer(t)
		p, _ := publisher(t, h.connect(t), mode)
		var acked, all []broker.Message
		stopped := make(chan struct{})
		var once sync.Once
		for n := 0; ; n++ {
			batch := brokertest.Messages(fmt.Sprintf("order.%d", n), 50, "a", "b", "c")
			all = append(all, batch...)
			if n == 3 {
				go once.Do(func() { defer close(stopped); h.stop() })
			}
			ctx, cancel := context.WithTimeout(t.Context(), 15*time.Second) // less than the publisher waits by itself
			err := p.Publish(ctx, batch)
			require.NoError(t, ctx.Err())
			cancel()
			if err != nil {
				require.ErrorIs(t, err, broker.ErrUnavailable)
				for i, fate := range broker.Outcomes(err, len(batch)) {
					if fate == nil {
						acked = append(acked, batch[i])
					}
				}
				untilDown(t, p, stopped)
				h.start(t)
				untilStored(t, p, failed(err, batch))
				break
			}
			acked = append(acked, batch...)
		}
		require.NotEmpty(t, acked)
		h.requireOnce(t, all)
	})
}

// untilDown shows what a server that is down looks like.
func untilDown(t *testing.T, p *nats.Publisher, stopped <-chan struct{}) {
	t.Helper()
	<-stopped
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	require.ErrorIs(t, p.Publish(ctx, brokertest.Messages("order.never", 3, "x")), broker.ErrUnavailable)
	require.NoError(t, ctx.Err())
	require.Eventually(t, func() bool {
		return strings.Contains(p.Publish(ctx, brokertest.Messages("order.never", 1, "x")).Error(), "no connection to nats")
	}, patience, 10*time.Millisecond)
}

// Broken by: waiting for acknowledgements for AckTimeout, whatever the caller's deadline.
func TestPublisher_Publish_frozen(t *testing.T) {
	t.Parallel()
	everyMode(t, func(t *testing.T, mode nats.Mode) {
		t.Helper()
		h := startServer(t)
		conn, proxy := h.proxied(t)
		p, _ := publisher(t, conn, mode)
		require.NoError(t, p.Publish(t.Context(), brokertest.Messages("order.placed", 2, "a")))
		proxy.SetFault(faultproxy.Fault{Stall: true})
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		defer cancel()
		began := time.Now()
		batch := brokertest.Messages("order.paid", 20, "a", "b")
		err := p.Publish(ctx, batch)
		require.ErrorIs(t, err, broker.ErrUnavailable)
		require.Less(t, time.Since(began), 10*time.Second, "it waits for longer than the caller does")
		proxy.SetFault(faultproxy.Fault{})
		untilStored(t, p, failed(err, batch))
		h.requireOnce(t, append(brokertest.Messages("order.placed", 2, "a"), batch...))
	})
}

// Broken by: a stream that stays declared; a batch that leaves no time for the reason.
func TestPublisher_Publish_lost(t *testing.T) {
	t.Parallel()
	everyMode(t, func(t *testing.T, mode nats.Mode) {
		t.Helper()
		h := startServer(t)
		conn := h.connect(t)
		p, _ := publisher(t, conn, mode)
		require.NoError(t, p.Publish(t.Context(), brokertest.Messages("order.placed", 10, "a")))
		h.stop()
		require.NoError(t, os.RemoveAll(h.opts.StoreDir))
		h.start(t)
		require.Eventually(t, func() bool { return conn.HealthCheck(t.Context()) == nil }, patience, 5*time.Millisecond)
		batch := brokertest.Messages("order.paid", 10, "a", "b")
		ctx, cancel := context.WithTimeout(t.Context(), 1500*time.Millisecond)
		defer cancel()
		err := p.Publish(ctx, batch)
		require.ErrorIs(t, err, broker.ErrUnavailable)
		require.ErrorContains(t, err, "stream orders is missing")
		untilStored(t, p, batch)
		h.requireOnce(t, batch)
	})
}

// Broken by: no Nats-Msg-Id; ID in its place.
func TestPublisher_Publish_twice(t *testing.T) {
	t.Parallel()
	everyMode(t, func(t *testing.T, mode nats.Mode) {
		t.Helper()
		h := startServer(t)
		one, _ := publisher(t, h.connect(t), mode)
		two, reg := publisher(t, h.connect(t), mode)
		batch := brokertest.Messages("order.placed", 6, "a", "b")
		require.NoError(t, one.Publish(t.Context(), batch))
		require.NoError(t, two.Publish(t.Context(), batch))
		h.requireOnce(t, batch)
		if mode != nats.ModeFast {
			require.Equal(t, len(batch), duplicates(t, reg))
		}

		again := brokertest.Messages("order.placed", 6, "a", "b")
		for i := range again {
			again[i].DedupID = again[i].ID + "/again"
		}
		require.NoError(t, two.Publish(t.Context(), again))
		h.requireOnce(t, append(batch, again...))
	})
}

// Broken by: waves ignoring busy keys, and failed ones; an error of the server taken for
// an acknowledgement.
func TestPublisher_Publish_refused(t *testing.T) {
	t.Parallel()
	everyMode(t, func(t *testing.T, mode nats.Mode) {
		t.Helper()
		h := startServer(t)
		p, _ := publisher(t, h.connect(t), mode)
		require.NoError(t, p.Publish(t.Context(), brokertest.Messages("order.first", 1, "a")))
		js := h.direct(t)
		stream, err := js.Stream(t.Context(), orders.Name)
		require.NoError(t, err)
		cfg := stream.CachedInfo().Config
		cfg.MaxMsgSize = 1024
		_, err = js.UpdateStream(t.Context(), cfg)
		require.NoError(t, err)

		batch := brokertest.Messages("order.placed", 9, "a", "b", "c")
		batch[3].Payload = make([]byte, 2048) // the second of a
		fates := broker.Outcomes(p.Publish(t.Context(), batch), len(batch))
		require.ErrorIs(t, fates[3], broker.ErrRefused)
		require.ErrorIs(t, fates[6], broker.ErrSkipped)
		want := brokertest.Messages("order.first", 1, "a")
		for i, fate := range fates {
			if i == 3 || i == 6 {
				continue
			}
			require.NoError(t, fate)
			want = append(want, batch[i])
		}
		h.requireOnce(t, want)
	})
}
