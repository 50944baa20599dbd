package inbox_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/slipwayhq/slipway/platform/inbox"
	"github.com/slipwayhq/slipway/platform/postgres"
	"github.com/slipwayhq/slipway/platform/postgres/postgrestest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(postgrestest.Closing(m)) }

// patience is for slow machines; nothing waits that long where all is well.
const (
	patience = time.Minute
	pace     = 5 * time.Millisecond
)

func setup(tb testing.TB) *pgxpool.Pool {
	tb.Helper()
	return open(tb, postgrestest.New(tb, inbox.Migrations()))
}

func open(tb testing.TB, url string) *pgxpool.Pool {
	tb.Helper()
	cfg := postgres.Config{URL: url, LockTimeout: patience, StatementTimeout: patience}
	pool, err := postgres.Open(tb.Context(), cfg, nil, nil, nil)
	require.NoError(tb, err)
	tb.Cleanup(pool.Close)
	_, err = pool.Exec(tb.Context(), "create table if not exists effects (n bigint generated always as identity, who text, what text)")
	require.NoError(tb, err)
	return pool
}

// querier is a pool, a connection or a transaction.
type querier interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
}

// rows returns the values of a query's only column.
func rows[T any](tb testing.TB, db querier, sql string, args ...any) []T {
	tb.Helper()
	found, err := db.Query(tb.Context(), sql, args...)
	require.NoError(tb, err)
	values, err := pgx.CollectRows(found, pgx.RowTo[T])
	require.NoError(tb, err)
	return values
}

func one[T any](tb testing.TB, db querier, sql string, args ...any) T {
	tb.Helper()
	found := rows[T](tb, db, sql, args...)
	require.Len(tb, found, 1)
	return found[0]
}

// effect writes what a handler would.
func effect(ctx context.Context, tx pgx.Tx, who, what string) error {
	_, err := tx.Exec(ctx, "insert into effects (who, what) values ($1, $2)", who, what)
	return err
}

// effects returns what was written in the name of someone, in order.
func effects(tb testing.TB, pool *pgxpool.Pool, who string) []string {
	tb.Helper()
	return rows[string](tb, pool, "select what from effects where who = $1 order by n", who)
}

// idOf returns a UUIDv7 of a time.
func idOf(at time.Time) string {
	id := uuid.Must(uuid.NewV7())
	var ms [8]byte
	binary.BigEndian.PutUint64(ms[:], uint64(at.UnixMilli()))
	copy(id[:6], ms[2:])
	return id.String()
}

func newID() string { return uuid.Must(uuid.NewV7()).String() }

// inTx runs fn in a transaction of its own.
func inTx(ctx context.Context, pool *pgxpool.Pool, fn func(tx pgx.Tx) error) error {
	return postgres.InTx(ctx, pool, postgres.TxOptions{}, fn)
}

// apply runs the effect through Once.
func apply(ctx context.Context, pool *pgxpool.Pool, consumer, id string) (fresh bool, err error) {
	err = inTx(ctx, pool, func(tx pgx.Tx) error {
		fresh, err = inbox.Once(ctx, tx, consumer, id, func() error { return effect(ctx, tx, consumer, id) })
		return err
	})
	return fresh, err
}

var errStop = errors.New("stop")

// maintained makes the partitions.
func maintained(tb testing.TB, pool *pgxpool.Pool, retention time.Duration) {
	tb.Helper()
	require.NoError(tb, inbox.Maintain(tb.Context(), pool, retention))
}

const day = 24 * time.Hour

// P13. With check-then-act (SELECT, then INSERT ... ON CONFLICT DO NOTHING after fn)
// instead of the insert as the lock this counts more effects than messages.
func TestOnce_sameMessageAtTheSameMoment(t *testing.T) {
	t.Parallel()
	pool := setup(t)
	maintained(t, pool, 7*day)
	const rounds, replicas = 150, 4
	for round := range rounds {
		id := newID()
		if round%3 == 0 {
			id = fmt.Sprintf("not a uuid %d", round)
		}
		start := make(chan struct{})
		fresh := make([]bool, replicas)
		errs := make([]error, replicas)
		var all sync.WaitGroup
		for r := range replicas {
			all.Go(func() {
				<-start
				fresh[r], errs[r] = apply(t.Context(), pool, "payments", id)
			})
		}
		close(start)
		all.Wait()
		require.NoError(t, errors.Join(errs...))
		count := 0
		for _, f := range fresh {
			if f {
				count++
			}
		}
		require.Equal(t, 1, count)
	}
	require.Equal(t, rounds, one[int](t, pool, "select count(*) from effects"))
	require.Equal(t, rounds, one[int](t, pool, "select count(distinct what) from effects"))
}

func TestOnce(t *testing.T) {
	t.Parallel()
	pool := setup(t)
	maintained(t, pool, 7*day)
	ctx := t.Context()

	for name, id := range map[string]string{"a UUIDv7": newID(), "another UUID": uuid.NewString(), "any text": "ä\n", "no text": ""} {
		t.Run("applies "+name+" once", func(t *testing.T) {
			for _, want := range []bool{true, false} {
				fresh, err := apply(ctx, pool, "once", id)
				require.NoError(t, err)
				require.Equal(t, want, fresh)
			}
			require.Equal(t, 1, one[int](t, pool, "select count(*) from effects where who = 'once' and what = $1", id))
		})
	}
	t.Run("keeps consumers apart", func(t *testing.T) {
		id := newID()
		for _, consumer := range []string{"one", "two"} {
			fresh, err := apply(ctx, pool, consumer, id)
			require.NoError(t, err)
			require.True(t, fresh)
		}
	})
	t.Run("knows a UUID however it is written", func(t *testing.T) {
		id := uuid.Must(uuid.NewV7())
		_, err := apply(ctx, pool, "spelling", id.String())
		require.NoError(t, err)
		fresh, err := apply(ctx, pool, "spelling", id.URN())
		require.NoError(t, err)
		require.False(t, fresh)
	})
	// With the mark inserted through the pool instead of tx the second run is a
	// duplicate, and the message is lost.
	t.Run("leaves no mark after a rollback", func(t *testing.T) {
		id := newID()
		err := inTx(ctx, pool, func(tx pgx.Tx) error {
			fresh, err := inbox.Once(ctx, tx, "rollback", id, func() error { return errStop })
			require.True(t, fresh)
			return err
		})
		require.ErrorIs(t, err, errStop)
		fresh, err := apply(ctx, pool, "rollback", id)
		require.NoError(t, err)
		require.True(t, fresh)
	})
	t.Run("leaves no mark after a rollback to a savepoint", func(t *testing.T) {
		id := newID()
		require.NoError(t, inTx(ctx, pool, func(tx pgx.Tx) error {
			for range 2 {
				inner, err := tx.Begin(ctx)
				require.NoError(t, err)
				fresh, err := inbox.Once(ctx, inner, "savepoint", id, func() error { return nil })
				require.NoError(t, err)
				require.True(t, fresh)
				require.NoError(t, inner.Rollback(ctx))
			}
			return nil
		}))
	})
	t.Run("is the first when the one before it rolls back", func(t *testing.T) {
		id := newID()
		first, err := pool.Begin(ctx)
		require.NoError(t, err)
		defer first.Rollback(ctx)
		_, err = inbox.Once(ctx, first, "second", id, func() error { return nil })
		require.NoError(t, err)
		second := make(chan bool, 1)
		go func() {
			fresh, _ := apply(ctx, pool, "second", id)
			second <- fresh
		}()
		waitForLockWait(t, pool)
		require.NoError(t, first.Rollback(ctx))
		require.True(t, <-second)
	})
}

// waitForLockWait returns when a session of the database waits for a lock.
func waitForLockWait(tb testing.TB, pool *pgxpool.Pool) {
	tb.Helper()
	require.Eventually(tb, func() bool {
		return one[bool](tb, pool, "select count(*) > 0 from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'")
	}, patience, 5*time.Millisecond)
}

// Without the look at the horizon the old id is taken for new, and its effect
// happens twice.
func TestOnce_tooOld(t *testing.T) {
	t.Parallel()
	pool := setup(t)
	ctx := t.Context()
	maintained(t, pool, 10*day)
	old := idOf(time.Now().Add(-5 * day))
	fresh, err := apply(ctx, pool, "c", old)
	require.NoError(t, err)
	require.True(t, fresh)
	maintained(t, pool, 2*day)
	require.Empty(t, rows[string](t, pool, "select message_id::text from slipway.inbox"), "the partition is gone")

	t.Run("refuses an id whose partition is gone", func(t *testing.T) {
		_, err := apply(ctx, pool, "c", old)
		require.ErrorIs(t, err, inbox.ErrTooOld)
	})
	t.Run("takes ids within the retention", func(t *testing.T) {
		for _, age := range []time.Duration{0, day, 2*day - time.Minute} {
			fresh, err := apply(ctx, pool, "c", idOf(time.Now().Add(-age)))
			require.NoError(t, err)
			require.True(t, fresh)
		}
	})
	t.Run("never moves the horizon back", func(t *testing.T) {
		maintained(t, pool, 20*day)
		_, err := apply(ctx, pool, "c", old)
		require.ErrorIs(t, err, inbox.ErrTooOld)
	})
}

// The snapshot of the transaction is older than the horizon, so the look at it
// lets the old id pass. Without the second look it would be taken for new.
func TestOnce_tooOldBehindItsSnapshot(t *testing.T) {
	t.Parallel()
	pool := setup(t)
	ctx := t.Context()
	maintained(t, pool, 10*day)
	old := idOf(time.Now().Add(-5 * day))
	_, err := apply(ctx, pool, "c", old)
	require.NoError(t, err)

	late, err := pool.BeginTx(ctx, pgx.TxOptions{IsoLevel: pgx.RepeatableRead})
	require.NoError(t, err)
	defer late.Rollback(ctx)
	_, err = late.Exec(ctx, "select 1 from slipway.inbox_horizon")
	require.NoError(t, err)
	maintained(t, pool, 2*day)
	require.Zero(t, one[int](t, pool, "select count(*) from slipway.inbox"))
	fresh, err := inbox.Once(ctx, late, "c", old, func() error { return errStop })
	require.False(t, fresh && err == nil)
	require.NotErrorIs(t, err, errStop, "the handler must not run")
	require.Error(t, err)
}

func TestOnce_withoutPartition(t *testing.T) {
	t.Parallel()
	pool := setup(t)
	ctx := t.Context()
	id, future := newID(), idOf(time.Now().Add(500*day))
	for _, want := range []bool{true, false} {
		for _, id := range []string{id, future} {
			fresh, err := apply(ctx, pool, "c", id)
			require.NoError(t, err)
			require.Equal(t, want, fresh)
		}
		maintained(t, pool, 7*day) // the day stays where its rows are
	}
	require.Equal(t, 2, one[int](t, pool, "select count(*) from only slipway.inbox_default"))
	fresh, err := apply(ctx, pool, "c", idOf(time.Now().Add(-2*day)))
	require.NoError(t, err)
	require.True(t, fresh)
	require.Equal(t, 2, one[int](t, pool, "select count(*) from only slipway.inbox_default"), "other days have partitions")
}

// The whole key is known when the statement is planned or begins: it touches the
// parent and one partition, however many there are.
func TestOnce_plan(t *testing.T) {
	t.Parallel()
	pool := setup(t)
	ctx := t.Context()
	maintained(t, pool, 30*day)
	require.Greater(t, one[int](t, pool, "select count(*) from pg_inherits where inhparent = 'slipway.inbox'::regclass"), 30)
	partition := "inbox_d" + time.Now().UTC().Add(-3*day).Format("20060102")

	t.Run("locks one partition", func(t *testing.T) {
		tx, err := pool.Begin(ctx)
		require.NoError(t, err)
		defer tx.Rollback(ctx)
		_, err = inbox.Once(ctx, tx, "c", idOf(time.Now().Add(-3*day)), func() error { return nil })
		require.NoError(t, err)
		require.Equal(t, []string{"inbox", partition}, rows[string](t, tx, `select c.relname::text from pg_locks l
			join pg_class c on c.oid = l.relation where l.pid = pg_backend_pid() and c.relkind in ('r', 'p')
			and c.relname ~ '^inbox(_d|_other|_default|$)' order by 1`))
	})
	t.Run("finds duplicates by the index of one partition", func(t *testing.T) {
		require.NoError(t, inTx(ctx, pool, func(tx pgx.Tx) error {
			_, err := tx.Exec(ctx, "set local enable_seqscan = off")
			require.NoError(t, err)
			plan := fmt.Sprint(rows[string](t, tx, `explain (costs off) select from slipway.inbox
				where consumer = 'c' and message_id = '0190163d-8694-739b-aea5-966c26f8ad91' and day = (now() at time zone 'UTC')::date - 3`))
			require.NotContains(t, plan, "Seq Scan")
			plan = fmt.Sprint(rows[string](t, tx, `explain (costs off) insert into slipway.inbox (consumer, message_id, day)
				values ('c', '0190163d-8694-739b-aea5-966c26f8ad91', '2026-01-01') on conflict (consumer, message_id, day) do nothing`))
			require.Contains(t, plan, "Conflict Arbiter Indexes: inbox_pkey")
			return nil
		}))
	})
}

func BenchmarkOnce(b *testing.B) {
	pool := setup(b)
	require.NoError(b, inbox.Maintain(b.Context(), pool, 7*day))
	ctx := b.Context()
	for _, kind := range []string{"fresh", "duplicate"} {
		b.Run(kind, func(b *testing.B) {
			tx, err := pool.Begin(ctx)
			require.NoError(b, err)
			defer tx.Rollback(ctx)
			id := newID()
			b.ReportAllocs()
			for b.Loop() {
				if kind == "fresh" {
					id = newID()
				}
				if _, err := inbox.Once(ctx, tx, "c", id, func() error { return nil }); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
