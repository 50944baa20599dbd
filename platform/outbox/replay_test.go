package outbox_test

import (
	"context"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/slipwayhq/slipway/platform/broker"
	"github.com/slipwayhq/slipway/platform/outbox"
)

// replay asks for everything that was published since the beginning.
func replay(t *testing.T, pool *pgxpool.Pool) outbox.ReplayPlan {
	t.Helper()
	plan, err := outbox.NewOperator(pool).Replay(t.Context(), by, "broker", time.Unix(0, 0), false)
	require.NoError(t, err)
	return plan
}

// times returns how often each version of the aggregate has arrived.
func (s *sink) times(key string) map[string]int {
	n := map[string]int{}
	for _, version := range s.versions(key) {
		n[version]++
	}
	return n
}

func finished(t *testing.T, pool *pgxpool.Pool) bool {
	t.Helper()
	return rows[bool](t, pool, "select every(finished_at is not null) from slipway.outbox_replay")[0]
}

// A backlog is half worked off when the broker goes away: what it had of it is published again. With
// a replay that knows only the beginning of the window those are none.
func TestOperator_replayAmidABacklog(t *testing.T) {
	t.Parallel()
	pool := setup(t)
	for i := range 10 {
		add(t, t.Context(), pool, event("a", int64(i+1)))
	}
	s := &sink{}
	s.fail = func(broker.Message) error {
		if len(s.messages) == 6 {
			return broker.ErrUnavailable
		}
		return nil
	}
	cfg := quick()
	cfg.Batch = 3
	_, _, _ = start(t, pool, s, cfg)
	eventually(t, func() bool {
		return rows[bool](t, pool, "select exists (select from slipway.outbox_position where target_done = 6)")[0]
	})

	require.EqualValues(t, 6, replay(t, pool).Events)
	s.failing(nil)
	eventually(t, func() bool { return finished(t, pool) && s.times("order/a")["10"] > 0 })
	for _, version := range []string{"1", "2", "3", "4", "5", "6"} {
		require.GreaterOrEqual(t, s.times("order/a")[version], 2, version)
	}
}

// The broker goes away right after it has acknowledged an event, whose position is not stored by
// then. It is counted all the same. With a relay that tries on before it stores what it owes it is
// not, for as long as the broker is away.
func TestOperator_replayOfWhatIsOwed(t *testing.T) {
	t.Parallel()
	pool := setup(t)
	s := &sink{}
	var read func() bool
	var attempts atomic.Int64
	cfg := quick()
	cfg.Lease, cfg.Maintenance = 5*time.Second, time.Hour // no new term, no empty window in between
	relay, reg, _ := start(t, pool, publishFunc(func(ctx context.Context, m []broker.Message) error {
		if attempts.Add(1) == 1 { // the next event is read before this one is acknowledged
			add(t, ctx, pool, event("a", 2))
			eventually(t, read)
		}
		return s.Publish(ctx, m)
	}), cfg)
	read = func() bool { return value(t, reg, "outbox_window_events") == 2 }
	s.failing(func(m broker.Message) error {
		if m.Headers[broker.HeaderAggregateVersion] == "2" {
			return broker.ErrUnavailable
		}
		return nil
	})
	add(t, t.Context(), pool, event("a", 1))
	relay.Wake()
	eventually(t, func() bool { return attempts.Load() > 1 })
	eventually(t, func() bool {
		plan, err := outbox.NewOperator(pool).Replay(t.Context(), by, "broker", time.Unix(0, 0), true)
		require.NoError(t, err)
		return plan.Events == 1
	})

	replay(t, pool)
	s.failing(nil)
	eventually(t, func() bool { return finished(t, pool) && s.times("order/a")["2"] > 0 })
	require.GreaterOrEqual(t, s.times("order/a")["1"], 2)
}

// The broker goes away amid a batch, of which it has acknowledged a part. That is settled only when it
// is back, after the replay was asked for. With a replay that ends where the position was when it
// was asked for that part is not published again.
func TestOperator_replayAmidABatch(t *testing.T) {
	t.Parallel()
	pool := setup(t)
	s := &sink{fail: func(m broker.Message) error {
		if m.Key == "order/late" {
			return broker.ErrUnavailable
		}
		return nil
	}}
	add(t, t.Context(), pool, event("early", 1), event("late", 1))
	_, _, _ = start(t, pool, s, quick())
	eventually(t, func() bool { return slices.Equal(s.versions("order/early"), []string{"1"}) })

	replay(t, pool)
	s.failing(nil)
	eventually(t, func() bool { return finished(t, pool) && s.times("order/late")["1"] > 0 })
	require.GreaterOrEqual(t, s.times("order/early")["1"], 2)
}
