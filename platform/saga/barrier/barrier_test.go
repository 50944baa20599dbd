package barrier_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/slipwayhq/slipway/platform/postgres"
	"github.com/slipwayhq/slipway/platform/postgres/postgrestest"
	"github.com/slipwayhq/slipway/platform/saga/barrier"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(postgrestest.Closing(m)) }

var errStop = errors.New("stop")

func setup(t *testing.T) *pgxpool.Pool {
	t.Helper()
	cfg, err := pgxpool.ParseConfig(postgrestest.New(t, barrier.Migrations()))
	require.NoError(t, err)
	cfg.MaxConns = 20
	pool, err := pgxpool.NewWithConfig(t.Context(), cfg)
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	_, err = pool.Exec(t.Context(), "CREATE TABLE effect (key text, done int)")
	require.NoError(t, err)
	return pool
}

func inTx(ctx context.Context, pool *pgxpool.Pool, do func(tx pgx.Tx) error) error {
	return postgres.InTx(ctx, pool, postgres.TxOptions{}, do)
}

// act does the work of a step as a participant does.
func act(ctx context.Context, pool *pgxpool.Pool, key string, after error) (fresh bool, err error) {
	err = inTx(ctx, pool, func(tx pgx.Tx) error {
		fresh, err = barrier.Act(ctx, tx, key)
		if err != nil {
			return err
		}
		if fresh {
			if _, err := tx.Exec(ctx, "INSERT INTO effect VALUES ($1, 1)", key); err != nil {
				return err
			}
		}
		return after
	})
	return fresh, err
}

func undo(ctx context.Context, pool *pgxpool.Pool, key string, after error) (needed bool, err error) {
	err = inTx(ctx, pool, func(tx pgx.Tx) error {
		needed, err = barrier.Undo(ctx, tx, key)
		if err != nil {
			return err
		}
		if needed {
			if _, err := tx.Exec(ctx, "INSERT INTO effect VALUES ($1, -1)", key); err != nil {
				return err
			}
		}
		return after
	})
	return needed, err
}

func effects(t *testing.T, pool *pgxpool.Pool, key string) (did, undid int) {
	t.Helper()
	require.NoError(t, pool.QueryRow(context.Background(),
		"SELECT count(*) FILTER (WHERE done = 1), count(*) FILTER (WHERE done = -1) FROM effect WHERE key = $1", key).Scan(&did, &undid))
	return did, undid
}

func TestBarrier(t *testing.T) {
	t.Parallel()
	pool := setup(t)
	ctx := context.Background()

	t.Run("an action is fresh once", func(t *testing.T) {
		t.Parallel()
		for n, want := range []bool{true, false, false} {
			fresh, err := act(ctx, pool, "once", nil)
			require.NoError(t, err)
			require.Equal(t, want, fresh, n)
		}
	})

	t.Run("an undo is needed once", func(t *testing.T) {
		t.Parallel()
		_, err := act(ctx, pool, "undone", nil)
		require.NoError(t, err)
		for n, want := range []bool{true, false, false} {
			needed, err := undo(ctx, pool, "undone", nil)
			require.NoError(t, err)
			require.Equal(t, want, needed, n)
		}
		_, err = act(ctx, pool, "undone", nil)
		require.ErrorIs(t, err, barrier.ErrUndone)
	})

	t.Run("an undo without an action is not needed, and the action then does not come", func(t *testing.T) {
		t.Parallel()
		needed, err := undo(ctx, pool, "empty", nil)
		require.NoError(t, err)
		require.False(t, needed)
		_, err = act(ctx, pool, "empty", nil)
		require.ErrorIs(t, err, barrier.ErrUndone)
		did, undid := effects(t, pool, "empty")
		require.Zero(t, did+undid)
	})

	t.Run("what is rolled back has not happened", func(t *testing.T) {
		t.Parallel()
		_, err := act(ctx, pool, "rolled back", errStop)
		require.ErrorIs(t, err, errStop)
		fresh, err := act(ctx, pool, "rolled back", nil)
		require.NoError(t, err)
		require.True(t, fresh)
		_, err = undo(ctx, pool, "rolled back", errStop)
		require.ErrorIs(t, err, errStop)
		needed, err := undo(ctx, pool, "rolled back", nil)
		require.NoError(t, err)
		require.True(t, needed)
	})

	t.Run("a refused action leaves the transaction usable", func(t *testing.T) {
		t.Parallel()
		_, err := undo(ctx, pool, "usable", nil)
		require.NoError(t, err)
		require.NoError(t, inTx(ctx, pool, func(tx pgx.Tx) error {
			_, err := barrier.Act(ctx, tx, "usable")
			require.ErrorIs(t, err, barrier.ErrUndone)
			_, err = tx.Exec(ctx, "INSERT INTO effect VALUES ('other', 1)")
			return err
		}))
	})
}

// TestBarrier_secondWaits has the second of two calls wait until the transaction of the first ends.
func TestBarrier_secondWaits(t *testing.T) {
	t.Parallel()
	const action, reversal = "act", "undo"
	pool := setup(t)
	for name, row := range map[string]struct {
		first, second string
		end           error // of the first
		want          bool  // answer to the second
		wantErr       error
	}{
		"an action after an action":           {first: action, second: action},
		"an action after one that failed":     {first: action, second: action, end: errStop, want: true},
		"an undo after an action":             {first: action, second: reversal, want: true},
		"an undo after an action that failed": {first: action, second: reversal, end: errStop},
		"an action after an undo":             {first: reversal, second: action, wantErr: barrier.ErrUndone},
		"an action after an undo that failed": {first: reversal, second: action, end: errStop, want: true},
		"an undo after an undo":               {first: reversal, second: reversal},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			calls := map[string]func(context.Context, pgx.Tx, string) (bool, error){action: barrier.Act, reversal: barrier.Undo}
			type answer struct {
				yes bool
				err error
			}
			answers := make(chan answer, 1)
			err := inTx(t.Context(), pool, func(tx pgx.Tx) error {
				_, err := calls[row.first](t.Context(), tx, name)
				require.NoError(t, err)
				pid := make(chan uint32, 1)
				go func() {
					var a answer
					a.err = inTx(context.Background(), pool, func(tx pgx.Tx) (err error) {
						pid <- tx.Conn().PgConn().PID()
						a.yes, err = calls[row.second](context.Background(), tx, name)
						return err
					})
					answers <- a
				}()
				second := <-pid
				require.Eventually(t, func() bool {
					var waits bool
					err := pool.QueryRow(t.Context(), "SELECT cardinality(pg_blocking_pids($1)) > 0", second).Scan(&waits)
					return err == nil && waits
				}, time.Minute, time.Millisecond)
				return row.end
			})
			require.ErrorIs(t, err, row.end)
			got := <-answers
			require.ErrorIs(t, got.err, row.wantErr)
			require.Equal(t, row.want, got.yes)
		})
	}
}

// Many calls of a key at once, in any order, some rolled back: the work is done at most once, undone as
// often as it was done once an undo has returned, and never done after that. Tried
// against an Undo that is needed twice.
func TestBarrier_anyInterleaving(t *testing.T) {
	t.Parallel()
	pool := setup(t)
	const keys, calls = 100, 8
	var wg sync.WaitGroup
	for k := range keys {
		key := fmt.Sprintf("saga/%d", k)
		random := rand.New(rand.NewPCG(7, uint64(k)))
		for range calls {
			undoes, fails := random.IntN(6) == 0, random.IntN(4) == 0
			wg.Go(func() {
				var after error
				if fails {
					after = errStop
				}
				var err error
				if undoes {
					_, err = undo(context.Background(), pool, key, after)
				} else {
					_, err = act(context.Background(), pool, key, after)
				}
				if err != nil {
					assert.True(t, errors.Is(err, errStop) || errors.Is(err, barrier.ErrUndone), err)
				}
			})
		}
	}
	wg.Wait()
	undone := 0
	for k := range keys {
		key := fmt.Sprintf("saga/%d", k)
		did, undid := effects(t, pool, key)
		require.LessOrEqual(t, did, 1, key)
		var marked bool
		err := pool.QueryRow(t.Context(), "SELECT undone FROM slipway.saga_barrier WHERE key = $1", key).Scan(&marked)
		if err == nil && marked {
			require.Equal(t, did, undid, key)
			undone++
		} else {
			require.Zero(t, undid, key)
		}
	}
	require.Positive(t, undone)
	require.Less(t, undone, keys)
}

func TestCleaner(t *testing.T) {
	t.Parallel()
	pool := setup(t)
	_, err := pool.Exec(t.Context(), `INSERT INTO slipway.saga_barrier (key, acted, at)
		SELECT n::text, true, now() - CASE WHEN n <= 25 THEN interval '31 days' ELSE interval '29 days' END FROM generate_series(1, 30) n`)
	require.NoError(t, err)
	c, err := barrier.NewCleaner(pool, barrier.Config{Batch: 10}, nil)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- c.Run(ctx) }()
	require.Eventually(t, func() bool {
		var n int
		return pool.QueryRow(t.Context(), "SELECT count(*) FROM slipway.saga_barrier").Scan(&n) == nil && n == 5
	}, time.Minute, 10*time.Millisecond)
	cancel()
	require.NoError(t, <-ended)
	_, err = barrier.NewCleaner(pool, barrier.Config{Retention: 1, Every: 1, Batch: -1}, nil)
	for _, text := range []string{"BARRIER_RETENTION", "BARRIER_CLEAN_EVERY", "BARRIER_CLEAN_BATCH"} {
		require.ErrorContains(t, err, text)
	}
}

func TestMissingTable(t *testing.T) {
	t.Parallel()
	pool, err := pgxpool.New(t.Context(), postgrestest.New(t))
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	_, err = act(t.Context(), pool, "key", nil)
	require.ErrorContains(t, err, "slipway migrate up")
	_, err = undo(t.Context(), pool, "key", nil)
	require.ErrorContains(t, err, "slipway migrate up")
}
