package grpcclient_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/baggage"
	"go.opentelemetry.io/otel/propagation"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/resolver/manual"
	"google.golang.org/grpc/status"

	orderv1 "github.com/slipwayhq/slipway/gen/slipway/order/v1"
	"github.com/slipwayhq/slipway/platform/grpcclient"
	"github.com/slipwayhq/slipway/platform/internal/correlation"
)

func TestDial_deadline(t *testing.T) {
	t.Parallel()
	server := serve(t)
	left := make(chan time.Duration, 1)
	server.get = func(ctx context.Context) (*orderv1.GetOrderResponse, error) {
		end, _ := ctx.Deadline()
		left <- time.Until(end)
		return &orderv1.GetOrderResponse{}, nil
	}
	conn := dial(t, grpcclient.Config{Target: server.addr, Timeout: time.Minute})

	t.Run("a call without one gets the timeout", func(t *testing.T) {
		require.NoError(t, get(context.Background(), conn))
		require.InDelta(t, time.Minute, <-left, float64(patience))
	})
	t.Run("a call's own is kept, though it is longer", func(t *testing.T) {
		ctx, cancel := context.WithTimeout(context.Background(), time.Hour)
		defer cancel()
		require.NoError(t, get(ctx, conn))
		require.InDelta(t, time.Hour, <-left, float64(patience))
	})
	t.Run("a silent server is given up", func(t *testing.T) {
		silent := serve(t)
		silent.get = func(ctx context.Context) (*orderv1.GetOrderResponse, error) {
			select {
			case <-ctx.Done():
				return nil, ctx.Err()
			case <-time.After(patience):
				return &orderv1.GetOrderResponse{}, nil
			}
		}
		impatient := dial(t, grpcclient.Config{Target: silent.addr, Timeout: 50 * time.Millisecond})
		require.Equal(t, codes.DeadlineExceeded, status.Code(get(context.Background(), impatient)))
	})
}

func TestDial_limitsMessages(t *testing.T) {
	t.Parallel()
	server := serve(t)
	server.get = func(context.Context) (*orderv1.GetOrderResponse, error) {
		return &orderv1.GetOrderResponse{Order: &orderv1.Order{Id: strings.Repeat("x", 2048)}}, nil
	}
	require.NoError(t, get(within(t), dial(t, grpcclient.Config{Target: server.addr})))
	err := get(within(t), dial(t, grpcclient.Config{Target: server.addr, MaxRecvBytes: 1024}))
	require.Equal(t, codes.ResourceExhausted, status.Code(err))

	before := server.calls.Load()
	client := orderv1.NewOrderServiceClient(dial(t, grpcclient.Config{Target: server.addr, MaxSendBytes: 1024}))
	_, err = client.GetOrder(within(t), &orderv1.GetOrderRequest{OrderId: strings.Repeat("x", 2048)})
	require.Equal(t, codes.ResourceExhausted, status.Code(err))
	require.Equal(t, before, server.calls.Load())
}

// replicas dials all servers under one name.
func replicas(t *testing.T, servers ...*orders) *grpc.ClientConn {
	t.Helper()
	r := manual.NewBuilderWithScheme("test")
	var state resolver.State
	for _, s := range servers {
		state.Endpoints = append(state.Endpoints, resolver.Endpoint{Addresses: []resolver.Address{{Addr: s.addr}}})
	}
	r.InitialState(state)
	return dial(t, grpcclient.Config{Target: "test:///orders"}, grpcclient.WithDialOptions(grpc.WithResolvers(r)))
}

func TestDial_replicas(t *testing.T) {
	t.Parallel()
	t.Run("take turns", func(t *testing.T) {
		t.Parallel()
		a, b := serve(t), serve(t)
		conn := replicas(t, a, b)
		bothServe(t, conn, a, b)
		fromA, fromB := a.calls.Load(), b.calls.Load()
		for range 20 {
			require.NoError(t, get(within(t), conn))
		}
		require.EqualValues(t, 10, a.calls.Load()-fromA)
		require.EqualValues(t, 10, b.calls.Load()-fromB)
	})
	t.Run("get no calls while they are not ready", func(t *testing.T) {
		t.Parallel()
		ready, draining := serve(t), serve(t)
		draining.health.SetServingStatus("readiness", healthpb.HealthCheckResponse_NOT_SERVING)
		conn := replicas(t, ready, draining)
		for range 50 {
			require.NoError(t, get(within(t), conn))
		}
		require.Zero(t, draining.calls.Load())

		draining.health.SetServingStatus("readiness", healthpb.HealthCheckResponse_SERVING)
		bothServe(t, conn, ready, draining)

		ready.health.SetServingStatus("readiness", healthpb.HealthCheckResponse_NOT_SERVING)
		require.Eventually(t, func() bool {
			before := ready.calls.Load()
			for range 4 {
				require.NoError(t, get(within(t), conn))
			}
			return ready.calls.Load() == before
		}, patience, time.Millisecond)
	})
	t.Run("fail calls before their deadline when none is ready", func(t *testing.T) {
		t.Parallel()
		server := serve(t)
		server.health.SetServingStatus("readiness", healthpb.HealthCheckResponse_NOT_SERVING)
		require.Equal(t, codes.Unavailable, status.Code(get(within(t), replicas(t, server))))
		require.Zero(t, server.calls.Load())
	})
}

func bothServe(t *testing.T, conn *grpc.ClientConn, a, b *orders) {
	t.Helper()
	fromA, fromB := a.calls.Load(), b.calls.Load()
	require.Eventually(t, func() bool {
		require.NoError(t, get(within(t), conn))
		return a.calls.Load() > fromA && b.calls.Load() > fromB
	}, patience, time.Millisecond)
}

func TestDial_telemetry(t *testing.T) {
	t.Parallel()
	server := serve(t)
	received := make(chan metadata.MD, 1)
	server.get = func(ctx context.Context) (*orderv1.GetOrderResponse, error) {
		md, _ := metadata.FromIncomingContext(ctx)
		received <- md
		return &orderv1.GetOrderResponse{}, nil
	}
	member, err := baggage.NewMember("correlation_id", "c-1")
	require.NoError(t, err)
	bag, err := baggage.New(member)
	require.NoError(t, err)
	ctx := baggage.ContextWithBaggage(within(t), bag)

	t.Run("a span is made and travels with the baggage", func(t *testing.T) {
		spans := tracetest.NewInMemoryExporter()
		conn := dial(t, grpcclient.Config{Target: server.addr},
			grpcclient.WithTracerProvider(sdktrace.NewTracerProvider(sdktrace.WithSyncer(spans))),
			grpcclient.WithPropagator(propagation.NewCompositeTextMapPropagator(propagation.TraceContext{}, propagation.Baggage{})))
		require.NoError(t, get(ctx, conn))
		md := <-received
		require.Len(t, spans.GetSpans(), 1)
		require.Contains(t, md.Get("traceparent")[0], spans.GetSpans()[0].SpanContext.TraceID().String())
		require.Equal(t, []string{"correlation_id=c-1"}, md.Get("baggage"))
	})
	t.Run("the baggage travels without a tracer", func(t *testing.T) {
		conn := dial(t, grpcclient.Config{Target: server.addr}, grpcclient.WithPropagator(propagation.Baggage{}))
		require.NoError(t, get(ctx, conn))
		require.Equal(t, []string{"correlation_id=c-1"}, (<-received).Get("baggage"))
	})
	t.Run("no baggage is sent without a propagator", func(t *testing.T) {
		require.NoError(t, get(ctx, dial(t, grpcclient.Config{Target: server.addr})))
		require.Empty(t, (<-received).Get("baggage"))
	})
}

func TestDial_correlation(t *testing.T) {
	t.Parallel()
	server := serve(t)
	received := make(chan []string, 1)
	server.get = func(ctx context.Context) (*orderv1.GetOrderResponse, error) {
		received <- metadata.ValueFromIncomingContext(ctx, "x-correlation-id")
		return &orderv1.GetOrderResponse{}, nil
	}
	server.watch = func(ctx context.Context) { received <- metadata.ValueFromIncomingContext(ctx, "x-correlation-id") }
	conn := dial(t, grpcclient.Config{Target: server.addr})
	given := correlation.With(within(t), "c-1")

	t.Run("an id that was given is sent", func(t *testing.T) {
		require.NoError(t, get(given, conn))
		require.Equal(t, []string{"c-1"}, <-received)
	})
	t.Run("streams send it too", func(t *testing.T) {
		watch(given, t, orderv1.NewOrderServiceClient(conn))
		require.Equal(t, []string{"c-1"}, <-received)
	})
	t.Run("the caller's own header wins", func(t *testing.T) {
		require.NoError(t, get(metadata.AppendToOutgoingContext(given, "x-correlation-id", "own"), conn))
		require.Equal(t, []string{"own"}, <-received)
	})
	t.Run("nothing is sent when nothing was given", func(t *testing.T) {
		require.NoError(t, get(within(t), conn))
		require.Empty(t, <-received)
	})
	t.Run("an id that metadata cannot carry fails no call", func(t *testing.T) {
		require.NoError(t, get(correlation.With(within(t), "grüße\n"), conn))
		require.Empty(t, <-received)
	})
}

func TestDial_metrics(t *testing.T) {
	t.Parallel()
	server, registry := serve(t), prometheus.NewRegistry()
	server.fail.Store(1)
	for range 2 {
		conn := dial(t, grpcclient.Config{Target: server.addr}, grpcclient.WithRegisterer(registry))
		require.NoError(t, get(within(t), conn))
		client := orderv1.NewOrderServiceClient(conn)
		_, err := client.ListOrders(within(t), &orderv1.ListOrdersRequest{})
		require.Equal(t, codes.Unimplemented, status.Code(err))
		watch(within(t), t, client)
	}
	want := handled(map[string]int{"GetOrder OK": 2, "ListOrders Unimplemented": 2, "WatchOrder Canceled": 2})
	var err error
	require.Eventually(t, func() bool {
		err = testutil.GatherAndCompare(registry, strings.NewReader(want), "grpc_client_handled_total")
		return err == nil
	}, patience, time.Millisecond, "%v", err)
	count, err := testutil.GatherAndCount(registry, "grpc_client_handling_seconds")
	require.NoError(t, err)
	require.Equal(t, len(methods), count)
}

var methods = []string{"PlaceOrder", "GetOrder", "ListOrders", "CancelOrder", "WatchOrder"}

// handled is what the counter exposes: every method and code, and 0 where calls say nothing.
func handled(calls map[string]int) string {
	var s strings.Builder
	s.WriteString("# HELP grpc_client_handled_total Total number of RPCs completed by the client, regardless of success or failure.\n" +
		"# TYPE grpc_client_handled_total counter\n")
	for _, method := range methods {
		for code := range codes.Unauthenticated + 1 {
			fmt.Fprintf(&s, "grpc_client_handled_total{grpc_code=%q,grpc_method=%q,grpc_service=%q} %d\n",
				code, method, orderv1.OrderService_ServiceDesc.ServiceName, calls[method+" "+code.String()])
		}
	}
	return s.String()
}

// watch opens a stream and drops it, as a caller does that saw enough.
func watch(ctx context.Context, t *testing.T, client orderv1.OrderServiceClient) {
	t.Helper()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := client.WatchOrder(ctx, &orderv1.WatchOrderRequest{})
	require.NoError(t, err)
	_, err = stream.Recv()
	require.NoError(t, err)
}
