package postgres_test

import (
	"context"
	"errors"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/slipwayhq/slipway/platform/postgres"
	"github.com/slipwayhq/slipway/platform/postgres/postgrestest"
)

// account opens a pool on a database with one row to work on.
func account(t *testing.T) *pgxpool.Pool {
	t.Helper()
	pool := open(t, postgres.Config{URL: postgrestest.New(t), MaxConns: 4})
	exec(t, pool, "create table account (id int primary key, balance int not null, constraint paid check (balance >= 0))")
	exec(t, pool, "insert into account values (1, 100), (2, 100)")
	return pool
}

func balance(t *testing.T, pool *pgxpool.Pool) int {
	t.Helper()
	return scan[int](t, pool, "select balance from account where id = 1")
}

func withdraw(ctx context.Context, tx pgx.Tx) error {
	_, err := tx.Exec(ctx, "update account set balance = balance - 10 where id = 1")
	return err
}

// requireIdle fails when a transaction kept its connection.
func requireIdle(t *testing.T, pool *pgxpool.Pool) {
	t.Helper()
	require.Zero(t, pool.Stat().AcquiredConns())
}

func TestInTx(t *testing.T) {
	t.Parallel()
	pool := account(t)
	ctx := t.Context()

	t.Run("commits", func(t *testing.T) {
		require.NoError(t, postgres.InTx(ctx, pool, postgres.TxOptions{}, func(tx pgx.Tx) error { return withdraw(ctx, tx) }))
		require.Equal(t, 90, balance(t, pool))
	})
	t.Run("rolls back on an error and returns it", func(t *testing.T) {
		errStop := errors.New("stop")
		err := postgres.InTx(ctx, pool, postgres.TxOptions{}, func(tx pgx.Tx) error {
			return errors.Join(withdraw(ctx, tx), errStop)
		})
		require.ErrorIs(t, err, errStop)
		require.Equal(t, 90, balance(t, pool))
		requireIdle(t, pool)
	})
	t.Run("rolls back on a panic, which goes on", func(t *testing.T) {
		require.PanicsWithValue(t, "boom", func() {
			_ = postgres.InTx(ctx, pool, postgres.TxOptions{}, func(tx pgx.Tx) error {
				require.NoError(t, withdraw(ctx, tx))
				panic("boom")
			})
		})
		require.Equal(t, 90, balance(t, pool))
		requireIdle(t, pool)
	})
	t.Run("rolls back when the context ends before the commit", func(t *testing.T) {
		ctx, cancel := context.WithCancel(ctx)
		err := postgres.InTx(ctx, pool, postgres.TxOptions{}, func(tx pgx.Tx) error {
			defer cancel()
			return withdraw(ctx, tx)
		})
		require.ErrorIs(t, err, context.Canceled)
		require.NotErrorIs(t, err, postgres.ErrCommitUnknown)
		require.Equal(t, 90, balance(t, pool))
		requireIdle(t, pool)
	})
	t.Run("passes isolation and read-only on", func(t *testing.T) {
		opts := postgres.TxOptions{Isolation: pgx.RepeatableRead, ReadOnly: true}
		err := postgres.InTx(ctx, pool, opts, func(tx pgx.Tx) error {
			require.Equal(t, "repeatable read", scan[string](t, tx, "show transaction_isolation"))
			return withdraw(ctx, tx)
		})
		require.Equal(t, "25006", postgres.SQLState(err))
	})
	t.Run("says that no transaction could begin", func(t *testing.T) {
		nowhere := open(t, postgres.Config{URL: "postgres://127.0.0.1:1/db"})
		err := postgres.InTx(ctx, nowhere, postgres.TxOptions{}, func(pgx.Tx) error { return nil })
		require.ErrorContains(t, err, "begin transaction")
	})
}

func TestInTx_commitFails(t *testing.T) {
	t.Parallel()
	pool := account(t)
	ctx := t.Context()
	exec(t, pool, "create table later (id int constraint once unique deferrable initially deferred)")

	t.Run("the server's refusal is returned", func(t *testing.T) {
		err := postgres.InTx(ctx, pool, postgres.TxOptions{}, func(tx pgx.Tx) error {
			_, err := tx.Exec(ctx, "insert into later values (1), (1)")
			return err
		})
		require.True(t, postgres.IsUniqueViolation(err, "once"))
		require.ErrorContains(t, err, "commit transaction")
		require.NotErrorIs(t, err, postgres.ErrCommitUnknown)
	})
	t.Run("an error that was swallowed does not look like a commit", func(t *testing.T) {
		err := postgres.InTx(ctx, pool, postgres.TxOptions{}, func(tx pgx.Tx) error {
			_, _ = tx.Exec(ctx, "select 1/0")
			return nil
		})
		require.ErrorIs(t, err, pgx.ErrTxCommitRollback)
	})
	t.Run("a lost answer is told apart", func(t *testing.T) {
		err := postgres.InTx(ctx, pool, postgres.TxOptions{}, func(tx pgx.Tx) error {
			pid := scan[int](t, tx, "select pg_backend_pid()")
			require.True(t, scan[bool](t, pool, "select pg_terminate_backend($1, 5000)", pid))
			return nil
		})
		require.ErrorIs(t, err, postgres.ErrCommitUnknown)
		require.NoError(t, pool.Ping(ctx))
	})
}

func TestInTx_retry(t *testing.T) {
	t.Parallel()
	pool := account(t)
	ctx := t.Context()
	// conflict makes the first attempts lose against another transaction.
	conflict := func(losses int, retries int) (attempts int, err error) {
		err = postgres.InTx(ctx, pool, postgres.TxOptions{Isolation: pgx.RepeatableRead, MaxRetries: retries}, func(tx pgx.Tx) error {
			attempts++
			_ = scan[int](t, tx, "select balance from account where id = 1")
			if attempts <= losses {
				exec(t, pool, "update account set balance = balance + 1 where id = 1")
			}
			return withdraw(ctx, tx)
		})
		return attempts, err
	}

	t.Run("repeats what lost against another transaction", func(t *testing.T) {
		attempts, err := conflict(2, 3)
		require.NoError(t, err)
		require.Equal(t, 3, attempts)
	})
	t.Run("gives up after its retries", func(t *testing.T) {
		attempts, err := conflict(9, 1)
		require.True(t, postgres.IsRetryable(err))
		require.Equal(t, 2, attempts)
	})
	t.Run("does not repeat unless told to", func(t *testing.T) {
		attempts, err := conflict(1, 0)
		require.True(t, postgres.IsRetryable(err))
		require.Equal(t, 1, attempts)
	})
	t.Run("does not repeat other errors", func(t *testing.T) {
		attempts := 0
		err := postgres.InTx(ctx, pool, postgres.TxOptions{MaxRetries: 5}, func(tx pgx.Tx) error {
			attempts++
			_, err := tx.Exec(ctx, "update account set balance = -1")
			return err
		})
		require.True(t, postgres.IsCheckViolation(err, "paid"))
		require.Equal(t, 1, attempts)
	})
	t.Run("stops when the context ends", func(t *testing.T) {
		ctx, cancel := context.WithCancel(ctx)
		err := postgres.InTx(ctx, pool, postgres.TxOptions{MaxRetries: 1000}, func(tx pgx.Tx) error {
			defer cancel()
			_, err := tx.Exec(ctx, "do $$ begin raise exception 'lost' using errcode = '40001'; end $$")
			return err
		})
		require.ErrorIs(t, err, context.Canceled)
		require.True(t, postgres.IsRetryable(err), "the last attempt's error is there too")
	})
	t.Run("resolves deadlocks", func(t *testing.T) {
		transfer := func(from, to int, meet *sync.WaitGroup) error {
			var once sync.Once
			return postgres.InTx(ctx, pool, postgres.TxOptions{MaxRetries: 5}, func(tx pgx.Tx) error {
				if _, err := tx.Exec(ctx, "update account set balance = balance - 1 where id = $1", from); err != nil {
					return err
				}
				once.Do(func() { meet.Done(); meet.Wait() })
				_, err := tx.Exec(ctx, "update account set balance = balance + 1 where id = $1", to)
				return err
			})
		}
		var meet, done sync.WaitGroup
		meet.Add(2)
		errs := make([]error, 2)
		done.Go(func() { errs[0] = transfer(1, 2, &meet) })
		done.Go(func() { errs[1] = transfer(2, 1, &meet) })
		done.Wait()
		require.NoError(t, errors.Join(errs...))
	})
}

func TestIsForeignKeyViolation(t *testing.T) {
	t.Parallel()
	pool := account(t)
	exec(t, pool, "create table booking (account int constraint owner references account)")
	_, err := pool.Exec(t.Context(), "insert into booking values (7)")
	require.True(t, postgres.IsForeignKeyViolation(err, "owner"))
	require.True(t, postgres.IsForeignKeyViolation(err, ""))
	require.False(t, postgres.IsForeignKeyViolation(err, "other"))
	require.False(t, postgres.IsUniqueViolation(err, ""))
	require.Empty(t, postgres.SQLState(context.Canceled))
}
