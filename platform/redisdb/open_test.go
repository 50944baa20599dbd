package redisdb_test

import (
	"context"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/slipwayhq/slipway/platform/redisdb"
	"github.com/slipwayhq/slipway/platform/redisdb/redistest"
)

func TestOpen(t *testing.T) {
	t.Parallel()

	t.Run("works on any server", func(t *testing.T) {
		t.Parallel()
		for name, start := range servers {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				s := start(t)
				client := open(t, s)
				require.NoError(t, client.Set(t.Context(), "k", "v", 0).Err())
				require.Equal(t, "v", client.Get(t.Context(), "k").Val())
			})
		}
	})

	t.Run("does not need the server to be up", func(t *testing.T) {
		t.Parallel()
		s := redistest.Start(t)
		s.Stop()
		client := open(t, s)
		require.Error(t, client.Ping(t.Context()).Err())
		s.Restart()
		require.Eventually(t, func() bool { return client.Ping(t.Context()).Err() == nil }, patience, 10*time.Millisecond)
	})

	t.Run("is quick unless it is told otherwise", func(t *testing.T) {
		t.Parallel()
		opts := openWith(t, redisdb.Config{URL: "redis://host:1/2?read_timeout=3s"}).Options()
		require.Equal(t, 250*time.Millisecond, opts.DialTimeout)
		require.Equal(t, 3*time.Second, opts.ReadTimeout, "the URL wins")
		require.Equal(t, 100*time.Millisecond, opts.WriteTimeout)
		require.Equal(t, 250*time.Millisecond, opts.PoolTimeout)
		require.Equal(t, 20, opts.PoolSize)
		require.Equal(t, 2, opts.DB)
		require.Zero(t, opts.MaxRetries)
		require.Nil(t, opts.TLSConfig)
	})

	t.Run("rediss means TLS that checks the server's name", func(t *testing.T) {
		t.Parallel()
		config := openWith(t, redisdb.Config{URL: "rediss://cache.internal:6380"}).Options().TLSConfig
		require.Equal(t, "cache.internal", config.ServerName)
		require.False(t, config.InsecureSkipVerify)
	})

	t.Run("refuses to work without a URL", func(t *testing.T) {
		t.Parallel()
		_, err := redisdb.Open(redisdb.Config{}, nil, nil)
		require.EqualError(t, err, "redis URL is empty")
	})
}

func TestOpen_traces(t *testing.T) {
	t.Parallel()
	spans := tracetest.NewSpanRecorder()
	tp := sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(spans))
	client, err := redisdb.Open(redisdb.Config{URL: redistest.Start(t).URL(), ReadTimeout: patience}, nil, tp)
	require.NoError(t, err)
	defer client.Close()

	require.NoError(t, client.Set(t.Context(), "customer-7", "secret", 0).Err())
	var names []string
	for _, span := range spans.Ended() {
		names = append(names, span.Name())
		require.NotContains(t, fmt.Sprint(span.Name(), span.Attributes(), span.Events()), "customer-7")
		require.NotContains(t, fmt.Sprint(span.Name(), span.Attributes(), span.Events()), "secret")
		require.Empty(t, span.Events(), "the handshake of %s shows up as an error", span.Name())
	}
	require.Contains(t, names, "set")
}

func TestOpen_metrics(t *testing.T) {
	t.Parallel()
	reg := prometheus.NewPedanticRegistry()
	client, err := redisdb.Open(redisdb.Config{URL: redistest.Start(t).URL(), ReadTimeout: patience}, reg, nil)
	require.NoError(t, err)
	defer client.Close()

	names := []string{"redis_pool_max_connections", "redis_pool_connections", "redis_pool_hits_total", "redis_pool_misses_total", "redis_pool_timeouts_total", "redis_pool_wait_seconds_total", "redis_pool_stale_connections_total"}
	series, err := testutil.GatherAndCount(reg, names...)
	require.NoError(t, err)
	require.Equal(t, len(names)+1, series, "all there before the first command, one of them twice")

	require.NoError(t, client.Ping(t.Context()).Err())
	require.NoError(t, testutil.GatherAndCompare(reg, strings.NewReader(`
		# HELP redis_pool_connections Open connections of the pool.
		# TYPE redis_pool_connections gauge
		redis_pool_connections{state="idle"} 1
		redis_pool_connections{state="in_use"} 0
	`), "redis_pool_connections"))
	problems, err := testutil.GatherAndLint(reg)
	require.NoError(t, err)
	require.Empty(t, problems)

	_, err = redisdb.Open(redisdb.Config{URL: "redis://other"}, reg, nil)
	require.ErrorContains(t, err, "register redis pool metrics")
}

func TestHealthCheck(t *testing.T) {
	t.Parallel()

	t.Run("follows the server down and up", func(t *testing.T) {
		t.Parallel()
		for name, start := range servers {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				s := start(t)
				check := redisdb.HealthCheck(open(t, s))
				require.NoError(t, check(t.Context()))
				s.Stop()
				require.ErrorContains(t, check(t.Context()), "write redis key")
				s.Restart()
				require.NoError(t, check(t.Context()))
			})
		}
	})

	t.Run("ends with its context when the server hangs", func(t *testing.T) {
		t.Parallel()
		for name, start := range servers {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				s := start(t)
				check := redisdb.HealthCheck(open(t, s))
				s.Pause()
				ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
				defer cancel()
				err := check(ctx)
				var timeout net.Error
				require.ErrorAs(t, err, &timeout)
				require.True(t, timeout.Timeout())
				s.Resume()
				require.NoError(t, check(t.Context()))
			})
		}
	})

	t.Run("a busy pool is not a dead server", func(t *testing.T) {
		t.Parallel()
		client := openWith(t, redisdb.Config{URL: redistest.Start(t).URL(), PoolSize: 1, ReadTimeout: patience})
		busy := client.Conn()
		defer busy.Close()
		require.NoError(t, busy.Ping(t.Context()).Err(), "takes the only connection")
		require.Error(t, client.Ping(t.Context()).Err())
		require.NoError(t, redisdb.HealthCheck(client)(t.Context()))
	})

	t.Run("a server that takes no writes is not healthy", func(t *testing.T) {
		t.Parallel()
		client := open(t, redistest.Start(t))
		if err := client.ReplicaOf(t.Context(), "127.0.0.1", "1").Err(); err != nil {
			t.Skipf("this server knows no replication: %v", err)
		}
		require.NoError(t, client.Ping(t.Context()).Err())
		require.ErrorContains(t, redisdb.HealthCheck(client)(t.Context()), "READONLY")
	})
}
