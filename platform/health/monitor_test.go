package health_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"

	"github.com/slipwayhq/slipway/platform/health"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	serving    = healthpb.HealthCheckResponse_SERVING
	notServing = healthpb.HealthCheckResponse_NOT_SERVING
)

var errRefused = errors.New("connection refused")

// dependency is a dependency that a test switches on and off.
type dependency struct {
	mu    sync.Mutex
	err   error
	calls int
}

func (d *dependency) set(err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.err = err
}

func (d *dependency) check(context.Context) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.calls++
	return d.err
}

func (d *dependency) count() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.calls
}

type bundle struct {
	*health.Monitor
	postgres, search dependency
	logs             *observer.ObservedLogs
	registry         *prometheus.Registry
	server           healthpb.HealthServer
	stop             func()
}

// RegisterService takes the health service off the monitor, as a gRPC server would.
func (b *bundle) RegisterService(_ *grpc.ServiceDesc, impl any) {
	b.server = impl.(healthpb.HealthServer)
}

// setup returns a monitor of a critical and an optional dependency; start runs it.
func setup(t *testing.T, cfg health.Config) *bundle {
	t.Helper()
	b := &bundle{registry: prometheus.NewRegistry(), stop: func() {}}
	core, logs := observer.New(zapcore.DebugLevel)
	b.logs = logs
	var err error
	b.Monitor, err = health.New(cfg, []health.Dependency{
		{Name: "postgres", Check: b.postgres.check},
		{Name: "search", Check: b.search.check},
	}, zap.New(core), b.registry)
	require.NoError(t, err)
	b.Register(b)
	return b
}

func (b *bundle) start(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- b.Run(ctx) }()
	b.stop = func() {
		cancel()
		require.NoError(t, <-done)
	}
}

func (b *bundle) is(t *testing.T, service string, want healthpb.HealthCheckResponse_ServingStatus) {
	t.Helper()
	got, err := b.server.Check(t.Context(), &healthpb.HealthCheckRequest{Service: service})
	require.NoError(t, err)
	require.Equal(t, want, got.GetStatus(), "service %q", service)
}

func TestMonitor_Run_stateOfEveryService(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name             string
		postgres, search error
		drain            bool
		want             map[string]healthpb.HealthCheckResponse_ServingStatus
	}{
		{"all pass", nil, nil, false, map[string]healthpb.HealthCheckResponse_ServingStatus{
			"": serving, "readiness": serving, "startup": serving,
			"dependency/postgres": serving, "dependency/search": serving,
		}},
		{"the optional one is down", nil, errRefused, false, map[string]healthpb.HealthCheckResponse_ServingStatus{
			"": serving, "readiness": serving, "startup": serving,
			"dependency/postgres": serving, "dependency/search": notServing,
		}},
		{"the critical one is down", errRefused, nil, false, map[string]healthpb.HealthCheckResponse_ServingStatus{
			"": notServing, "readiness": notServing, "startup": notServing,
			"dependency/postgres": notServing, "dependency/search": serving,
		}},
		{"both are down", errRefused, errRefused, false, map[string]healthpb.HealthCheckResponse_ServingStatus{
			"": notServing, "readiness": notServing, "startup": notServing,
			"dependency/postgres": notServing, "dependency/search": notServing,
		}},
		{"draining", nil, nil, true, map[string]healthpb.HealthCheckResponse_ServingStatus{
			"": notServing, "readiness": notServing, "startup": serving,
			"dependency/postgres": serving, "dependency/search": serving,
		}},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				b := setup(t, health.Config{})
				b.postgres.set(row.postgres)
				b.search.set(row.search)
				b.start(t)
				defer b.stop()
				synctest.Wait()
				if row.drain {
					b.Drain()
				}
				row.want["liveness"] = serving
				list, err := b.server.List(t.Context(), &healthpb.HealthListRequest{})
				require.NoError(t, err)
				require.Len(t, list.GetStatuses(), len(row.want))
				for service, want := range row.want {
					b.is(t, service, want)
					require.Equal(t, want, list.GetStatuses()[service].GetStatus(), "listed %q", service)
				}
				require.Equal(t, row.want["readiness"] == serving, b.Ready() == nil)
			})
		})
	}
}

func TestNew_servesNothingButLivenessBeforeTheFirstPass(t *testing.T) {
	t.Parallel()
	b := setup(t, health.Config{})
	for _, service := range []string{"", "readiness", "startup", "dependency/postgres"} {
		b.is(t, service, notServing)
	}
	b.is(t, "liveness", serving)
	require.ErrorContains(t, b.Ready(), "not running")
	_, err := b.server.Check(t.Context(), &healthpb.HealthCheckRequest{Service: "nobody"})
	require.Equal(t, codes.NotFound, status.Code(err))
}

func TestNew_refuses(t *testing.T) {
	t.Parallel()
	t.Run("every bad value at once", func(t *testing.T) {
		t.Parallel()
		pass := func(context.Context) error { return nil }
		_, err := health.New(health.Config{Interval: -1, Timeout: -1, FailureThreshold: -1}, []health.Dependency{
			{Check: pass}, {Name: "a"}, {Name: "b", Check: pass}, {Name: "b", Check: pass},
		}, nil, nil)
		for _, part := range []string{"interval", "timeout", "threshold", "without a name", `"a" without a check`, `"b" is there twice`} {
			require.ErrorContains(t, err, part)
		}
	})
	t.Run("metrics that are there already", func(t *testing.T) {
		t.Parallel()
		reg := prometheus.NewRegistry()
		_, err := health.New(health.Config{}, nil, nil, reg)
		require.NoError(t, err)
		_, err = health.New(health.Config{}, nil, nil, reg)
		require.ErrorContains(t, err, "register health metrics")
	})
}

func TestMonitor_Run_hysteresis(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := setup(t, health.Config{FailureThreshold: 3})
		b.start(t)
		defer b.stop()
		synctest.Wait()
		b.is(t, "readiness", serving)

		b.postgres.set(errRefused)
		failures := func() int { return b.postgres.count() - 1 }
		for failures() < 2 {
			time.Sleep(100 * time.Millisecond)
			synctest.Wait()
		}
		b.is(t, "readiness", serving)
		require.ErrorIs(t, b.Status()[0].Err, errRefused, "reported although it is still up")
		require.True(t, b.Status()[0].Up)

		for failures() < 3 {
			time.Sleep(100 * time.Millisecond)
			synctest.Wait()
		}
		b.is(t, "readiness", notServing)
		require.ErrorContains(t, b.Ready(), "postgres: connection refused")
		b.up(t, 0, 1)

		b.postgres.set(nil)
		time.Sleep(3 * time.Second) // A failing dependency is checked every 2 s.
		synctest.Wait()
		b.is(t, "readiness", serving)
		b.is(t, "startup", serving)

		time.Sleep(time.Hour)
		synctest.Wait()
		require.Equal(t, 1, b.logs.FilterMessage("critical dependency is down").Len(), "a flip is logged once")
		down := b.logs.FilterMessage("critical dependency is down").All()[0].ContextMap()
		require.Equal(t, "connection refused", down["error"])
		require.NoError(t, testutil.GatherAndCompare(b.registry, strings.NewReader(`
# HELP dependency_flips_total Changes of a dependency's state, by the state it changed to.
# TYPE dependency_flips_total counter
dependency_flips_total{dependency="postgres",to="down"} 1
dependency_flips_total{dependency="postgres",to="up"} 2
dependency_flips_total{dependency="search",to="down"} 0
dependency_flips_total{dependency="search",to="up"} 1
`), "dependency_flips_total"))
		b.up(t, 1, 1)
	})
}

func TestMonitor_Run_withoutDependencies(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m, err := health.New(health.Config{}, nil, nil, nil)
		require.NoError(t, err)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- m.Run(ctx) }()
		synctest.Wait()
		require.NoError(t, m.Ready(), "with nothing to wait for it is ready")
		require.Empty(t, ended, "and goes on until it is told to stop")
		cancel()
		require.NoError(t, <-ended)
	})
}

func TestMonitor_Run_startupStays(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := setup(t, health.Config{})
		b.start(t)
		defer b.stop()
		synctest.Wait()
		b.postgres.set(errRefused)
		time.Sleep(time.Minute)
		synctest.Wait()
		b.is(t, "readiness", notServing)
		b.is(t, "startup", serving)
		b.is(t, "liveness", serving)
	})
}

func TestMonitor_Drain_isFinal(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := setup(t, health.Config{})
		b.start(t)
		defer b.stop()
		synctest.Wait()
		b.Drain()
		b.Drain()
		require.True(t, b.Draining())
		checks := b.postgres.count()
		for range 20 {
			time.Sleep(10 * time.Second)
			synctest.Wait()
			b.is(t, "readiness", notServing)
			b.is(t, "", notServing)
			b.is(t, "liveness", serving)
		}
		require.Greater(t, b.postgres.count(), checks+10, "dependencies are watched on")
		require.ErrorContains(t, b.Ready(), "draining")

		b.postgres.set(errRefused)
		time.Sleep(time.Minute)
		synctest.Wait()
		b.is(t, "dependency/postgres", notServing)
	})
}

func TestMonitor_Register_watchDeliversFlips(t *testing.T) {
	t.Parallel()
	b := setup(t, health.Config{Interval: 10 * time.Millisecond})
	lis := bufconn.Listen(1 << 16)
	server := grpc.NewServer()
	b.Register(server)
	go func() { _ = server.Serve(lis) }()
	t.Cleanup(server.Stop)
	conn, err := grpc.NewClient("passthrough:bufconn", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return lis.DialContext(ctx) }))
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })

	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	stream, err := healthpb.NewHealthClient(conn).Watch(ctx, &healthpb.HealthCheckRequest{Service: "readiness"})
	require.NoError(t, err)
	next := func(want healthpb.HealthCheckResponse_ServingStatus) {
		t.Helper()
		got, err := stream.Recv()
		require.NoError(t, err)
		require.Equal(t, want, got.GetStatus())
	}
	next(notServing)
	b.start(t)
	defer func() { b.stop() }()
	next(serving)
	b.postgres.set(errRefused)
	next(notServing)
	b.postgres.set(nil)
	next(serving)
	b.Drain()
	next(notServing)
}

// up compares the gauge of each dependency.
func (b *bundle) up(t *testing.T, postgres, search int) {
	t.Helper()
	require.NoError(t, testutil.GatherAndCompare(b.registry, strings.NewReader(fmt.Sprintf(`
# HELP dependency_up Whether the dependency answers: 1 up, 0 down or not checked yet.
# TYPE dependency_up gauge
dependency_up{dependency="postgres"} %d
dependency_up{dependency="search"} %d
`, postgres, search)), "dependency_up"))
}
