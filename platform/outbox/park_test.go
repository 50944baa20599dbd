package outbox_test

import (
	"errors"
	"fmt"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/slipwayhq/slipway/platform/broker"
	"github.com/slipwayhq/slipway/platform/outbox"
)

var by = outbox.By{Who: "tester", Why: "test"}

// value returns that of a metric, summed over its series.
func value(t *testing.T, reg *prometheus.Registry, name string) (sum float64) {
	t.Helper()
	families, err := reg.Gather()
	require.NoError(t, err)
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
		for _, m := range f.GetMetric() {
			sum += m.GetGauge().GetValue() + m.GetCounter().GetValue() + float64(m.GetHistogram().GetSampleCount())
		}
	}
	return sum
}

func poison(key string) func(broker.Message) error {
	return func(m broker.Message) error {
		if m.Key == key {
			return fmt.Errorf("%w: poison", broker.ErrRefused)
		}
		return nil
	}
}

// An operator who asks for another attempt while one is on its way gets it: what becomes of the
// earlier attempt does not undo the command. Without that the aggregate waits for one more command.
func TestRelay_redriveDuringAnAttempt(t *testing.T) {
	t.Parallel()
	pool := setup(t)
	ctx := t.Context()
	var attempts atomic.Int64
	asked := make(chan struct{})
	s := &sink{fail: func(m broker.Message) error {
		switch attempts.Add(1) {
		case 1:
			return broker.ErrRefused
		case 2:
			<-asked
			return broker.ErrRefused
		}
		return nil
	}}
	start(t, pool, s, quick())
	operator := outbox.NewOperator(pool)
	redrive := func() {
		n, err := operator.Redrive(ctx, by, "broker", "order", "a")
		require.NoError(t, err)
		require.Equal(t, 1, n)
	}
	add(t, ctx, pool, event("a", 1))
	eventually(t, func() bool {
		return len(rows[string](t, pool, "select error from slipway.outbox_parked_aggregate")) == 1
	})
	redrive()
	eventually(t, func() bool { return attempts.Load() == 2 })
	redrive()
	close(asked)
	eventually(t, func() bool { return s.count() == 1 })
}

// One aggregate's event is refused for good: its later ones wait behind it, all others flow, and a
// redrive publishes them in order under ids that the broker does not take for repetitions. With a
// relay that goes on after the failed event 2 comes before 1; with one that tries until it works
// nothing else is published.
func TestRelay_parksAndRedrives(t *testing.T) {
	t.Parallel()
	pool := setup(t)
	ctx := t.Context()
	s := &sink{fail: poison("order/bad")}
	relay, reg, _ := start(t, pool, s, quick())
	operator := outbox.NewOperator(pool)
	for i := range 5 {
		add(t, ctx, pool, event("bad", int64(i+1)), event("good", int64(i+1)))
		relay.Wake()
	}
	eventually(t, func() bool { return len(s.versions("order/good")) == 5 })
	eventually(t, func() bool { return value(t, reg, "outbox_parked_events") == 5 })
	require.InDelta(t, 1, value(t, reg, "outbox_parked_aggregates"), 0)
	eventually(t, func() bool { return value(t, reg, "outbox_unsent_events_total") == 0 })

	parked, err := operator.Parked(ctx, "", 10)
	require.NoError(t, err)
	require.Len(t, parked, 1)
	require.Equal(t, int64(5), parked[0].Events)
	require.Nil(t, parked[0].NextAttemptAt, "what the broker refused waits for an operator")
	require.Contains(t, parked[0].Error, "poison")
	shown, err := operator.Show(ctx, parked[0].FirstEvent)
	require.NoError(t, err)
	require.Equal(t, map[string]string{"broker": "parked"}, shown.Sinks)

	t.Run("again when it is still refused", func(t *testing.T) {
		n, err := operator.Redrive(ctx, by, "broker", "order", "bad")
		require.NoError(t, err)
		require.Equal(t, 1, n)
		eventually(t, func() bool {
			p, err := operator.Parked(ctx, "", 10)
			return err == nil && len(p) == 1 && p[0].Attempts == 1 && p[0].NextAttemptAt == nil
		})
		require.Empty(t, s.versions("order/bad"))
	})
	t.Run("in order, without one that was discarded", func(t *testing.T) {
		s.failing(nil)
		require.NoError(t, operator.Discard(ctx, by, "", parked[0].FirstEvent))
		add(t, ctx, pool, event("bad", 6))
		relay.Wake()
		eventually(t, func() bool { return len(s.versions("order/bad")) == 5 })
		require.Equal(t, []string{"2", "3", "4", "5", "6"}, s.versions("order/bad"))
		for _, m := range s.all() {
			if m.Key == "order/bad" && m.Headers[broker.HeaderAggregateVersion] < "6" {
				require.Contains(t, m.Dedup(), m.ID+"/redrive-")
			}
		}
	})
	t.Run("and leaves nothing behind", func(t *testing.T) {
		eventually(t, func() bool { return value(t, reg, "outbox_parked_aggregates") == 0 })
		require.Zero(t, rows[int](t, pool, "select count(*) from slipway.outbox_parked_aggregate")[0])
		entries, err := operator.Journal(ctx, 10)
		require.NoError(t, err)
		require.Len(t, entries, 2)
		require.Equal(t, "discard", entries[0].Action)
		require.Equal(t, "tester", entries[0].Who)
	})
}

// An event that fails for another reason is tried again by itself, and its aggregate goes on.
func TestRelay_triesAgainByItself(t *testing.T) {
	t.Parallel()
	pool := setup(t)
	failures := 0
	s := &sink{}
	s.fail = func(m broker.Message) error {
		if m.Key != "order/odd" {
			return nil
		}
		if failures++; failures < 4 {
			return errors.New("hiccup")
		}
		return nil
	}
	_, _, _ = start(t, pool, s, quick())
	for i := range 4 {
		add(t, t.Context(), pool, event("odd", int64(i+1)), event("even", int64(i+1)))
	}
	eventually(t, func() bool { return s.count() == 8 })
	require.Equal(t, []string{"1", "2", "3", "4"}, s.versions("order/odd"))
}

// A broker that is away parks nothing, whatever it takes. Business goes on. With ErrUnavailable taken for any other
// error the events are parked and no longer counted as a backlog.
func TestRelay_waitsForTheBroker(t *testing.T) {
	t.Parallel()
	pool := setup(t)
	s := &sink{fail: func(broker.Message) error { return broker.ErrUnavailable }}
	relay, reg, _ := start(t, pool, s, quick())
	for i := range 30 {
		add(t, t.Context(), pool, event(strconv.Itoa(i%3), int64(i/3+1)))
		relay.Wake()
	}
	eventually(t, func() bool { return value(t, reg, "outbox_unsent_events_total") == 30 }, "the backlog is counted while nothing moves")
	require.Positive(t, value(t, reg, "outbox_oldest_unsent_seconds"))
	require.Positive(t, value(t, reg, "outbox_publish_errors_total"))
	s.failing(nil)
	eventually(t, func() bool { return s.count() == 30 })
	eventually(t, func() bool { return value(t, reg, "outbox_unsent_events_total") == 0 })
	require.Zero(t, rows[int](t, pool, "select count(*) from slipway.outbox_parked")[0])
}

// The broker acknowledges one of five, the others time out, and the relay ends: every event is
// published at least once by the next one. Taking all that was read for published loses four.
func TestRelay_partOfABatch(t *testing.T) {
	t.Parallel()
	pool := setup(t)
	s := &sink{}
	s.fail = func(m broker.Message) error {
		if m.Key == "order/0" {
			return nil
		}
		return broker.ErrUnavailable
	}
	_, _, stop := start(t, pool, s, quick())
	var five []outbox.Event
	for i := range 5 {
		five = append(five, event(strconv.Itoa(i), 1))
	}
	add(t, t.Context(), pool, five...)
	eventually(t, func() bool { return s.count() >= 1 })
	stop()
	s.failing(nil)
	_, _, _ = start(t, pool, s, quick())
	eventually(t, func() bool {
		for i := range 5 {
			if len(s.versions("order/"+strconv.Itoa(i))) == 0 {
				return false
			}
		}
		return true
	})
}

func TestOperator_refuses(t *testing.T) {
	t.Parallel()
	pool := setup(t)
	operator := outbox.NewOperator(pool)
	ctx := t.Context()
	_, err := operator.Pause(ctx, outbox.By{Who: "x"}, "")
	require.ErrorIs(t, err, outbox.ErrNoReason)
	_, err = operator.Pause(ctx, by, "none")
	require.ErrorIs(t, err, outbox.ErrNotFound)
	_, err = operator.Redrive(ctx, by, "", "", "")
	require.ErrorIs(t, err, outbox.ErrNotFound)
	require.ErrorIs(t, operator.Discard(ctx, by, "", uuid.New()), outbox.ErrNotFound)
	_, err = operator.Show(ctx, uuid.New())
	require.ErrorIs(t, err, outbox.ErrNotFound)
	_, err = operator.Replay(ctx, by, "none", time.Now(), false)
	require.ErrorIs(t, err, outbox.ErrNotFound)
	require.ErrorIs(t, operator.RemoveSink(ctx, by, ""), outbox.ErrNotFound)
	require.Zero(t, rows[int](t, pool, "select count(*) from slipway.outbox_journal")[0])
}

func TestOperator_pauseStatusAndBlockers(t *testing.T) {
	t.Parallel()
	pool := setup(t)
	ctx := t.Context()
	s := &sink{}
	cfg := quick()
	cfg.Holder = "replica-1"
	relay, reg, _ := start(t, pool, s, cfg)
	operator := outbox.NewOperator(pool)
	add(t, ctx, pool, event("a", 1))
	eventually(t, func() bool { return s.count() == 1 })

	sinks, err := operator.Pause(ctx, by, "")
	require.NoError(t, err)
	require.Equal(t, []string{"broker"}, sinks)
	paused := time.Now()
	eventually(t, func() bool { return time.Since(paused) > cfg.Lease }, "it has heard of it")
	for i := range 3 {
		add(t, ctx, pool, event("a", int64(i+2)))
	}
	relay.Wake()
	status, err := operator.Status(ctx)
	require.NoError(t, err)
	require.Len(t, status.Sinks, 1)
	require.Equal(t, int64(3), status.Sinks[0].Unsent)
	require.True(t, status.Sinks[0].Alive)
	require.Equal(t, "replica-1", status.Sinks[0].Holder)
	require.NotNil(t, status.Sinks[0].PausedAt)
	require.Positive(t, status.Sinks[0].OldestUnsent)
	require.Equal(t, "current", status.Children[0].State)
	require.Equal(t, 1, s.count())
	eventually(t, func() bool { return value(t, reg, "outbox_unsent_events_total") == 3 }, "alerts see what waits")
	require.Positive(t, value(t, reg, "outbox_oldest_unsent_seconds"))

	writer := begin(t, pool)
	eventually(t, func() bool {
		blockers, err := operator.Blockers(ctx)
		require.NoError(t, err)
		kinds := map[string]outbox.Blocker{}
		for _, b := range blockers {
			kinds[b.Kind] = b
		}
		return kinds["paused"].Sink == "broker" && kinds["open_writer"].PID != 0 && kinds["open_writer"].Application != ""
	})
	require.NoError(t, writer.Rollback(ctx))
	_, err = operator.Resume(ctx, by, "broker")
	require.NoError(t, err)
	eventually(t, func() bool { return s.count() == 4 })
}

// What was published is published again, under the same ids for consumers and others for the
// broker, in order, and not what is parked or was never published.
func TestOperator_replay(t *testing.T) {
	t.Parallel()
	pool := setup(t)
	ctx := t.Context()
	s := &sink{}
	cfg := quick()
	cfg.Batch = 3
	_, _, _ = start(t, pool, s, cfg)
	operator := outbox.NewOperator(pool)
	add(t, ctx, pool, event("old", 1))
	eventually(t, func() bool { return s.count() == 1 })
	since := rows[time.Time](t, pool, "select clock_timestamp()")[0]
	for i := range 10 {
		add(t, ctx, pool, event("a", int64(i+1)))
	}
	eventually(t, func() bool { return s.count() == 11 })

	var plan outbox.ReplayPlan
	eventually(t, func() bool { // the position is stored soon after the acknowledgement
		var err error
		plan, err = operator.Replay(ctx, by, "broker", since, true)
		return err == nil && plan.Events == 10
	})
	require.Equal(t, map[string]int64{"order.placed": 10}, plan.Types)
	require.True(t, plan.Complete)
	require.Zero(t, plan.Replay)
	before := s.all()
	plan, err := operator.Replay(ctx, by, "broker", since, false)
	require.NoError(t, err)
	require.Equal(t, int64(10), plan.Events)
	eventually(t, func() bool { return s.count() == 21 })
	for i, m := range s.all()[11:] {
		require.Equal(t, before[1+i].ID, m.ID)
		require.Equal(t, m.ID+"/replay-"+strconv.FormatInt(plan.Replay, 10), m.Dedup())
	}
	eventually(t, func() bool {
		return rows[int](t, pool, "select count(*) from slipway.outbox_replay where finished_at is null")[0] == 0
	})
	require.Equal(t, []string{"1"}, s.versions("order/old"))
}
