package outbox_test

import (
	"context"
	"errors"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap/zaptest"

	"github.com/slipwayhq/slipway/platform/broker"
	"github.com/slipwayhq/slipway/platform/internal/faultproxy"
	"github.com/slipwayhq/slipway/platform/outbox"
	"github.com/slipwayhq/slipway/platform/postgres/postgrestest"
)

// startFallback runs a relay until stop, or the end of the test.
func startFallback(t *testing.T, pool *pgxpool.Pool, pub broker.Publisher, cfg outbox.Config) (relay *outbox.Fallback, reg *prometheus.Registry, stop func()) {
	t.Helper()
	reg = prometheus.NewRegistry()
	relay, err := outbox.NewFallback(pool, pub, cfg, zaptest.NewLogger(t), reg)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- relay.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		require.NoError(t, <-done)
	})
	t.Cleanup(stop)
	return relay, reg, stop
}

func setupFallback(t *testing.T) *pgxpool.Pool {
	t.Helper()
	return open(t, postgrestest.New(t, outbox.FallbackMigrations()))
}

// The same writers, faults and demands as in TestRelay_fuzz. It fails with a scan that begins above the
// last id that was published, and with a second statement for the rest of a pass: both miss an event
// that commits late and publish its successor first.
func TestFallback_fuzz(t *testing.T) {
	t.Parallel()
	pool := setupFallback(t)
	fuzz(t, pool, func(relays *pgxpool.Pool, s *sink, cfg outbox.Config) { _, _, _ = startFallback(t, relays, s, cfg) })
	require.Eventually(t, func() bool { return rows[int](t, pool, "select count(*) from slipway.outbox")[0] == 0 }, patience, 20*time.Millisecond)
	require.Empty(t, rows[string](t, pool, "select error from slipway.outbox_held"))
}

func TestFallback_publishes(t *testing.T) {
	t.Parallel()
	pool := setupFallback(t)
	ctx := t.Context()
	for i := range 30 {
		add(t, ctx, pool, event("a", int64(i+1)))
	}
	s := &sink{}
	cfg := quick()
	cfg.Batch, cfg.Poll = 2, time.Hour
	relay, reg, stop := startFallback(t, pool, s, cfg)
	eventually(t, func() bool { return s.count() == 30 })
	require.True(t, relay.Active())
	add(t, ctx, pool, event("a", 31))
	relay.Wake()
	eventually(t, func() bool { return s.count() == 31 })
	for i, version := range s.versions("order/a") {
		require.Equal(t, i+1, atoi(t, version))
	}
	eventually(t, func() bool { return rows[int](t, pool, "select count(*) from slipway.outbox")[0] == 0 })
	eventually(t, func() bool { return value(t, reg, "outbox_published_events_total") == 31 })
	stop()
	require.False(t, relay.Active())
	require.Equal(t, []bool{true}, rows[bool](t, pool, "select holder is null from slipway.outbox_sink"))
}

// An aggregate whose time comes while the outbox is read comes as a whole or not at all. Here
// clock_timestamp() is an hour later at each call; compared row by row, all but the first event
// of the aggregate are published, and the first after them.
func TestFallback_readsAtOneMoment(t *testing.T) {
	t.Parallel()
	pool := setupFallback(t)
	exec(t, pool, "create schema skewed")
	exec(t, pool, "create sequence skewed.calls")
	exec(t, pool, `create function skewed.clock_timestamp() returns timestamptz language sql volatile
		as $$ select pg_catalog.clock_timestamp() + make_interval(hours => nextval('skewed.calls')::int) $$`)
	add(t, t.Context(), pool, event("a", 1), event("a", 2), event("a", 3), event("b", 1))
	exec(t, pool, `insert into slipway.outbox_held (aggregate_type, aggregate_id, error, attempts, next_attempt_at)
		values ('order', 'a', 'hiccup', 1, now() + interval '90 minutes')`)
	s := &sink{}
	startFallback(t, open(t, skewed(t, pool)), s, quick())
	eventually(t, func() bool { return len(s.versions("order/b")) == 1 })
	require.Empty(t, s.versions("order/a"))
	exec(t, pool, "update slipway.outbox_held set next_attempt_at = now()")
	eventually(t, func() bool { return len(s.versions("order/a")) == 3 })
	require.Equal(t, []string{"1", "2", "3"}, s.versions("order/a"))
}

// What the broker refuses stays, with the later events of its aggregate, until an operator helps; what
// it does not take just now is tried again by itself.
func TestFallback_holds(t *testing.T) {
	t.Parallel()
	pool := setupFallback(t)
	ctx := t.Context()
	s := &sink{fail: func(m broker.Message) error {
		switch m.Key {
		case "order/poison":
			return broker.ErrRefused
		case "order/moody":
			return errors.New("hiccup")
		}
		return nil
	}}
	cfg := quick()
	cfg.MaxAttempts = 1000
	relay, _, _ := startFallback(t, pool, s, cfg)
	add(t, ctx, pool, event("poison", 1), event("moody", 1), event("good", 1), event("poison", 2), event("moody", 2), event("good", 2))
	relay.Wake()
	eventually(t, func() bool { return s.count() == 2 })
	require.Equal(t, []string{"1", "2"}, s.versions("order/good"))
	eventually(t, func() bool {
		return len(rows[int](t, pool, "select attempts from slipway.outbox_held where aggregate_id = 'moody' and attempts > 2")) == 1
	})
	require.Equal(t, []bool{true}, rows[bool](t, pool, "select next_attempt_at is null from slipway.outbox_held where aggregate_id = 'poison' and attempts = 1"))

	s.failing(nil)
	eventually(t, func() bool { return len(s.versions("order/moody")) == 2 })
	require.Empty(t, s.versions("order/poison"))
	exec(t, pool, "update slipway.outbox_held set next_attempt_at = now()")
	eventually(t, func() bool { return len(s.versions("order/poison")) == 2 })
	require.Equal(t, []string{"1", "2"}, s.versions("order/moody"))
	require.Equal(t, []string{"1", "2"}, s.versions("order/poison"))
	eventually(t, func() bool { return len(rows[string](t, pool, "select aggregate_id from slipway.outbox_held")) == 0 })
}

// A replica whose connections hang is replaced, and changes nothing when it wakes up: its writes are
// refused, or its session was ended by the server meanwhile. Without the term in its writes it would go
// on beside the other.
func TestFallback_staleReplica(t *testing.T) {
	t.Parallel()
	pool := setupFallback(t)
	far, proxy := behind(t, pool)
	first, second := &sink{}, &sink{}
	cfg := quick()
	cfg.Lease, cfg.Holder = 500*time.Millisecond, "stale"
	stale, _, _ := startFallback(t, far, first, cfg)
	eventually(t, stale.Active)
	cfg.Holder = "fresh"
	fresh, _, _ := startFallback(t, pool, second, cfg)
	proxy.SetFault(faultproxy.Fault{Stall: true})
	eventually(t, fresh.Active)
	add(t, t.Context(), pool, event("a", 1))
	fresh.Wake()
	eventually(t, func() bool { return second.count() == 1 })
	proxy.SetFault(faultproxy.Fault{})
	eventually(t, func() bool { return !stale.Active() })
	require.True(t, fresh.Active())
	require.Equal(t, []string{"fresh"}, rows[string](t, pool, "select holder from slipway.outbox_sink"))
	add(t, t.Context(), pool, event("a", 2))
	stale.Wake()
	fresh.Wake()
	eventually(t, func() bool { return second.count() == 2 })
	require.Zero(t, first.count())
}

func TestFallback_withoutTables(t *testing.T) {
	t.Parallel()
	pool := open(t, postgrestest.New(t))
	relay, err := outbox.NewFallback(pool, &sink{}, quick(), nil, nil)
	require.NoError(t, err)
	err = relay.Run(t.Context())
	require.ErrorIs(t, err, outbox.ErrUnsafe)
	require.ErrorContains(t, err, "FallbackMigrations")
	_, err = outbox.NewFallback(pool, &sink{}, outbox.Config{Batch: -1}, nil, nil)
	require.Error(t, err)
}

// It fails without the check: the relay runs.
func TestFallback_refusesCachedSequence(t *testing.T) {
	t.Parallel()
	pool := setupFallback(t)
	exec(t, pool, "alter sequence slipway.outbox_id_seq cache 20")
	relay, err := outbox.NewFallback(pool, &sink{}, quick(), nil, nil)
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	err = relay.Run(ctx)
	require.ErrorIs(t, err, outbox.ErrUnsafe)
	require.ErrorContains(t, err, "CACHE 1")
}

// The server dies while an event is published whose transaction did not wait for the disk: the event is
// there when it is back. Without the sign of life before publishing it never happened.
func TestFallback_noPhantoms(t *testing.T) {
	t.Parallel()
	server := startForgetful(t, outbox.FallbackMigrations())
	pool := open(t, server.URL("postgres"))
	s := &sink{}
	killed := make(chan error, 1)
	s.fail = func(m broker.Message) error {
		if m.Key == "order/phantom" && len(killed) == 0 {
			killed <- server.Kill()
		}
		return nil
	}
	cfg := quick()
	cfg.Lease, cfg.Poll = time.Minute, time.Minute // nothing of its own comes between
	relay, _, _ := startFallback(t, pool, s, cfg)
	add(t, t.Context(), pool, event("safe", 1))
	relay.Wake()
	conn, err := pgx.Connect(t.Context(), server.URL("postgres"))
	require.NoError(t, err)
	exec(t, conn, "set synchronous_commit = off")
	eventually(t, func() bool {
		return s.count() == 1 && rows[int](t, pool, "select count(*) from slipway.outbox")[0] == 0
	})
	add(t, t.Context(), conn, event("phantom", 1))
	relay.Wake()
	require.NoError(t, <-killed)
	_ = conn.Close(context.Background())
	require.NoError(t, server.Restart(t.Context()))
	require.Equal(t, []int{1}, rows[int](t, pool, "select count(*) from slipway.outbox where aggregate_id = 'phantom'"))
}

// questions counts the statements of a pool.
type questions struct{ n atomic.Int64 }

// TraceQueryStart implements pgx.QueryTracer.
func (q *questions) TraceQueryStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceQueryStartData) context.Context {
	q.n.Add(1)
	return ctx
}

// TraceQueryEnd implements pgx.QueryTracer.
func (*questions) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}

// Idle a replica makes five statements a second at most, active or not; a machine that is slow makes fewer.
// With a sign of life that is a transaction of three statements, three times a lease, the active one makes eleven.
func TestFallback_asksLittleWhenIdle(t *testing.T) {
	t.Parallel()
	cfg, err := pgxpool.ParseConfig(postgrestest.New(t, outbox.FallbackMigrations()))
	require.NoError(t, err)
	for _, name := range []string{"active", "standby"} {
		asked := &questions{}
		cfg := cfg.Copy()
		cfg.MaxConns, cfg.ConnConfig.Tracer = 6, asked
		pool, err := pgxpool.NewWithConfig(t.Context(), cfg)
		require.NoError(t, err)
		t.Cleanup(pool.Close)
		relay, _, _ := startFallback(t, pool, &sink{}, outbox.Config{Holder: name})
		eventually(t, func() bool { return relay.Active() == (name == "active") && asked.n.Load() > 20 }, "it is past its beginning")
		began, before := time.Now(), asked.n.Load()
		eventually(t, func() bool { return asked.n.Load() >= before+20 })
		most := 5*time.Since(began).Seconds() + 3 // a few may have come at the same moment
		require.Less(t, float64(asked.n.Load()-before), most, name)
	}
}

func atoi(t *testing.T, text string) (n int) {
	t.Helper()
	n, err := strconv.Atoi(text)
	require.NoError(t, err)
	return n
}
