package grpcclient_test

import (
	"context"
	"math"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	orderv1 "github.com/slipwayhq/slipway/gen/slipway/order/v1"
	"github.com/slipwayhq/slipway/platform/breaker"
	"github.com/slipwayhq/slipway/platform/grpcclient"
)

func TestDial_retries(t *testing.T) {
	t.Parallel()
	t.Run("a read is repeated until it succeeds", func(t *testing.T) {
		t.Parallel()
		server := serve(t)
		server.fail.Store(2)
		require.NoError(t, get(within(t), dial(t, grpcclient.Config{Target: server.addr})))
		require.EqualValues(t, 3, server.calls.Load())
	})
	t.Run("a write with an idempotency key is repeated", func(t *testing.T) {
		t.Parallel()
		server := serve(t)
		server.fail.Store(1)
		client := orderv1.NewOrderServiceClient(dial(t, grpcclient.Config{Target: server.addr}))
		_, err := client.PlaceOrder(within(t), &orderv1.PlaceOrderRequest{})
		require.NoError(t, err)
		require.EqualValues(t, 2, server.calls.Load())
	})
	t.Run("attempts are bounded", func(t *testing.T) {
		t.Parallel()
		server := serve(t)
		server.fail.Store(math.MaxInt64)
		err := get(within(t), dial(t, grpcclient.Config{Target: server.addr, MaxAttempts: 2}))
		require.Equal(t, codes.Unavailable, status.Code(err))
		require.EqualValues(t, 2, server.calls.Load())
	})
	t.Run("a server that asks for less load is left alone", func(t *testing.T) {
		t.Parallel()
		server := serve(t)
		server.code = codes.ResourceExhausted
		server.fail.Store(1)
		err := get(within(t), dial(t, grpcclient.Config{Target: server.addr}))
		require.Equal(t, codes.ResourceExhausted, status.Code(err))
		require.EqualValues(t, 1, server.calls.Load())
	})
	t.Run("a call that must not be repeated is not", func(t *testing.T) {
		t.Parallel()
		server := serve(t)
		server.fail.Store(1)
		client := orderv1.NewOrderServiceClient(dial(t, grpcclient.Config{Target: server.addr}))
		_, err := client.GetOrder(within(t), &orderv1.GetOrderRequest{}, grpcclient.WithoutRetry())
		require.Equal(t, codes.Unavailable, status.Code(err))
		require.EqualValues(t, 1, server.calls.Load())
	})
	t.Run("none are made when they are turned off", func(t *testing.T) {
		t.Parallel()
		server := serve(t)
		server.fail.Store(1)
		err := get(within(t), dial(t, grpcclient.Config{Target: server.addr}, grpcclient.WithoutRetries()))
		require.Equal(t, codes.Unavailable, status.Code(err))
		require.EqualValues(t, 1, server.calls.Load())
	})
}

// prober answers Check with UNAVAILABLE; its Watch is not implemented, so it counts as ready.
type prober struct {
	healthpb.UnimplementedHealthServer
	calls atomic.Int64
}

func (p *prober) Check(context.Context, *healthpb.HealthCheckRequest) (*healthpb.HealthCheckResponse, error) {
	p.calls.Add(1)
	return nil, status.Error(codes.Unavailable, "told to fail")
}

func TestDial_methodThatDoesNotSayItMayBeRepeated(t *testing.T) {
	t.Parallel()
	p, server := &prober{}, grpc.NewServer()
	healthpb.RegisterHealthServer(server, p)
	conn := dial(t, grpcclient.Config{Target: listen(t, server)},
		grpcclient.WithServices(healthpb.Health_ServiceDesc.ServiceName))
	_, err := healthpb.NewHealthClient(conn).Check(within(t), &healthpb.HealthCheckRequest{})
	require.Equal(t, codes.Unavailable, status.Code(err))
	require.EqualValues(t, 1, p.calls.Load())
}

// A retry needs more than 5 tokens, of which it takes one; there are 10, and a success gives a
// tenth of one back. So there are at most 5 retries beyond one for ten successes, whatever fails when.
const retryBurst = 5

func TestDial_budgetStopsARetryStorm(t *testing.T) {
	t.Parallel()
	const calls = 2000
	for _, c := range []struct {
		name string
		// fails says whether the server fails the n-th call that it gets, counted from 1.
		fails func(n int64) bool
	}{
		{"a server that always fails", func(int64) bool { return true }},
		{"one that fails every other call", func(n int64) bool { return n%2 == 0 }},
		{"one that fails two of twelve, so that the budget comes back as fast as it is spent", func(n int64) bool { return n%12 < 2 }},
		{"one that fails every eleventh, as many as the budget lets pass", func(n int64) bool { return n%11 == 0 }},
		{"one that fails for a while, again and again", func(n int64) bool { return n%200 < 50 }},
	} {
		t.Run(c.name+" gets hardly more calls than are made", func(t *testing.T) {
			t.Parallel()
			server := serve(t)
			server.get = func(context.Context) (*orderv1.GetOrderResponse, error) {
				if c.fails(server.calls.Load()) {
					return nil, status.Error(codes.Unavailable, "told to fail")
				}
				return &orderv1.GetOrderResponse{}, nil
			}
			conn := dial(t, grpcclient.Config{Target: server.addr, MaxAttempts: 5, BreakerDisabled: true})
			var succeeded int
			for range calls {
				if get(within(t), conn) == nil {
					succeeded++
				}
			}
			got := int(server.calls.Load())
			t.Logf("%d calls, %d succeeded, %d attempts: %.3f", calls, succeeded, got, float64(got)/calls)
			require.Greater(t, got, calls, "nothing was retried at all")
			require.LessOrEqual(t, got, calls+succeeded/10+retryBurst)
			require.LessOrEqual(t, got, calls*12/10, "more than 1.2 times the load")
		})
	}
	t.Run("side by side calls share one budget", func(t *testing.T) {
		t.Parallel()
		server := serve(t)
		server.fail.Store(math.MaxInt64)
		conn := dial(t, grpcclient.Config{Target: server.addr, MaxAttempts: 5, BreakerDisabled: true})
		var callers errgroup.Group
		for range 20 {
			callers.Go(func() error {
				for range calls / 20 {
					_ = get(within(t), conn)
				}
				return nil
			})
		}
		require.NoError(t, callers.Wait())
		require.LessOrEqual(t, server.calls.Load(), int64(calls+retryBurst))
	})
	t.Run("the budget comes back", func(t *testing.T) {
		t.Parallel()
		server := serve(t)
		server.fail.Store(20)
		conn := dial(t, grpcclient.Config{Target: server.addr, BreakerDisabled: true})
		for range 120 { // 20 fail, and each of the others gives a tenth of a token.
			_ = get(within(t), conn)
		}
		server.fail.Store(1)
		require.NoError(t, get(within(t), conn))
	})
	t.Run("with a breaker the server is left alone", func(t *testing.T) {
		t.Parallel()
		server := serve(t)
		server.fail.Store(math.MaxInt64)
		conn := dial(t, grpcclient.Config{Target: server.addr, Breaker: breaker.Config{OpenTimeout: time.Hour, MaxOpen: time.Hour}})
		for range calls {
			require.Equal(t, codes.Unavailable, status.Code(get(within(t), conn)))
		}
		require.LessOrEqual(t, server.calls.Load(), int64(10+retryBurst), "10 failures in a row open it")
	})
}
