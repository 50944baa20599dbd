package grpcclient_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	orderv1 "github.com/slipwayhq/slipway/gen/slipway/order/v1"
	"github.com/slipwayhq/slipway/platform/breaker"
	"github.com/slipwayhq/slipway/platform/grpcclient"
)

// strict opens after two failures in a row, and never by itself becomes half open in a test.
var strict = breaker.Config{Name: "orders", Failures: 2, Ratio: -1, OpenTimeout: time.Hour, Window: time.Hour}

// brief becomes half open at once, and closes after one success.
var brief = breaker.Config{Name: "orders", Failures: 2, Ratio: -1, OpenTimeout: time.Millisecond, MaxOpen: time.Millisecond, HalfOpenProbes: 1}

// guarded dials a server that always fails.
func guarded(t *testing.T, cfg breaker.Config, opts ...grpcclient.Option) (*orders, *grpc.ClientConn) {
	t.Helper()
	server := serve(t)
	server.fail.Store(1 << 40)
	return server, dial(t, grpcclient.Config{Target: server.addr, Breaker: cfg}, append(opts, grpcclient.WithoutRetries())...)
}

func requireRejected(t *testing.T, err error) {
	t.Helper()
	require.ErrorIs(t, err, breaker.ErrOpen)
	require.Equal(t, codes.Unavailable, status.Code(err))
}

func TestDial_breaker_codes(t *testing.T) {
	t.Parallel()
	failures := map[codes.Code]bool{
		codes.Unavailable: true, codes.DeadlineExceeded: true, codes.Internal: true, codes.Unknown: true, codes.DataLoss: true,
	}
	for code := codes.Canceled; code <= codes.Unauthenticated; code++ {
		t.Run(code.String(), func(t *testing.T) {
			t.Parallel()
			server, conn := guarded(t, strict)
			server.code = code
			for range 4 {
				_ = get(within(t), conn)
			}
			if failures[code] {
				require.EqualValues(t, 2, server.calls.Load(), "the server was called on")
			} else {
				require.EqualValues(t, 4, server.calls.Load(), "the server was left alone")
			}
		})
	}
}

func TestDial_breaker_rejection(t *testing.T) {
	t.Parallel()
	registry := prometheus.NewRegistry()
	server, conn := guarded(t, strict, grpcclient.WithRegisterer(registry))
	for range 2 {
		require.NotErrorIs(t, get(within(t), conn), breaker.ErrOpen)
	}
	err := get(within(t), conn)
	requireRejected(t, err)
	require.ErrorContains(t, err, "call not made: orders: circuit breaker is open, retry after ")
	require.Len(t, status.Convert(err).Details(), 1)
	info, ok := status.Convert(err).Details()[0].(*errdetails.RetryInfo)
	require.True(t, ok)
	require.InDelta(t, time.Hour, info.GetRetryDelay().AsDuration(), float64(patience))

	_, err = orderv1.NewOrderServiceClient(conn).WatchOrder(within(t), &orderv1.WatchOrderRequest{})
	requireRejected(t, err)
	require.NotEmpty(t, status.Convert(err).Details())
	require.EqualValues(t, 2, server.calls.Load())

	require.NoError(t, testutil.GatherAndCompare(registry, strings.NewReader(
		handled(map[string]int{"GetOrder Unavailable": 3, "WatchOrder Unavailable": 1})), "grpc_client_handled_total"))
	require.NoError(t, testutil.GatherAndCompare(registry, strings.NewReader(`
		# HELP circuit_breaker_rejections_total Calls that the circuit breaker did not let pass, by the reason.
		# TYPE circuit_breaker_rejections_total counter
		circuit_breaker_rejections_total{name="orders",reason="open"} 2
		circuit_breaker_rejections_total{name="orders",reason="too_many_probes"} 0
	`), "circuit_breaker_rejections_total"))
}

// A call is one call to the breaker, whatever its attempts.
func TestDial_breaker_standsBeforeRetries(t *testing.T) {
	t.Parallel()
	t.Run("a call that a retry has saved is a success", func(t *testing.T) {
		t.Parallel()
		server := serve(t)
		once := strict
		once.Failures = 1
		conn := dial(t, grpcclient.Config{Target: server.addr, Breaker: once})
		for range 2 {
			server.fail.Store(2)
			require.NoError(t, get(within(t), conn))
		}
		require.EqualValues(t, 6, server.calls.Load())
	})
	t.Run("a call of which all attempts fail is one failure", func(t *testing.T) {
		t.Parallel()
		server := serve(t)
		server.fail.Store(1 << 40)
		conn := dial(t, grpcclient.Config{Target: server.addr, Breaker: strict, MaxAttempts: 2})
		for range 2 {
			require.NotErrorIs(t, get(within(t), conn), breaker.ErrOpen)
		}
		require.EqualValues(t, 4, server.calls.Load())
		requireRejected(t, get(within(t), conn))
		require.EqualValues(t, 4, server.calls.Load())
	})
	t.Run("rejections leave the budget of retries alone", func(t *testing.T) {
		t.Parallel()
		server := serve(t)
		server.fail.Store(2)
		conn := dial(t, grpcclient.Config{Target: server.addr, Breaker: brief, MaxAttempts: 2},
			grpcclient.WithMethodBreaker(orderv1.OrderService_PlaceOrder_FullMethodName, strict))
		client := orderv1.NewOrderServiceClient(conn)
		for range 2 {
			_, _ = client.PlaceOrder(within(t), &orderv1.PlaceOrderRequest{}, grpcclient.WithoutRetry())
		}
		for range 100 {
			_, err := client.PlaceOrder(within(t), &orderv1.PlaceOrderRequest{})
			requireRejected(t, err)
		}
		server.fail.Store(1)
		require.NoError(t, get(within(t), conn))
	})
}

func TestDial_breaker(t *testing.T) {
	t.Parallel()
	t.Run("a server that lets deadlines pass is left alone, whoever cancels before", func(t *testing.T) {
		t.Parallel()
		server := serve(t)
		asked := make(chan struct{})
		server.get = func(ctx context.Context) (*orderv1.GetOrderResponse, error) {
			select {
			case asked <- struct{}{}:
			case <-ctx.Done():
			}
			<-ctx.Done()
			return nil, ctx.Err()
		}
		conn := dial(t, grpcclient.Config{Target: server.addr, Breaker: strict, Timeout: 50 * time.Millisecond})
		for range 3 {
			ctx, cancel := context.WithCancel(within(t))
			go func() {
				<-asked
				cancel()
			}()
			require.Equal(t, codes.Canceled, status.Code(get(ctx, conn)))
		}
		for range 2 {
			require.Equal(t, codes.DeadlineExceeded, status.Code(get(context.Background(), conn)))
		}
		requireRejected(t, get(within(t), conn))
	})
	t.Run("a server that is well again is called again", func(t *testing.T) {
		t.Parallel()
		server, conn := guarded(t, brief)
		for range 10 {
			_ = get(within(t), conn)
		}
		server.fail.Store(0)
		require.Eventually(t, func() bool { return get(within(t), conn) == nil }, patience, time.Millisecond)
		for range 10 {
			require.NoError(t, get(within(t), conn))
		}
	})
	t.Run("a method may have its own", func(t *testing.T) {
		t.Parallel()
		server, conn := guarded(t, strict, grpcclient.WithMethodBreaker(orderv1.OrderService_GetOrder_FullMethodName, breaker.Config{Failures: 1}))
		client := orderv1.NewOrderServiceClient(conn)
		require.NotErrorIs(t, get(within(t), conn), breaker.ErrOpen)
		err := get(within(t), conn)
		requireRejected(t, err)
		require.ErrorContains(t, err, "orders/slipway.order.v1.OrderService/GetOrder: circuit breaker is open")
		for range 2 {
			_, err = client.PlaceOrder(within(t), &orderv1.PlaceOrderRequest{})
			require.NotErrorIs(t, err, breaker.ErrOpen)
		}
		_, err = client.PlaceOrder(within(t), &orderv1.PlaceOrderRequest{})
		requireRejected(t, err)
		require.EqualValues(t, 3, server.calls.Load())
	})
	t.Run("it can be turned off", func(t *testing.T) {
		t.Parallel()
		server := serve(t)
		server.fail.Store(1 << 40)
		conn := dial(t, grpcclient.Config{Target: server.addr, Breaker: strict, BreakerDisabled: true}, grpcclient.WithoutRetries())
		for range 10 {
			require.NotErrorIs(t, get(within(t), conn), breaker.ErrOpen)
		}
		require.EqualValues(t, 10, server.calls.Load())
	})
	t.Run("whether a server is well can be asked all the time", func(t *testing.T) {
		t.Parallel()
		_, conn := guarded(t, strict)
		for range 3 {
			_ = get(within(t), conn)
		}
		requireRejected(t, get(within(t), conn))
		_, err := healthpb.NewHealthClient(conn).Check(within(t), &healthpb.HealthCheckRequest{Service: "readiness"})
		require.NoError(t, err)
	})
	t.Run("what counts can be told", func(t *testing.T) {
		t.Parallel()
		cfg := strict
		cfg.Classify = func(error) breaker.Outcome { return breaker.Success }
		server, conn := guarded(t, cfg)
		for range 10 {
			require.NotErrorIs(t, get(within(t), conn), breaker.ErrOpen)
		}
		require.EqualValues(t, 10, server.calls.Load())
	})
}

// open opens a stream and returns the first that comes of it.
func open(ctx context.Context, conn *grpc.ClientConn) (grpc.ServerStreamingClient[orderv1.WatchOrderResponse], error) {
	stream, err := orderv1.NewOrderServiceClient(conn).WatchOrder(ctx, &orderv1.WatchOrderRequest{})
	if err != nil {
		return nil, err
	}
	_, err = stream.Recv()
	return stream, err
}

func TestDial_breaker_streams(t *testing.T) {
	t.Parallel()
	t.Run("an error that comes first is a failure", func(t *testing.T) {
		t.Parallel()
		server, conn := guarded(t, strict)
		for range 2 {
			_, err := open(within(t), conn)
			require.NotErrorIs(t, err, breaker.ErrOpen)
		}
		_, err := open(within(t), conn)
		requireRejected(t, err)
		require.EqualValues(t, 2, server.calls.Load())
	})
	t.Run("an error after a message is none", func(t *testing.T) {
		t.Parallel()
		server := serve(t)
		conn := dial(t, grpcclient.Config{Target: server.addr, Breaker: strict}, grpcclient.WithoutRetries())
		for range 5 {
			ctx, cancel := context.WithTimeout(within(t), 100*time.Millisecond)
			if stream, err := open(ctx, conn); err == nil {
				_, err = stream.Recv()
				require.Equal(t, codes.DeadlineExceeded, status.Code(err))
			}
			cancel()
			require.NoError(t, get(within(t), conn), "also if the machine was too slow for a message")
		}
	})
}
