package outbox_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
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

// again tells whether a message is one of a replay.
func again(m broker.Message) bool { return strings.Contains(m.Dedup(), "/replay-") }

// An event that the broker does not take is left out after a bounded number of attempts, one that it
// refuses at once, and the later ones of their aggregates follow. With a replay that tries such a batch
// as it is, it never ends.
func TestOperator_replayLeavesOut(t *testing.T) {
	t.Parallel()
	pool := setup(t)
	s := &sink{}
	cfg := quick()
	cfg.MaxAttempts = 3
	_, _, _ = start(t, pool, s, cfg)
	for i := range 3 {
		add(t, t.Context(), pool, event("odd", int64(i+1)), event("bad", int64(i+1)))
	}
	eventually(t, func() bool { return s.count() == 6 })
	tries := 0
	s.failing(func(m broker.Message) error {
		switch {
		case !again(m) || m.Headers[broker.HeaderAggregateVersion] != "2":
			return nil
		case m.Key == "order/bad":
			return broker.ErrRefused
		}
		tries++
		return errors.New("hiccup")
	})
	plan := replay(t, pool)
	eventually(t, func() bool { return finished(t, pool) })
	require.Equal(t, 3, tries)
	for _, key := range []string{"order/odd", "order/bad"} {
		n := s.times(key)
		require.Equal(t, 1, n["2"], key)
		require.GreaterOrEqual(t, n["1"], 2, key)
		require.GreaterOrEqual(t, n["3"], 2, key)
	}
	p, err := outbox.NewOperator(pool).ReplayProgress(t.Context(), plan.Replay)
	require.NoError(t, err)
	require.EqualValues(t, 4, p.Published)
	require.EqualValues(t, 2, p.LeftOut)
}

// What an operator has discarded is given up: a replay does not send it. With one that asks only what
// is parked it is sent.
func TestOperator_replayWithoutWhatWasDiscarded(t *testing.T) {
	t.Parallel()
	pool := setup(t)
	s := &sink{fail: poison("order/bad")}
	_, _, _ = start(t, pool, s, quick())
	operator := outbox.NewOperator(pool)
	add(t, t.Context(), pool, event("bad", 1), event("good", 1))
	var parked []outbox.ParkedAggregate
	eventually(t, func() bool {
		var err error
		parked, err = operator.Parked(t.Context(), "", 10)
		require.NoError(t, err)
		return len(parked) == 1
	})
	require.NoError(t, operator.Discard(t.Context(), by, "", parked[0].FirstEvent))
	shown, err := operator.Show(t.Context(), parked[0].FirstEvent)
	require.NoError(t, err)
	require.Equal(t, map[string]string{"broker": "discarded"}, shown.Sinks)
	s.failing(nil)
	require.EqualValues(t, 1, replay(t, pool).Events)
	eventually(t, func() bool { return finished(t, pool) })
	require.Empty(t, s.versions("order/bad"))
	require.Equal(t, 2, s.times("order/good")["1"])
}

// A replay can be given up while a batch of it is on its way: that does not open it again, and the next
// one begins. With a relay that stores its progress whatever the operator did it goes on.
func TestOperator_cancelReplay(t *testing.T) {
	t.Parallel()
	pool := setup(t)
	s := &sink{}
	operator := outbox.NewOperator(pool)
	sending, cancelled := make(chan struct{}), make(chan struct{})
	var once sync.Once
	cfg := quick()
	cfg.Batch = 1
	_, _, _ = start(t, pool, publishFunc(func(ctx context.Context, m []broker.Message) error {
		if again(m[0]) {
			once.Do(func() {
				close(sending)
				<-cancelled
			})
		}
		return s.Publish(ctx, m)
	}), cfg)
	add(t, t.Context(), pool, event("a", 1), event("b", 1))
	eventually(t, func() bool { return s.count() == 2 })
	first := replay(t, pool)
	<-sending
	require.NoError(t, operator.CancelReplay(t.Context(), by, first.Replay))
	require.ErrorIs(t, operator.CancelReplay(t.Context(), by, first.Replay), outbox.ErrNotFound)
	second := replay(t, pool)
	close(cancelled)
	eventually(t, func() bool { return finished(t, pool) })

	p, err := operator.ReplayProgress(t.Context(), first.Replay)
	require.NoError(t, err)
	require.True(t, p.Cancelled)
	require.Zero(t, p.Published)
	p, err = operator.ReplayProgress(t.Context(), second.Replay)
	require.NoError(t, err)
	require.False(t, p.Cancelled)
	require.EqualValues(t, 2, p.Published)
	require.Equal(t, 1, len(s.versions("order/b"))-1, "the first was given up")
	entries, err := operator.Journal(t.Context(), 10)
	require.NoError(t, err)
	require.Equal(t, "cancel-replay", entries[1].Action)
}
