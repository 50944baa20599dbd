package sagapg_test

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/slipwayhq/slipway/platform/saga"
	"github.com/slipwayhq/slipway/platform/saga/sagapg"
)

func TestSignal(t *testing.T) {
	t.Parallel()
	waiting := func(s *steps, d time.Duration) *saga.Definition[trip] {
		return saga.Define("wait", 1, saga.Step("flight", s.of("flight")).Undo("no-flight", s.of("no-flight")),
			saga.Wait("paid", d, func(_ context.Context, c *saga.Call[trip]) error {
				c.State.Log = append(c.State.Log, string(c.Signal))
				return nil
			}), saga.Step("hotel", s.of("hotel")))
	}
	send := func(t *testing.T, pool *pgxpool.Pool, id, payload string) {
		t.Helper()
		require.NoError(t, inTx(pool, func(ctx context.Context, tx pgx.Tx) error { return sagapg.Signal(ctx, tx, id, "paid", []byte(payload)) }))
	}

	t.Run("goes on when the signal comes", func(t *testing.T) {
		t.Parallel()
		pool := setup(t)
		d := waiting(newSteps(), time.Hour)
		r, _, _ := start(t, pool, quick(), d)
		id := begin(t, pool, d, trip{})
		eventually(t, func() bool {
			return query[int](t, pool, "SELECT count(*) FROM slipway.saga WHERE waits_for = 'paid'") == 1
		})
		send(t, pool, id, "now")
		r.Wake()
		status, data := ended(t, pool, id)
		require.Equal(t, saga.Completed, status)
		require.JSONEq(t, `{"log":["flight","now","hotel"]}`, data)
		require.Zero(t, query[int](t, pool, "SELECT count(*) FROM slipway.saga_signal"))
	})

	t.Run("takes one that was there before", func(t *testing.T) {
		t.Parallel()
		pool := setup(t)
		d := waiting(newSteps(), time.Hour)
		id := begin(t, pool, d, trip{})
		send(t, pool, id, "early")
		start(t, pool, quick(), d)
		status, _ := ended(t, pool, id)
		require.Equal(t, saga.Completed, status)
	})

	t.Run("is undone when nothing comes", func(t *testing.T) {
		t.Parallel()
		pool := setup(t)
		d := waiting(newSteps(), 50*time.Millisecond)
		start(t, pool, quick(), d)
		status, data := ended(t, pool, begin(t, pool, d, trip{}))
		require.Equal(t, saga.Compensated, status)
		require.JSONEq(t, `{"log":["flight","no-flight"]}`, data)
	})
}

func TestGuard(t *testing.T) {
	t.Parallel()
	pool := setup(t)
	s := newSteps()
	_, err := pool.Exec(t.Context(), "CREATE TABLE booked (saga uuid)")
	require.NoError(t, err)
	entered, release, refused := make(chan struct{}), make(chan struct{}), make(chan struct{})
	var first atomic.Bool
	first.Store(true)
	failed := make(chan error, 1)
	d := saga.Define("trip", 1, saga.Step("flight", s.of("flight")), saga.Pivot("book", func(ctx context.Context, c *saga.Call[trip]) error {
		slow := first.CompareAndSwap(true, false)
		if slow {
			close(entered)
			<-release // another process takes over meanwhile
			ctx = context.WithoutCancel(ctx)
		} else {
			close(release)
			<-refused // the saga goes on: its row is there, with another token
		}
		err := inTx(pool, func(_ context.Context, tx pgx.Tx) error {
			if err := sagapg.Guard(ctx, tx, c.SagaID, c.Token); err != nil {
				return err
			}
			_, err := tx.Exec(ctx, "INSERT INTO booked VALUES ($1)", c.SagaID)
			return err
		})
		if slow {
			failed <- err
		}
		return err
	}))
	cfg := quick()
	cfg.Lease = time.Minute
	start(t, pool, cfg, d)
	id := begin(t, pool, d, trip{})
	<-entered
	_, err = pool.Exec(t.Context(), "UPDATE slipway.saga_worker SET ended_at = clock_timestamp()")
	require.NoError(t, err)
	start(t, pool, quick(), d)
	goOn := sync.OnceFunc(func() { close(refused) })
	t.Cleanup(goOn)
	require.ErrorIs(t, <-failed, sagapg.ErrFenced)
	goOn()
	status, _ := ended(t, pool, id)
	require.Equal(t, saga.Completed, status)
	require.Equal(t, 1, query[int](t, pool, "SELECT count(*) FROM booked"), "once")
}

func TestStart(t *testing.T) {
	t.Parallel()

	t.Run("a rollback leaves nothing", func(t *testing.T) {
		t.Parallel()
		pool := setup(t)
		s := newSteps()
		r, _, _ := start(t, pool, quick(), s.trip())
		require.ErrorIs(t, inTx(pool, func(ctx context.Context, tx pgx.Tx) error {
			_, err := sagapg.Start(ctx, tx, r, s.trip(), newID(), trip{})
			require.NoError(t, err)
			return errNo
		}), errNo)
		require.Zero(t, query[int](t, pool, "SELECT count(*) FROM slipway.saga"))
	})

	t.Run("runs at once where it was started, and elsewhere if that never begins", func(t *testing.T) {
		t.Parallel()
		pool := setup(t)
		here, there := newSteps(), newSteps()
		cfg := quick()
		cfg.Poll = time.Hour
		r, _, stop := start(t, pool, cfg, here.trip())
		eventually(t, func() bool { return query[int](t, pool, "SELECT count(*) FROM slipway.saga_worker") == 1 })
		id := newID()
		var run func()
		store := func(ctx context.Context, tx pgx.Tx) (err error) {
			run, err = sagapg.Start(ctx, tx, r, here.trip(), id, trip{})
			return err
		}
		eventually(t, func() bool {
			id = newID()
			require.NoError(t, inTx(pool, store))
			return query[int](t, pool, "SELECT count(*) FROM slipway.saga WHERE id = $1 AND owner IS NOT NULL", id) == 1
		}, "the runner has begun")
		run()
		ended(t, pool, id)
		id = newID()
		require.NoError(t, inTx(pool, store))
		stop() // before run was called
		start(t, pool, quick(), there.trip())
		status, _ := ended(t, pool, id)
		require.Equal(t, saga.Completed, status)
		require.NotZero(t, there.count("flight"))
	})

	t.Run("the same id twice is refused and harms nothing", func(t *testing.T) {
		t.Parallel()
		pool := setup(t)
		s := newSteps()
		id := begin(t, pool, s.trip(), trip{})
		require.NoError(t, inTx(pool, func(ctx context.Context, tx pgx.Tx) error {
			_, err := sagapg.Start(ctx, tx, nil, s.trip(), id, trip{})
			require.ErrorIs(t, err, sagapg.ErrExists)
			return nil
		}))
		start(t, pool, quick(), s.trip())
		ended(t, pool, id)
		require.Equal(t, 1, s.count("book"))
	})

	t.Run("says what is wrong", func(t *testing.T) {
		t.Parallel()
		pool := setup(t)
		require.ErrorContains(t, inTx(pool, func(ctx context.Context, tx pgx.Tx) error {
			_, err := sagapg.Start(ctx, tx, nil, newSteps().trip(), "7", trip{})
			return err
		}), `id "7" is not a UUID`)
	})
}
