package grpcclient_test

import (
	"context"
	"math"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	orderv1 "github.com/slipwayhq/slipway/gen/slipway/order/v1"
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

func TestDial_budgetStopsARetryStorm(t *testing.T) {
	t.Parallel()
	const calls = 500
	t.Run("a server that always fails gets hardly more calls than are made", func(t *testing.T) {
		t.Parallel()
		server := serve(t)
		server.fail.Store(math.MaxInt64)
		conn := dial(t, grpcclient.Config{Target: server.addr})
		for range calls {
			require.Equal(t, codes.Unavailable, status.Code(get(within(t), conn)))
		}
		requireLoadFactor(t, server, calls)

		server.fail.Store(0)
		for range 100 { // a tenth of a token each
			require.NoError(t, get(within(t), conn))
		}
		server.fail.Store(1)
		require.NoError(t, get(within(t), conn), "the budget did not come back")
	})
	t.Run("so does one that fails every other call", func(t *testing.T) {
		t.Parallel()
		server := serve(t)
		server.get = func(context.Context) (*orderv1.GetOrderResponse, error) {
			if server.calls.Load()%2 == 0 {
				return nil, status.Error(codes.Unavailable, "told to fail")
			}
			return &orderv1.GetOrderResponse{}, nil
		}
		conn := dial(t, grpcclient.Config{Target: server.addr})
		for range calls {
			_ = get(within(t), conn) // Half of them fail once the budget is spent.
		}
		requireLoadFactor(t, server, calls)
	})
}

// requireLoadFactor compares the calls that a server got with those that were made.
func requireLoadFactor(t *testing.T, server *orders, calls int) {
	t.Helper()
	factor := float64(server.calls.Load()) / float64(calls)
	t.Logf("load factor %.3f", factor)
	require.Greater(t, factor, 1.0, "nothing was retried at all")
	require.Less(t, factor, 1.2)
}
