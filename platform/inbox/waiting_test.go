package inbox_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/slipwayhq/slipway/platform/broker"
	"github.com/slipwayhq/slipway/platform/inbox"
)

func waiting(tb testing.TB, pool *pgxpool.Pool, f inbox.Filter) []inbox.WaitingKey {
	tb.Helper()
	keys, err := inbox.NewOperator(pool).Waiting(tb.Context(), f)
	require.NoError(tb, err)
	return keys
}

func skip(tb testing.TB, pool *pgxpool.Pool, key string, version int64) inbox.Skipped {
	tb.Helper()
	done, err := inbox.NewOperator(pool).Skip(tb.Context(), "shipping", key, version, act)
	require.NoError(tb, err)
	return done
}

// becomes waits for the effects of a key.
func becomes(tb testing.TB, pool *pgxpool.Pool, key string, want ...string) {
	tb.Helper()
	require.Eventually(tb, func() bool { return slices.Equal(want, effects(tb, pool, key)) }, patience, pace)
}

func TestOperator_Skip(t *testing.T) {
	t.Parallel()
	r, s := fresh(t, inbox.ByVersion)
	r.start(t, writing)
	a := history("a", 8)
	s.publish(a[0], a[2], a[3], a[7])
	s.empty(t)
	require.Equal(t, inbox.Skipped{Consumer: "shipping", Key: "order/a", From: 2, To: 2, Waiting: 3, Ready: true}, skip(t, r.pool, "order/a", 2))
	becomes(t, r.pool, "order/a", "a:1", "a:3", "a:4")

	s.publish(a[1])
	s.empty(t)
	require.Equal(t, inbox.Skipped{Consumer: "shipping", Key: "order/a", From: 5, To: 6, Waiting: 1}, skip(t, r.pool, "order/a", 6))
	require.Equal(t, int64(7), waiting(t, r.pool, inbox.Filter{})[0].Next, "version 7 may still come")
	s.publish(a[5], a[6], a[4])
	s.empty(t)
	becomes(t, r.pool, "order/a", "a:1", "a:3", "a:4", "a:7", "a:8")
	s.publish(a...)
	s.empty(t)
	becomes(t, r.pool, "order/a", "a:1", "a:3", "a:4", "a:7", "a:8")
	require.Empty(t, waiting(t, r.pool, inbox.Filter{}))
	require.Equal(t, []string{
		"ann skip fixed skipped versions 2 to 2 of order/a for shipping", "ann skip fixed skipped versions 5 to 6 of order/a for shipping",
	}, rows[string](t, r.pool, "select who || ' ' || action || ' ' || reason || ' ' || detail from slipway.inbox_journal order by entry"))
}

// What the callers of InOrder keep elsewhere is not in the tables.
func TestOperator_skipForInOrder(t *testing.T) {
	t.Parallel()
	pool := setup(t)
	next := func(version int64) (state inbox.State) {
		require.NoError(t, inTx(t.Context(), pool, func(tx pgx.Tx) error {
			out, err := inbox.InOrder(t.Context(), tx, "shipping", "a", version, func() error { return nil })
			state = out.State
			return err
		}))
		return state
	}
	require.Equal(t, inbox.Applied, next(1))
	require.Equal(t, inbox.Early, next(4))
	require.Equal(t, inbox.Skipped{Consumer: "shipping", Key: "a", From: 2, To: 3}, skip(t, pool, "a", 3))
	require.Equal(t, []inbox.State{inbox.Applied, inbox.Duplicate, inbox.Duplicate}, []inbox.State{next(4), next(2), next(3)})
}

// Nothing that is there may be lost by it.
func TestOperator_skipRefuses(t *testing.T) {
	t.Parallel()
	r, _, _, d := stuck(t, inbox.ByVersion) // order/a, whose version 2 is a dead letter
	ctx := t.Context()
	insert := func(key string, version int, ready string) {
		_, err := r.pool.Exec(ctx, `insert into slipway.inbox_early (consumer, key, version, message_id, subject, headers, payload, ready_at)
			values ('shipping', $1, $2, 'x', 'order.changed', '{}', '', $3::timestamptz)`, key, version, ready)
		require.NoError(t, err)
	}
	_, err := r.pool.Exec(ctx, "insert into slipway.inbox_watermark (consumer, key, version) values ('shipping', 'gap', 3), ('shipping', 'retried', 3)")
	require.NoError(t, err)
	insert("gap", 6, "infinity")
	insert("gap", 9, "infinity")
	insert("retried", 4, "infinity")
	for _, c := range []struct {
		consumer, key string
		version       int64
		want          error
		text          string
	}{
		{"shipping", "gap", 3, inbox.ErrSettled, "version 3: settled already, as all up to 3"},
		{"shipping", "gap", 1, inbox.ErrSettled, "version 1: settled already, as all up to 3"},
		{"shipping", "gap", 6, inbox.ErrWaiting, "version 6 has come and is not applied yet: skip those up to 5"},
		{"shipping", "gap", 12, inbox.ErrWaiting, "version 6 has come and is not applied yet: skip those up to 5"},
		{"shipping", "retried", 4, inbox.ErrWaiting, "version 4 has come and is not applied yet"},
		{"shipping", "order/a", 2, inbox.ErrHeld, fmt.Sprintf("a dead letter holds the key up: have number %d redriven or discarded", d.ID)},
		{"shipping", "order/a", 5, inbox.ErrHeld, fmt.Sprintf("have number %d redriven or discarded", d.ID)},
		{"shipping", "order/a", 1, inbox.ErrSettled, "as all up to 1"},
		{"shipping", "order/b", 1, inbox.ErrNotFound, `key "order/b" of consumer "shipping": not found`},
		{"billing", "gap", 4, inbox.ErrNotFound, `key "gap" of consumer "billing": not found`},
		{"", "gap", 4, inbox.ErrInvalid, "name the consumer"},
		{"shipping", "", 4, inbox.ErrInvalid, "the key"},
		{"shipping", "gap", 0, inbox.ErrInvalid, "a positive version"},
	} {
		done, err := inbox.NewOperator(r.pool).Skip(ctx, c.consumer, c.key, c.version, act)
		require.ErrorIs(t, err, c.want, c)
		require.ErrorContains(t, err, c.text)
		require.Zero(t, done)
	}
	_, err = inbox.NewOperator(r.pool).Skip(ctx, "shipping", "retried", 9, act)
	require.EqualError(t, err, "skip: version 4 has come and is not applied yet", "there is none before it")
	_, err = inbox.NewOperator(r.pool).Skip(ctx, "shipping", "gap", 4, inbox.Act{Who: "ann"})
	require.ErrorIs(t, err, inbox.ErrInvalid)
	require.Empty(t, rows[string](t, r.pool, "select action from slipway.inbox_journal"))
	require.Equal(t, []string{"a:1"}, effects(t, r.pool, "order/a"))
	require.Equal(t, []string{"gap 3", "order/a 1", "retried 3"}, rows[string](t, r.pool, "select key || ' ' || version from slipway.inbox_watermark order by key"))
}

// The version comes after all, while the operator skips it. Without the lock it is
// applied and skipped.
func TestOperator_skipWhileApplied(t *testing.T) {
	t.Parallel()
	for name, fails := range map[string]error{"and is": nil, "and fails": errStop} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r, s := fresh(t, inbox.ByVersion)
			begun, goOn := make(chan struct{}), make(chan struct{})
			var once sync.Once
			r.start(t, func(ctx context.Context, tx pgx.Tx, m broker.Message) (err error) {
				if string(m.Payload) == "a:2" {
					once.Do(func() {
						close(begun)
						<-goOn
						err = fails
					})
				}
				return errors.Join(err, writing(ctx, tx, m))
			})
			a := history("a", 3)
			s.publish(a[0], a[2])
			s.empty(t)
			s.publish(a[1])
			<-begun
			skipped := make(chan error, 1)
			go func() {
				_, err := inbox.NewOperator(r.pool).Skip(t.Context(), "shipping", "order/a", 2, act)
				skipped <- err
			}()
			waitForLockWait(t, r.pool)
			close(goOn)
			if fails == nil {
				require.ErrorIs(t, <-skipped, inbox.ErrSettled)
				becomes(t, r.pool, "order/a", "a:1", "a:2", "a:3")
				return
			}
			require.NoError(t, <-skipped)
			s.empty(t)
			becomes(t, r.pool, "order/a", "a:1", "a:3")
			require.Empty(t, deadLetters(t, r))
		})
	}
}

// Another process stores what waits, while the operator skips. With the look at it
// in the statement that locks, whose snapshot is older, it is lost or waits for ever.
func TestOperator_skipWhileStored(t *testing.T) {
	t.Parallel()
	for name, stored := range map[string]int{"the version after it": 3, "the version itself": 2} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r, s := fresh(t, inbox.ByVersion)
			r.start(t, writing)
			s.publish(message("a", 1))
			s.empty(t)
			storing, err := r.pool.Begin(t.Context())
			require.NoError(t, err)
			defer storing.Rollback(t.Context())
			exec(t, storing, "update slipway.inbox_watermark set held = held")
			exec(t, storing, fmt.Sprintf(`insert into slipway.inbox_early (consumer, key, version, message_id, subject, headers, payload)
				values ('shipping', 'order/a', %[1]d, 'x', 'order.changed', '{}', 'a:%[1]d')`, stored))
			skipped := make(chan error, 1)
			go func() {
				_, err := inbox.NewOperator(r.pool).Skip(t.Context(), "shipping", "order/a", 2, act)
				skipped <- err
			}()
			waitForLockWait(t, r.pool)
			require.NoError(t, storing.Commit(t.Context()))
			if stored == 2 {
				require.ErrorIs(t, <-skipped, inbox.ErrWaiting)
				return
			}
			require.NoError(t, <-skipped)
			becomes(t, r.pool, "order/a", "a:1", "a:3")
		})
	}
}

// Versions come in a random order, some late and some never, to two replicas, while
// two operators skip whatever is missing. Each is applied in its order or skipped.
func TestOperator_skipBesideConsumers(t *testing.T) {
	t.Parallel()
	r, s := fresh(t, inbox.ByVersion)
	r.start(t, writing)
	r.start(t, writing)
	const orders, each = 4, 40
	var all []broker.Message
	for o := range orders {
		h := history(strconv.Itoa(o), each)
		all = append(all, slices.DeleteFunc(h[:each-1], func(broker.Message) bool { return rand.N(8) == 0 })...)
		all = append(all, message(strconv.Itoa(o), each))
	}
	rand.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })

	var mu sync.Mutex
	skipped := map[string]bool{}
	ctx, cancel := context.WithCancel(t.Context())
	var operators sync.WaitGroup
	for range 2 {
		operators.Go(func() {
			for op := inbox.NewOperator(r.pool); ctx.Err() == nil; {
				keys, _ := op.Waiting(ctx, inbox.Filter{Limit: 2})
				for _, k := range keys {
					done, err := op.Skip(ctx, k.Consumer, k.Key, k.Next+rand.Int64N(k.First-k.Next+1), act)
					mu.Lock()
					for v := done.From; err == nil && v <= done.To; v++ {
						skipped[fmt.Sprintf("%s:%d", strings.TrimPrefix(k.Key, "order/"), v)] = true
					}
					mu.Unlock()
				}
			}
		})
	}
	s.publish(all...)
	s.empty(t)
	require.Eventually(t, func() bool {
		return one[int](t, r.pool, "select count(*) from slipway.inbox_watermark where version = $1", each) == orders
	}, patience, pace)
	cancel()
	operators.Wait()
	for o := range orders {
		var want []string
		for v := range each {
			if name := fmt.Sprintf("%d:%d", o, v+1); !skipped[name] {
				want = append(want, name)
			}
		}
		require.Equal(t, want, effects(t, r.pool, fmt.Sprintf("order/%d", o)))
	}
	require.Empty(t, deadLetters(t, r))
	require.NotEmpty(t, skipped)
}

func TestOperator_Waiting(t *testing.T) {
	t.Parallel()
	r, s, _, _ := stuck(t, inbox.ByVersion) // order/a waits for an operator, not for a version
	b, c := history("b", 6), history("c", 2)
	s.publish(b[0], b[3], b[5], c[1])
	s.empty(t)
	keys := waiting(t, r.pool, inbox.Filter{})
	require.Len(t, keys, 2)
	slices.SortFunc(keys, func(a, b inbox.WaitingKey) int { return strings.Compare(a.Key, b.Key) })
	for i := range keys {
		require.WithinDuration(t, time.Now(), keys[i].Since, time.Hour)
		keys[i].Since = time.Time{}
	}
	require.Equal(t, []inbox.WaitingKey{
		{Consumer: "shipping", Key: "order/b", Next: 2, First: 4, Waiting: 2},
		{Consumer: "shipping", Key: "order/c", Next: 1, First: 2, Waiting: 1},
	}, keys)

	_, err := r.pool.Exec(t.Context(), "update slipway.inbox_early set received_at = '2026-01-01' where key = 'order/c'")
	require.NoError(t, err)
	require.Equal(t, "order/c", waiting(t, r.pool, inbox.Filter{Limit: 1})[0].Key, "the one that waits longest")
	require.Len(t, waiting(t, r.pool, inbox.Filter{Limit: 1}), 1)
	require.Equal(t, int64(2), waiting(t, r.pool, inbox.Filter{Consumer: "shipping", Key: "order/b"})[0].Next)
	require.Empty(t, waiting(t, r.pool, inbox.Filter{Consumer: "billing"}))
	require.Empty(t, waiting(t, r.pool, inbox.Filter{Key: "order/a"}))
	_, err = r.pool.Exec(t.Context(), "update slipway.inbox_early set ready_at = 'infinity', version = 1 where key = 'order/c'")
	require.NoError(t, err)
	require.Empty(t, waiting(t, r.pool, inbox.Filter{Key: "order/c"}), "it is there, and tried again later")
}
