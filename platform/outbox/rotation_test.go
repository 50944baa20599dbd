package outbox_test

import (
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/slipwayhq/slipway/platform/broker"
	"github.com/slipwayhq/slipway/platform/outbox"
)

// turn adds events until the child takes them.
func turn(t *testing.T, pool *pgxpool.Pool, to int) {
	t.Helper()
	var n int64
	require.Eventually(t, func() bool {
		n++
		add(t, t.Context(), pool, event("filler", n))
		return rows[int](t, pool, "select slot from slipway.outbox_rotation where current")[0] == to
	}, patience, 50*time.Millisecond)
}

// settled waits until every sink is past a closed child, and returns when the relay has looked after the
// rotation since.
func settled(t *testing.T, pool *pgxpool.Pool, reg *prometheus.Registry, child int) {
	t.Helper()
	eventually(t, func() bool {
		return rows[bool](t, pool, `select every(pg_snapshot_xmin(p.snapshot) > r.closed_xid) from slipway.outbox_position p, slipway.outbox_rotation r
			where r.slot = $1`, child)[0]
	})
	maintained(t, pool, reg)
}

// maintained returns when the relay has looked after the rotation. It looks for open transactions before
// that each time: when it has found one and none again, it has done all of it in between.
func maintained(t *testing.T, pool *pgxpool.Pool, reg *prometheus.Registry) {
	t.Helper()
	for range 2 {
		writer := begin(t, pool)
		eventually(t, func() bool { return value(t, reg, "outbox_oldest_writer_seconds") > 0 })
		require.NoError(t, writer.Rollback(t.Context()))
		eventually(t, func() bool { return value(t, reg, "outbox_oldest_writer_seconds") == 0 })
	}
}

func kept(t *testing.T, pool *pgxpool.Pool, aggregate string) bool {
	t.Helper()
	return rows[bool](t, pool, "select exists (select from slipway.outbox where aggregate_id = $1)", aggregate)[0]
}

// A broker that was away for longer than the retention can lose at once what it gets then: that is kept
// for the retention from there on. With a retention that counts from the closing of the child it
// is gone within seconds.
func TestRelay_keepsWhatWasPublishedLate(t *testing.T) {
	t.Parallel()
	pool := setup(t)
	other, set := skew(t, pool)
	s := &sink{fail: func(broker.Message) error { return broker.ErrUnavailable }}
	cfg := quick()
	cfg.Retention = time.Hour
	_, reg, _ := start(t, other, s, cfg)
	add(t, t.Context(), pool, event("late", 1))
	set(31 * time.Minute)
	turn(t, pool, 1)
	set(3 * time.Hour)
	turn(t, pool, 2)

	s.failing(nil)
	eventually(t, func() bool { return len(s.versions("order/late")) == 1 })
	settled(t, pool, reg, 0)
	require.True(t, kept(t, pool, "late"))
	plan, err := outbox.NewOperator(pool).Replay(t.Context(), by, "broker", time.Unix(0, 0), true)
	require.NoError(t, err)
	require.EqualValues(t, s.count(), plan.Events)
	set(3*time.Hour + 59*time.Minute)
	maintained(t, pool, reg)
	require.True(t, kept(t, pool, "late"))
	set(5 * time.Hour)
	eventually(t, func() bool { return !kept(t, pool, "late") })
}

// An event that comes into a closed child when that had been published, and one that a new sink has
// published a moment ago, are kept for the retention too. With a retention that begins once they go
// with the others.
func TestRelay_keepsLateEvents(t *testing.T) {
	t.Parallel()
	pool := setup(t)
	other, set := skew(t, pool)
	s := &sink{}
	cfg := quick()
	cfg.Retention = time.Hour
	_, reg, _ := start(t, other, s, cfg)
	late, err := pool.BeginTx(t.Context(), pgx.TxOptions{IsoLevel: pgx.RepeatableRead})
	require.NoError(t, err)
	defer late.Rollback(t.Context())
	exec(t, late, "select 1 from slipway.outbox_rotation") // chooses outbox_0
	add(t, t.Context(), pool, event("a", 1))
	set(31 * time.Minute)
	turn(t, pool, 1)
	settled(t, pool, reg, 0)

	set(80 * time.Minute)
	require.NoError(t, outbox.Add(t.Context(), late, event("late", 1)))
	require.NoError(t, late.Commit(t.Context()))
	eventually(t, func() bool { return len(s.versions("order/late")) == 1 })
	set(95 * time.Minute)
	maintained(t, pool, reg)
	require.True(t, kept(t, pool, "late"))

	set(150 * time.Minute)
	second := &sink{}
	cfg.Sink = "second"
	_, _, _ = start(t, other, second, cfg)
	eventually(t, func() bool { return len(second.versions("order/late")) == 1 })
	set(160 * time.Minute)
	settled(t, pool, reg, 0)
	require.True(t, kept(t, pool, "late"))
	set(4 * time.Hour)
	eventually(t, func() bool { return !kept(t, pool, "late") })
}
