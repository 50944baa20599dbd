package inbox_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/slipwayhq/slipway/platform/broker"
	"github.com/slipwayhq/slipway/platform/inbox"
)

func TestInOrder(t *testing.T) {
	t.Parallel()
	pool := setup(t)
	ctx := t.Context()
	next := func(key string, version int64) (out inbox.Outcome) {
		require.NoError(t, inTx(ctx, pool, func(tx pgx.Tx) (err error) {
			out, err = inbox.InOrder(ctx, tx, "c", key, version, func() error { return effect(ctx, tx, key, fmt.Sprint(version)) })
			return err
		}))
		return out
	}
	t.Run("applies versions in order, each once", func(t *testing.T) {
		for _, step := range []struct {
			version, expected int64
			state             inbox.State
		}{
			{2, 1, inbox.Early},
			{1, 2, inbox.Applied},
			{1, 2, inbox.Duplicate},
			{3, 2, inbox.Early},
			{2, 3, inbox.Applied},
			{1, 3, inbox.Duplicate},
			{3, 4, inbox.Applied},
		} {
			require.Equal(t, inbox.Outcome{State: step.state, Expected: step.expected}, next("a", step.version))
		}
		require.Equal(t, []string{"1", "2", "3"}, effects(t, pool, "a"))
	})
	t.Run("moves nothing when it is rolled back", func(t *testing.T) {
		err := inTx(ctx, pool, func(tx pgx.Tx) error {
			_, err := inbox.InOrder(ctx, tx, "c", "b", 1, func() error { return errStop })
			return err
		})
		require.ErrorIs(t, err, errStop)
		require.Equal(t, inbox.Applied, next("b", 1).State)
	})
	t.Run("refuses a version that is none", func(t *testing.T) {
		_, err := inbox.InOrder(ctx, nil, "c", "d", 0, nil)
		require.ErrorIs(t, err, inbox.ErrVersion)
	})
	t.Run("names its states", func(t *testing.T) {
		require.Equal(t, "applied duplicate early State(9)",
			fmt.Sprint(inbox.Applied, " ", inbox.Duplicate, " ", inbox.Early, " ", inbox.State(9)))
	})
}

// P13 for versions. With a SELECT of the watermark and an UPDATE after fn, instead
// of the upsert as the lock, versions are applied more than once.
func TestInOrder_sameVersionAtTheSameMoment(t *testing.T) {
	t.Parallel()
	pool := setup(t)
	ctx := t.Context()
	const versions, replicas = 100, 4
	for v := range int64(versions) {
		start := make(chan struct{})
		var applied atomic.Int32
		errs := make([]error, replicas)
		var all sync.WaitGroup
		for r := range replicas {
			all.Go(func() {
				<-start
				errs[r] = inTx(ctx, pool, func(tx pgx.Tx) error {
					out, err := inbox.InOrder(ctx, tx, "c", "a", v+1, func() error { return effect(ctx, tx, "a", fmt.Sprint(v)) })
					if out.State == inbox.Applied {
						applied.Add(1)
					}
					return err
				})
			})
		}
		close(start)
		all.Wait()
		require.NoError(t, errors.Join(errs...))
		require.Equal(t, int32(1), applied.Load())
	}
	require.Len(t, effects(t, pool, "a"), versions)
}

// Everything comes in a random order, twice, to two replicas. With wakeNext setting
// nothing free events stay behind for ever.
func TestConsumer_gaps(t *testing.T) {
	t.Parallel()
	r, s := fresh(t, inbox.ByVersion)
	one, other := r.start(t, writing), r.start(t, writing)
	const orders, each = 8, 30
	var all []broker.Message
	for o := range orders {
		all = append(all, history(fmt.Sprint(o), each)...)
	}
	all = slices.Concat(all, all)
	rand.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	s.publish(all...)
	s.empty(t)
	for o := range orders {
		want := payloads(history(fmt.Sprint(o), each))
		require.Eventually(t, func() bool { return len(effects(t, r.pool, fmt.Sprintf("order/%d", o))) >= each }, patience, pace)
		require.Equal(t, want, effects(t, r.pool, fmt.Sprintf("order/%d", o)))
	}
	require.Empty(t, rows[string](t, r.pool, "select key from slipway.inbox_early"))
	require.Positive(t, one.value(t, "inbox_messages_total", "early")+other.value(t, "inbox_messages_total", "early"))
	require.InDelta(t, orders*each, one.value(t, "inbox_messages_total", "applied")+other.value(t, "inbox_messages_total", "applied"), 0)
}

func TestConsumer_gapThenFill(t *testing.T) {
	t.Parallel()
	r, s := fresh(t, inbox.ByVersion)
	r.cfg.Poll = time.Hour // what closes the gap applies what waits, without the loop
	ran := r.start(t, writing)
	a := history("a", 6)
	s.publish(a[0], a[2], a[3], a[5])
	s.publish(history("b", 3)...)
	s.empty(t) // the gap blocks nothing in the broker
	require.Equal(t, payloads(a[:1]), effects(t, r.pool, "order/a"))
	require.Equal(t, payloads(history("b", 3)), effects(t, r.pool, "order/b"))
	require.Eventually(t, func() bool {
		return ran.value(t, "inbox_early_messages", "") == 3 && ran.value(t, "inbox_early_oldest_seconds", "") > 0
	}, patience, pace)

	s.publish(a[1])
	require.Eventually(t, func() bool { return len(effects(t, r.pool, "order/a")) == 4 }, patience, pace)
	s.publish(a...) // a replay brings the last missing one
	require.Eventually(t, func() bool { return len(effects(t, r.pool, "order/a")) == 6 }, patience, pace)
	s.empty(t)
	require.Equal(t, payloads(a), effects(t, r.pool, "order/a"))
	require.Eventually(t, func() bool { return ran.value(t, "inbox_early_messages", "") == 0 }, patience, pace)
}

// One replica stores version 2 as early while another one applies version 1. With
// the move of the watermark and wakeNext in one statement, whose snapshot is older
// than the lock, version 2 waits for ever.
func TestConsumer_gapClosesWhileTheNextIsStored(t *testing.T) {
	t.Parallel()
	r, s := fresh(t, inbox.ByVersion)
	r.cfg.Poll = time.Hour
	r.start(t, writing)
	storing, err := r.pool.Begin(t.Context())
	require.NoError(t, err)
	defer storing.Rollback(t.Context())
	exec(t, storing, "insert into slipway.inbox_watermark (consumer, key, version) values ('shipping', 'order/a', 0)")
	exec(t, storing, `insert into slipway.inbox_early (consumer, key, version, message_id, subject, headers, payload)
		values ('shipping', 'order/a', 2, 'second', 'order.changed', '{}', 'a:2')`)
	s.publish(message("a", 1))
	waitForLockWait(t, r.pool)
	require.NoError(t, storing.Commit(t.Context()))
	require.Eventually(t, func() bool { return len(effects(t, r.pool, "order/a")) == 2 }, patience, pace)
	require.Equal(t, []string{"a:1", "a:2"}, effects(t, r.pool, "order/a"))
}

func TestConsumer_joinLate(t *testing.T) {
	t.Parallel()
	for _, late := range []bool{false, true} {
		t.Run(fmt.Sprint(late), func(t *testing.T) {
			t.Parallel()
			r, s := fresh(t, inbox.ByVersion)
			r.cfg.JoinLate = late
			r.start(t, writing)
			a := history("a", 5)
			s.publish(a[2], a[3], a[1])
			s.empty(t)
			want := []string(nil)
			if late {
				want = payloads(a[2:4])
			}
			require.ElementsMatch(t, want, effects(t, r.pool, "order/a"))
			s.publish(a[0], a[4])
			s.empty(t)
			if want = payloads(a); late {
				want = payloads(a[2:])
			}
			require.Eventually(t, func() bool { return slices.Equal(want, effects(t, r.pool, "order/a")) }, patience, pace)
		})
	}
}

// The waiting event fails, not the one that closed the gap: that has its effect,
// and the events behind the dead one wait.
func TestConsumer_waitingEventFails(t *testing.T) {
	t.Parallel()
	for name, p := range map[string]*poison{
		"permanent": {payloads: []string{"a:3"}, err: errPermanent},
		"exhausted": {payloads: []string{"a:3"}, err: errStop},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r, s := fresh(t, inbox.ByVersion)
			r.start(t, failing(p.fail))
			a := history("a", 5)
			s.publish(a[1:]...)
			s.empty(t)
			s.publish(a[0])
			require.Eventually(t, func() bool { return len(deadLetters(t, r)) == 1 }, patience, pace)
			d := deadLetters(t, r)[0]
			require.Equal(t, name, d.Class)
			require.Equal(t, int64(3), d.Version)
			require.Equal(t, a[2].ID, d.MessageID)
			// Another worker may try once more between a failure and its note.
			require.Contains(t, map[string][]int{"permanent": {1, 2}, "exhausted": {3, 4}}[name], d.Attempts)
			require.Equal(t, int64(2), d.Waiting)
			require.Equal(t, payloads(a[:2]), effects(t, r.pool, "order/a"))

			p.cured.Store(true)
			_, err := inbox.NewOperator(r.pool).Redrive(t.Context(), inbox.Selection{Consumer: "shipping"}, act)
			require.NoError(t, err)
			require.Eventually(t, func() bool { return slices.Equal(payloads(a), effects(t, r.pool, "order/a")) }, patience, pace)
		})
	}
}

func BenchmarkInOrder(b *testing.B) {
	pool := setup(b)
	ctx := b.Context()
	for _, keys := range []int64{1, 1000} {
		b.Run(fmt.Sprintf("keys=%d", keys), func(b *testing.B) {
			b.ReportAllocs()
			consumer := newID()
			for n := int64(0); b.Loop(); n++ {
				err := inTx(ctx, pool, func(tx pgx.Tx) error {
					_, err := inbox.InOrder(ctx, tx, consumer, fmt.Sprint(n%keys), n/keys+1, func() error { return nil })
					return err
				})
				if err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
