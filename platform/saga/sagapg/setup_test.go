package sagapg_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest"

	"github.com/slipwayhq/slipway/platform/postgres"
	"github.com/slipwayhq/slipway/platform/postgres/postgrestest"
	"github.com/slipwayhq/slipway/platform/saga"
	"github.com/slipwayhq/slipway/platform/saga/sagapg"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(postgrestest.Closing(m)) }

// patience is how long a condition may take on a slow machine.
const patience = 60 * time.Second

func setup(tb testing.TB) *pgxpool.Pool {
	tb.Helper()
	return open(tb, postgrestest.New(tb, sagapg.Migrations()))
}

func open(tb testing.TB, url string) *pgxpool.Pool {
	tb.Helper()
	cfg, err := pgxpool.ParseConfig(url)
	require.NoError(tb, err)
	cfg.MaxConns = 20
	pool, err := pgxpool.NewWithConfig(context.Background(), cfg)
	require.NoError(tb, err)
	tb.Cleanup(pool.Close)
	return pool
}

// quick is a configuration for tests.
func quick() sagapg.Config {
	return sagapg.Config{Poll: 20 * time.Millisecond, Lease: time.Second, Maintenance: time.Hour, Hold: 50 * time.Millisecond}
}

// start runs a runner until the test ends or stop is called.
func start(t *testing.T, pool *pgxpool.Pool, cfg sagapg.Config, definitions ...sagapg.Definition) (r *sagapg.Runner, reg *prometheus.Registry, stop func()) {
	t.Helper()
	reg = prometheus.NewRegistry()
	r, err := sagapg.NewRunner(pool, definitions, cfg, zaptest.NewLogger(t, zaptest.Level(zap.InfoLevel)), reg, nil)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	ended := make(chan error, 1)
	go func() { ended <- r.Run(ctx) }()
	var once sync.Once
	stop = func() {
		once.Do(func() {
			cancel()
			require.NoError(t, <-ended)
		})
	}
	t.Cleanup(stop)
	return r, reg, stop
}

func newID() string { return uuid.Must(uuid.NewV7()).String() }

// begin starts a saga in a transaction of its own.
func begin[S any](tb testing.TB, pool *pgxpool.Pool, d *saga.Definition[S], state S) string {
	tb.Helper()
	id := newID()
	require.NoError(tb, inTx(pool, func(ctx context.Context, tx pgx.Tx) error {
		_, err := sagapg.Start(ctx, tx, nil, d, id, state)
		return err
	}))
	return id
}

func inTx(pool *pgxpool.Pool, do func(ctx context.Context, tx pgx.Tx) error) error {
	ctx := context.Background()
	return postgres.InTx(ctx, pool, postgres.TxOptions{}, func(tx pgx.Tx) error { return do(ctx, tx) })
}

// ended waits until a saga is over and returns its state.
func ended(tb testing.TB, pool *pgxpool.Pool, id string) (status saga.Status, data string) {
	tb.Helper()
	require.Eventually(tb, func() bool {
		var s int16
		err := pool.QueryRow(context.Background(), "SELECT status, convert_from(data, 'UTF8') FROM slipway.saga_finished WHERE id = $1", id).Scan(&s, &data)
		status = saga.Status(s)
		return err == nil
	}, patience, 5*time.Millisecond)
	return status, data
}

func query[T any](tb testing.TB, pool *pgxpool.Pool, sql string, args ...any) T {
	tb.Helper()
	var v T
	require.NoError(tb, pool.QueryRow(context.Background(), sql, args...).Scan(&v))
	return v
}
