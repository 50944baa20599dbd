package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.uber.org/goleak"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/slipwayhq/slipway/platform/postgres"
	"github.com/slipwayhq/slipway/platform/postgres/pgserver"
	"github.com/slipwayhq/slipway/platform/postgres/postgrestest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(postgrestest.Closing(m)) }

const (
	wait = 30 * time.Second
	tick = 20 * time.Millisecond
)

// open returns a pool that is closed with the test.
func open(t *testing.T, cfg postgres.Config) *pgxpool.Pool {
	t.Helper()
	pool, err := postgres.Open(t.Context(), cfg, nil, nil, nil)
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	return pool
}

func exec(t *testing.T, db interface {
	Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error)
}, sql string,
) {
	t.Helper()
	_, err := db.Exec(t.Context(), sql)
	require.NoError(t, err)
}

func scan[T any](t *testing.T, db interface {
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}, sql string, args ...any,
) T {
	t.Helper()
	var v T
	require.NoError(t, db.QueryRow(t.Context(), sql, args...).Scan(&v))
	return v
}

// readOnly demotes a server as a failover tool does: what is connected stays
// connected and can no longer write.
func readOnly(t *testing.T, s *pgserver.Server) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), s.URL("postgres"))
	require.NoError(t, err)
	defer func() { _ = conn.Close(context.Background()) }()
	exec(t, conn, "alter system set default_transaction_read_only = on")
	exec(t, conn, "select pg_reload_conf()")
	require.Eventually(t, func() bool {
		return scan[string](t, conn, "show default_transaction_read_only") == "on"
	}, wait, tick)
}

func TestConfig_Validate(t *testing.T) {
	t.Parallel()
	t.Run("names every bad field", func(t *testing.T) {
		t.Parallel()
		cfg := postgres.Config{MaxConns: -1, MinConns: 7, StatementTimeout: -1, LockTimeout: time.Microsecond}
		_, err := postgres.Open(t.Context(), cfg, nil, nil, nil)
		for _, name := range []string{"URL", "MAX_CONNS", "MIN_CONNS", "STATEMENT_TIMEOUT", "LOCK_TIMEOUT"} {
			require.ErrorContains(t, err, "DATABASE_"+name)
		}
	})
	t.Run("does not show the password", func(t *testing.T) {
		t.Parallel()
		err := postgres.Config{URL: "postgres://user:s3cret@host:port/db"}.Validate()
		require.Error(t, err)
		require.NotContains(t, err.Error(), "s3cret")
	})
}

func TestOpen(t *testing.T) {
	t.Parallel()
	t.Run("does not wait for the database", func(t *testing.T) {
		t.Parallel()
		open(t, postgres.Config{URL: "postgres://127.0.0.1:1/db"})
	})
	t.Run("sets timeouts and name on the server", func(t *testing.T) {
		t.Parallel()
		pool := open(t, postgres.Config{URL: postgrestest.New(t), StatementTimeout: 50 * time.Millisecond, AppName: "orders"})
		const settings = `select concat_ws(' ', current_setting('statement_timeout'), current_setting('lock_timeout'),
			current_setting('idle_in_transaction_session_timeout'), current_setting('application_name'))`
		require.Equal(t, "50ms 2s 10s orders", scan[string](t, pool, settings))

		_, err := pool.Exec(t.Context(), "select pg_sleep(10)")
		require.Equal(t, "57014", postgres.SQLState(err))
		require.NoError(t, pool.Ping(t.Context()), "the connection is not lost with the statement")
	})
	t.Run("lets the URL have its way", func(t *testing.T) {
		t.Parallel()
		pool := open(t, postgres.Config{URL: postgrestest.New(t) + "&statement_timeout=0&pool_max_conns=3&application_name=mine"})
		require.Equal(t, "0 mine", scan[string](t, pool, "select concat_ws(' ', current_setting('statement_timeout'), current_setting('application_name'))"))
		require.Equal(t, int32(10), pool.Config().MaxConns, "but not on the pool's size")
	})
	t.Run("traces statements without their arguments", func(t *testing.T) {
		t.Parallel()
		spans := tracetest.NewSpanRecorder()
		tp := sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(spans))
		ctx, parent := tp.Tracer("test").Start(t.Context(), "parent")
		pool, err := postgres.Open(ctx, postgres.Config{URL: postgrestest.New(t)}, nil, nil, tp)
		require.NoError(t, err)
		defer pool.Close()
		_, err = pool.Exec(ctx, "select $1::text", "card 4711")
		require.NoError(t, err)
		parent.End()

		var text string
		for _, span := range spans.Ended() {
			for _, attr := range span.Attributes() {
				text += attr.Value.String() + "\n"
			}
		}
		require.Contains(t, text, "select $1::text")
		require.NotContains(t, text, "4711")
	})
}

func TestOpen_metrics(t *testing.T) {
	t.Parallel()
	reg := prometheus.NewPedanticRegistry()
	cfg := postgres.Config{URL: postgrestest.New(t), MaxConns: 3, AppName: "orders"}
	pool, err := postgres.Open(t.Context(), cfg, nil, reg, nil)
	require.NoError(t, err)
	defer pool.Close()
	conn, err := pool.Acquire(t.Context())
	require.NoError(t, err)
	defer conn.Release()

	n, err := testutil.GatherAndCount(reg)
	require.NoError(t, err)
	require.Equal(t, 13, n, "every series is there from the start")
	problems, err := testutil.GatherAndLint(reg)
	require.NoError(t, err)
	require.Empty(t, problems)
	families, err := reg.Gather()
	require.NoError(t, err)
	values := map[string]float64{}
	for _, f := range families {
		m := f.GetMetric()[0]
		values[f.GetName()] = m.GetGauge().GetValue() + m.GetCounter().GetValue()
		require.Contains(t, m.String(), "orders", f.GetName())
	}
	require.InDelta(t, 1, values["pgxpool_acquired_conns"], 0)
	require.InDelta(t, 3, values["pgxpool_max_conns"], 0)
	require.InDelta(t, 1, values["pgxpool_new_conns_total"], 0)

	_, err = postgres.Open(t.Context(), cfg, nil, reg, nil)
	require.ErrorContains(t, err, "register database pool metrics")
}

func TestOpen_failover(t *testing.T) {
	t.Parallel()
	primary, standby := postgrestest.StartPair(t)
	logger, logs := newLogger()
	reg := prometheus.NewRegistry()
	url := "postgres://" + userOf(t, primary) + primary.Addr() + "," + standby.Addr() + "/postgres?sslmode=disable"
	pool, err := postgres.Open(t.Context(), postgres.Config{URL: url, MaxConns: 4}, logger, reg, nil)
	require.NoError(t, err)
	defer pool.Close()
	exec(t, pool, "create table t (id int)")
	require.Equal(t, primary.Addr(), serverOf(t, pool))

	t.Run("a connection to a former primary is used once more at most", func(t *testing.T) {
		readOnly(t, primary)
		require.Eventually(t, func() bool { // Each session learns of it on its own.
			return scan[string](t, pool, "show default_transaction_read_only") == "on"
		}, wait, tick)
		_, err := pool.Exec(t.Context(), "insert into t values (1)")
		require.Equal(t, "25006", postgres.SQLState(err))
		require.NoError(t, standby.Promote(t.Context()))
		exec(t, pool, "insert into t values (2)")
		require.Equal(t, standby.Addr(), serverOf(t, pool))
		require.Equal(t, 1, logs.FilterMessage("dropping database connection").Len())
	})
	t.Run("a primary that is shut down is replaced", func(t *testing.T) {
		require.NoError(t, primary.Stop(t.Context()))
		exec(t, pool, "insert into t values (3)")
		require.NoError(t, standby.Stop(t.Context()))
		_, err := pool.Exec(t.Context(), "insert into t values (4)")
		require.Error(t, err)
		require.NoError(t, standby.Restart(t.Context()))
		require.Eventually(t, func() bool {
			_, err := pool.Exec(t.Context(), "insert into t values (5)")
			return err == nil
		}, wait, tick)
	})
}

func newLogger() (*zap.Logger, *observer.ObservedLogs) {
	core, logs := observer.New(zap.WarnLevel)
	return zap.New(core), logs
}

// userOf is "user:password@" of a server.
func userOf(t *testing.T, s *pgserver.Server) string {
	t.Helper()
	cfg, err := pgx.ParseConfig(s.URL("postgres"))
	require.NoError(t, err)
	return cfg.User + ":" + cfg.Password + "@"
}

// serverOf is the address that the pool's next connection leads to.
func serverOf(t *testing.T, pool *pgxpool.Pool) string {
	t.Helper()
	conn, err := pool.Acquire(t.Context())
	require.NoError(t, err)
	defer conn.Release()
	return conn.Conn().PgConn().Conn().RemoteAddr().String()
}

func TestHealthCheck(t *testing.T) {
	t.Parallel()
	t.Run("passes while the pool is busy", func(t *testing.T) {
		t.Parallel()
		cfg := postgres.Config{URL: postgrestest.New(t), MaxConns: 1}
		pool := open(t, cfg)
		check, end := postgres.HealthCheck(cfg)
		defer end()
		conn, err := pool.Acquire(t.Context())
		require.NoError(t, err)
		defer conn.Release()
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		require.ErrorIs(t, pool.Ping(ctx), context.DeadlineExceeded, "the control: a ping of the pool fails")
		require.NoError(t, check(t.Context()))
		require.NoError(t, check(t.Context()))
	})
	t.Run("fails on a standby", func(t *testing.T) {
		t.Parallel()
		_, standby := postgrestest.StartPair(t)
		check, end := postgres.HealthCheck(postgres.Config{URL: standby.URL("postgres")})
		defer end()
		require.ErrorIs(t, check(t.Context()), postgres.ErrReadOnly)

		lenient, endLenient := postgres.HealthCheck(postgres.Config{URL: standby.URL("postgres") + "&target_session_attrs=any"})
		defer endLenient()
		require.NoError(t, lenient(t.Context()), "unless a standby is asked for")

		require.NoError(t, standby.Promote(t.Context()))
		require.NoError(t, check(t.Context()), "and passes once that is a primary")
	})
	t.Run("fails on a former primary over the connection that it has", func(t *testing.T) {
		t.Parallel()
		s := postgrestest.StartServer(t)
		check, end := postgres.HealthCheck(postgres.Config{URL: s.URL("postgres")})
		defer end()
		require.NoError(t, check(t.Context()))
		readOnly(t, s)
		require.Eventually(t, func() bool { // The check's session learns of it a moment later.
			return errors.Is(check(t.Context()), postgres.ErrReadOnly)
		}, wait, tick)
	})
	t.Run("connects again within a call", func(t *testing.T) {
		t.Parallel()
		s := postgrestest.StartServer(t)
		check, end := postgres.HealthCheck(postgres.Config{URL: s.URL("postgres")})
		defer end()
		require.NoError(t, check(t.Context()))
		require.NoError(t, s.Kill())
		require.Error(t, check(t.Context()))
		require.NoError(t, s.Restart(t.Context()))
		require.NoError(t, check(t.Context()))
		require.NoError(t, s.Stop(t.Context()))
		require.NoError(t, s.Restart(t.Context()))
		require.NoError(t, check(t.Context()), "also when the connection was lost unnoticed")
	})
	t.Run("is bounded by its context on a server that hangs", func(t *testing.T) {
		t.Parallel()
		s := postgrestest.StartServer(t)
		check, end := postgres.HealthCheck(postgres.Config{URL: s.URL("postgres")})
		defer end()
		require.NoError(t, check(t.Context()))
		require.NoError(t, s.Pause())
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		begin := time.Now()
		require.ErrorIs(t, check(ctx), context.DeadlineExceeded)
		require.Less(t, time.Since(begin), 5*time.Second)
		require.NoError(t, s.Resume())
		require.NoError(t, check(t.Context()))
	})
	t.Run("says what is wrong with its configuration", func(t *testing.T) {
		t.Parallel()
		check, end := postgres.HealthCheck(postgres.Config{})
		require.ErrorContains(t, check(t.Context()), "DATABASE_URL")
		end()
		require.ErrorContains(t, check(t.Context()), "ended")
	})
}

func TestIsUnavailable(t *testing.T) {
	t.Parallel()
	s := postgrestest.StartServer(t)
	pool := open(t, postgres.Config{URL: s.URL("postgres"), MaxConns: 1})
	exec(t, pool, "create table t (id int primary key)")
	_, refused := pool.Exec(t.Context(), "insert into t values (1), (1)")
	require.True(t, postgres.IsUniqueViolation(refused, ""))
	require.False(t, postgres.IsUnavailable(refused), "a database that refuses is there")
	require.False(t, postgres.IsUnavailable(nil))
	require.False(t, postgres.IsUnavailable(context.Canceled))

	require.NoError(t, s.Kill())
	for range 2 { // the connection that there was, then one that cannot be made
		_, err := pool.Exec(t.Context(), "insert into t values (1)")
		require.True(t, postgres.IsUnavailable(err), "%v", err)
	}
	require.True(t, postgres.IsUnavailable(fmt.Errorf("place: %w", postgres.ErrCommitUnknown)))
	require.True(t, postgres.IsUnavailable(&pgconn.PgError{Code: "08006"}))
}
