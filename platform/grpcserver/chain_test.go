package grpcserver_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	orderv1 "github.com/slipwayhq/slipway/gen/slipway/order/v1"
	"github.com/slipwayhq/slipway/platform/fault"
	"github.com/slipwayhq/slipway/platform/grpcserver"
	"github.com/slipwayhq/slipway/platform/internal/correlation"
)

const orderService = "slipway.order.v1.OrderService"

var getOrder = &orderv1.GetOrderRequest{OrderId: orderID}

// line returns the one access log line of a method.
func (b *bundle) line(t *testing.T, method string) map[string]any {
	t.Helper()
	var lines []map[string]any
	for _, e := range b.logs.FilterMessage("call finished").All() {
		fields := e.ContextMap()
		fields["level"] = e.Level.String()
		if fields["grpc.method"] == method {
			lines = append(lines, fields)
		}
	}
	require.Len(t, lines, 1, "one line a call")
	return lines[0]
}

// metric finds a series by its name and label values, in any order.
func (b *bundle) metric(t *testing.T, name string, labels ...string) *dto.Metric {
	t.Helper()
	families, err := b.registry.Gather()
	require.NoError(t, err)
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
	series:
		for _, m := range f.GetMetric() {
			have := map[string]bool{}
			for _, l := range m.GetLabel() {
				have[l.GetValue()] = true
			}
			for _, l := range labels {
				if !have[l] {
					continue series
				}
			}
			return m
		}
	}
	return nil
}

// count returns a counter's value.
func (b *bundle) count(t *testing.T, name string, labels ...string) int {
	t.Helper()
	m := b.metric(t, name, labels...)
	require.NotNil(t, m, "no series %s%v", name, labels)
	return int(m.GetCounter().GetValue())
}

func (b *bundle) handled(t *testing.T, labels ...string) int {
	t.Helper()
	return b.count(t, "grpc_server_handled_total", labels...)
}

func TestServer_callIsCountedTimedTracedAndLoggedOnce(t *testing.T) {
	t.Parallel()
	b := setup(t, grpcserver.Config{})
	_, err := b.client.GetOrder(within(t), getOrder)
	require.NoError(t, err)

	require.Equal(t, 1, b.handled(t, orderService, "GetOrder", "unary", "OK"))
	require.Equal(t, 1, b.count(t, "grpc_server_started_total", "GetOrder"))
	require.Zero(t, b.metric(t, "grpc_server_in_flight_requests", "GetOrder").GetGauge().GetValue())
	histogram := b.metric(t, "grpc_server_handling_seconds", orderService, "GetOrder", "unary").GetHistogram()
	require.EqualValues(t, 1, histogram.GetSampleCount())

	require.Eventually(t, func() bool { return len(b.spans.GetSpans()) == 1 }, patience, time.Millisecond)
	span := b.spans.GetSpans()[0]
	require.Equal(t, orderService+"/GetOrder", span.Name)
	var exemplars []string
	for _, bucket := range histogram.GetBucket() {
		if e := bucket.GetExemplar(); e != nil {
			exemplars = append(exemplars, e.GetLabel()[0].GetName()+"="+e.GetLabel()[0].GetValue())
		}
	}
	require.Equal(t, []string{"trace_id=" + span.SpanContext.TraceID().String()}, exemplars)

	line := b.line(t, "GetOrder")
	require.Positive(t, line["duration"])
	delete(line, "duration")
	require.Equal(t, map[string]any{
		"level": "info", "grpc.service": orderService, "grpc.method": "GetOrder", "grpc.code": "OK",
		"trace_id":       span.SpanContext.TraceID().String(),
		"span_id":        span.SpanContext.SpanID().String(),
		"correlation_id": span.SpanContext.TraceID().String(),
	}, line)
}

func TestServer_RegisterService_createsEverySeries(t *testing.T) {
	t.Parallel()
	b := newBundle(t, grpcserver.Config{})
	for _, method := range []string{"PlaceOrder", "GetOrder", "ListOrders", "CancelOrder", "WatchOrder"} {
		for code := codes.OK; code <= codes.Unauthenticated; code++ {
			require.Zero(t, b.handled(t, orderService, method, code.String()))
		}
		require.NotNil(t, b.metric(t, "grpc_server_started_total", orderService, method))
		require.NotNil(t, b.metric(t, "grpc_server_handling_seconds", orderService, method))
	}
	require.NotNil(t, b.metric(t, "grpc_server_handled_total", "WatchOrder", "server_stream"))
	require.NotNil(t, b.metric(t, "grpc_server_panics_recovered_total"))
}

func TestServer_traceAndCorrelation(t *testing.T) {
	t.Parallel()
	const traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	for _, row := range []struct {
		name string
		md   metadata.MD
		want string
	}{
		{"the trace id serves when the caller gives none", metadata.Pairs("traceparent", traceparent), "0af7651916cd43dd8448eb211c80319c"},
		{"the caller's is taken over", metadata.Pairs("traceparent", traceparent, "x-correlation-id", "cart-17:a.b_c"), "cart-17:a.b_c"},
		{"what is unsafe in a log is left out", metadata.Pairs("traceparent", traceparent, "x-correlation-id", "a b\"c<d>{}"), "abcd"},
		{"baggage is taken over", metadata.Pairs("traceparent", traceparent, "baggage", "correlation_id=cart-17%22%0a"), "cart-17"},
		{"the header goes before baggage", metadata.Pairs("traceparent", traceparent, "baggage", "correlation_id=b", "x-correlation-id", "a"), "a"},
		{"of nothing safe the trace id is left", metadata.Pairs("traceparent", traceparent, "baggage", "correlation_id=%22"), "0af7651916cd43dd8448eb211c80319c"},
		{"a long one is cut", metadata.Pairs("traceparent", traceparent, "x-correlation-id", strings.Repeat("x", 500)), strings.Repeat("x", 128)},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			b := setup(t, grpcserver.Config{})
			var seen string
			b.orders.get = func(ctx context.Context, _ *orderv1.GetOrderRequest) (*orderv1.GetOrderResponse, error) {
				seen = correlation.ID(ctx)
				assert.Equal(t, "0af7651916cd43dd8448eb211c80319c", trace.SpanContextFromContext(ctx).TraceID().String())
				return &orderv1.GetOrderResponse{}, nil
			}
			_, err := b.client.GetOrder(metadata.NewOutgoingContext(within(t), row.md), getOrder)
			require.NoError(t, err)
			require.Equal(t, row.want, seen)
			require.Equal(t, row.want, b.line(t, "GetOrder")["correlation_id"])
		})
	}
}

func TestServer_neverLogsPayloads(t *testing.T) {
	t.Parallel()
	const canary = "canary-4111111111111111"
	b := setup(t, grpcserver.Config{})
	b.orders.place = func(_ context.Context, r *orderv1.PlaceOrderRequest) (*orderv1.PlaceOrderResponse, error) {
		return &orderv1.PlaceOrderResponse{Order: &orderv1.Order{CustomerId: r.GetCustomerId()}}, nil
	}
	good := &orderv1.PlaceOrderRequest{IdempotencyKey: "key-12345", CustomerId: canary, CardToken: canary, Items: []*orderv1.OrderItem{{
		Sku: "A-1", Quantity: 1, UnitPrice: &orderv1.Money{CurrencyCode: "EUR", MinorUnits: 1},
	}}}
	_, err := b.client.PlaceOrder(within(t), good)
	require.NoError(t, err)
	_, err = b.client.PlaceOrder(within(t), &orderv1.PlaceOrderRequest{IdempotencyKey: canary + " ", CustomerId: canary + "\n", CardToken: canary + " "})
	require.Equal(t, codes.InvalidArgument, status.Code(err))
	for _, e := range b.logs.All() {
		require.NotContains(t, fmt.Sprint(e.Message, e.ContextMap()), canary)
	}
}

func TestServer_authenticates(t *testing.T) {
	t.Parallel()
	authenticate := func(ctx context.Context, method string) (grpcserver.Principal, error) {
		switch token := metadata.ValueFromIncomingContext(ctx, "authorization"); {
		case len(token) == 0:
			return grpcserver.Principal{}, fault.New(fault.Unauthenticated, "no token")
		case token[0] == "broken":
			return grpcserver.Principal{}, errors.New("token store at 10.0.0.7 is down")
		default:
			return grpcserver.Principal{ID: token[0] + method}, nil
		}
	}
	b := setup(t, grpcserver.Config{}, grpcserver.WithAuthenticator(authenticate))
	var seen grpcserver.Principal
	b.orders.get = func(ctx context.Context, _ *orderv1.GetOrderRequest) (*orderv1.GetOrderResponse, error) {
		seen, _ = grpcserver.PrincipalFrom(ctx)
		return &orderv1.GetOrderResponse{}, nil
	}

	t.Run("nobody passes without credentials, whatever the method and the request", func(t *testing.T) {
		_, err := b.client.PlaceOrder(within(t), &orderv1.PlaceOrderRequest{})
		require.Equal(t, codes.Unauthenticated, status.Code(err))
		require.Equal(t, "no token", status.Convert(err).Message())
		stream, err := b.client.WatchOrder(within(t), &orderv1.WatchOrderRequest{OrderId: orderID})
		require.NoError(t, err)
		_, err = stream.Recv()
		require.Equal(t, codes.Unauthenticated, status.Code(err))
		require.Equal(t, 1, b.handled(t, "WatchOrder", "Unauthenticated"))
	})
	t.Run("credentials that cannot be checked are an internal error", func(t *testing.T) {
		_, err := b.client.ListOrders(metadata.AppendToOutgoingContext(within(t), "authorization", "broken"), &orderv1.ListOrdersRequest{})
		require.Equal(t, codes.Internal, status.Code(err))
		require.NotContains(t, err.Error(), "10.0.0.7")
	})
	t.Run("the handler and the log learn the principal", func(t *testing.T) {
		_, err := b.client.GetOrder(metadata.AppendToOutgoingContext(within(t), "authorization", "anna"), getOrder)
		require.NoError(t, err)
		require.Equal(t, "anna"+orderv1.OrderService_GetOrder_FullMethodName, seen.ID)
		require.Equal(t, seen.ID, b.line(t, "GetOrder")["principal"])
	})
	t.Run("health is public and not traced", func(t *testing.T) {
		_, err := healthpb.NewHealthClient(b.conn).Check(within(t), &healthpb.HealthCheckRequest{Service: "liveness"})
		require.NoError(t, err)
		require.Equal(t, "debug", b.line(t, "Check")["level"])
		require.NotContains(t, b.line(t, "Check"), "trace_id")
	})
}

func TestServer_limitsTheRate(t *testing.T) {
	t.Parallel()
	b := setup(t, grpcserver.Config{},
		grpcserver.WithAuthenticator(func(context.Context, string) (grpcserver.Principal, error) {
			return grpcserver.Principal{ID: "anna"}, nil
		}),
		grpcserver.WithRateLimit(func(ctx context.Context, _ string) error {
			p, _ := grpcserver.PrincipalFrom(ctx)
			return &fault.Error{Code: fault.ResourceExhausted, Message: p.ID + ", slow down", RetryAfter: 2 * time.Second}
		}))
	_, err := b.client.GetOrder(within(t), getOrder)
	require.Equal(t, codes.ResourceExhausted, status.Code(err))
	require.Equal(t, "anna, slow down", status.Convert(err).Message())
	require.Equal(t, 2*time.Second, detail[*errdetails.RetryInfo](t, err).GetRetryDelay().AsDuration())
	require.Equal(t, "warn", b.line(t, "GetOrder")["level"])

	_, err = healthpb.NewHealthClient(b.conn).Check(within(t), &healthpb.HealthCheckRequest{})
	require.NoError(t, err)
}

func TestServer_validates(t *testing.T) {
	t.Parallel()
	b := setup(t, grpcserver.Config{})
	t.Run("unary requests, naming every wrong field", func(t *testing.T) {
		_, err := b.client.PlaceOrder(within(t), &orderv1.PlaceOrderRequest{
			IdempotencyKey: "short", CustomerId: "c1", CardToken: "tok_ok",
			Items: []*orderv1.OrderItem{{Sku: "a b", Quantity: 5000, UnitPrice: &orderv1.Money{CurrencyCode: "EUR"}}},
		})
		require.Equal(t, codes.InvalidArgument, status.Code(err))
		var fields []string
		for _, v := range detail[*errdetails.BadRequest](t, err).GetFieldViolations() {
			require.NotEmpty(t, v.GetDescription())
			fields = append(fields, v.GetField())
		}
		require.Equal(t, []string{"idempotency_key", "items[0].sku", "items[0].quantity", "items[0].unit_price"}, fields)
		line := b.line(t, "PlaceOrder")
		require.Equal(t, "info", line["level"])
		require.Equal(t, "idempotency_key, items[0].sku, items[0].quantity, items[0].unit_price", line["violations"])
	})
	t.Run("requests of streams", func(t *testing.T) {
		stream, err := b.client.WatchOrder(within(t), &orderv1.WatchOrderRequest{OrderId: "1"})
		require.NoError(t, err)
		_, err = stream.Recv()
		require.Equal(t, codes.InvalidArgument, status.Code(err))
		require.Equal(t, "order_id", detail[*errdetails.BadRequest](t, err).GetFieldViolations()[0].GetField())
	})
	t.Run("bytes that are no message are the caller's fault", func(t *testing.T) {
		err := b.conn.Invoke(within(t), orderv1.OrderService_GetOrder_FullMethodName, rawBytes("\xff\xff\xff"),
			&orderv1.GetOrderResponse{}, grpc.ForceCodecV2(rawCodec{}))
		require.Equal(t, codes.InvalidArgument, status.Code(err))
		require.Equal(t, "malformed request message", status.Convert(err).Message())
		require.Equal(t, 1, b.handled(t, "GetOrder", "InvalidArgument"))
	})
}

func TestServer_deadlines(t *testing.T) {
	t.Parallel()
	remaining := func(b *bundle) *time.Duration {
		left := new(time.Duration)
		b.orders.get = func(ctx context.Context, _ *orderv1.GetOrderRequest) (*orderv1.GetOrderResponse, error) {
			if deadline, ok := ctx.Deadline(); ok {
				*left = time.Until(deadline)
			}
			return &orderv1.GetOrderResponse{}, nil
		}
		return left
	}
	t.Run("a call without one gets the ceiling", func(t *testing.T) {
		t.Parallel()
		b := setup(t, grpcserver.Config{MaxDeadline: time.Hour})
		left := remaining(b)
		_, err := b.client.GetOrder(context.Background(), getOrder)
		require.NoError(t, err)
		require.InDelta(t, time.Hour, *left, float64(time.Minute))
	})
	t.Run("a longer one is cut, a shorter one kept", func(t *testing.T) {
		t.Parallel()
		b := setup(t, grpcserver.Config{MaxDeadline: time.Hour})
		left := remaining(b)
		for timeout, want := range map[time.Duration]time.Duration{5 * time.Hour: time.Hour, 10 * time.Minute: 10 * time.Minute} {
			ctx, cancel := context.WithTimeout(context.Background(), timeout)
			defer cancel()
			_, err := b.client.GetOrder(ctx, getOrder)
			require.NoError(t, err)
			require.InDelta(t, want, *left, float64(time.Minute))
		}
	})
	t.Run("one that is too short to begin is refused", func(t *testing.T) {
		t.Parallel()
		b := setup(t, grpcserver.Config{MinDeadline: 20 * time.Minute, MaxDeadline: time.Hour})
		b.orders.get = func(context.Context, *orderv1.GetOrderRequest) (*orderv1.GetOrderResponse, error) {
			t.Error("the handler ran")
			return &orderv1.GetOrderResponse{}, nil
		}
		_, err := b.client.GetOrder(within(t), getOrder)
		require.Equal(t, codes.DeadlineExceeded, status.Code(err))
		require.Equal(t, "the deadline is too short to begin", status.Convert(err).Message())
	})
	t.Run("the ceiling ends a call that outlasts it", func(t *testing.T) {
		t.Parallel()
		b := setup(t, grpcserver.Config{MaxDeadline: 50 * time.Millisecond})
		b.orders.get = func(ctx context.Context, _ *orderv1.GetOrderRequest) (*orderv1.GetOrderResponse, error) {
			<-ctx.Done()
			return nil, fmt.Errorf("query: %w", ctx.Err())
		}
		_, err := b.client.GetOrder(context.Background(), getOrder)
		require.Equal(t, codes.DeadlineExceeded, status.Code(err))
		require.Equal(t, "deadline exceeded", status.Convert(err).Message())
	})
	t.Run("streams have no ceiling", func(t *testing.T) {
		t.Parallel()
		b := setup(t, grpcserver.Config{MaxDeadline: time.Second})
		b.orders.watch = func(_ *orderv1.WatchOrderRequest, s grpc.ServerStreamingServer[orderv1.WatchOrderResponse]) error {
			_, bounded := s.Context().Deadline()
			if bounded {
				return errors.New("bounded")
			}
			return nil
		}
		stream, err := b.client.WatchOrder(context.Background(), &orderv1.WatchOrderRequest{OrderId: orderID})
		require.NoError(t, err)
		_, err = stream.Recv()
		require.ErrorContains(t, err, "EOF")
	})
}

func TestServer_recoversFromPanics(t *testing.T) {
	t.Parallel()
	b := setup(t, grpcserver.Config{})
	b.orders.get = func(context.Context, *orderv1.GetOrderRequest) (*orderv1.GetOrderResponse, error) {
		panic("index out of range in pricing")
	}
	b.orders.watch = func(*orderv1.WatchOrderRequest, grpc.ServerStreamingServer[orderv1.WatchOrderResponse]) error {
		panic("in a stream")
	}
	_, err := b.client.GetOrder(within(t), getOrder)
	require.Equal(t, codes.Internal, status.Code(err))
	require.Equal(t, "internal error", status.Convert(err).Message())
	line := b.line(t, "GetOrder")
	require.Equal(t, "error", line["level"])
	require.Contains(t, line["error"], "index out of range in pricing")
	require.Contains(t, line["stack"], "chain_test.go")

	stream, err := b.client.WatchOrder(within(t), &orderv1.WatchOrderRequest{OrderId: orderID})
	require.NoError(t, err)
	_, err = stream.Recv()
	require.Equal(t, codes.Internal, status.Code(err))

	require.Equal(t, 2, b.count(t, "grpc_server_panics_recovered_total"))
	require.Equal(t, 1, b.handled(t, "GetOrder", "Internal"))
	require.Equal(t, 1, b.handled(t, "WatchOrder", "Internal"))
}

func TestServer_unknownMethodsShareOneSeries(t *testing.T) {
	t.Parallel()
	b := setup(t, grpcserver.Config{})
	for i, method := range []string{"/nobody.Knows/It", "/" + orderService + "/Steal", "/x/" + strings.Repeat("y", 500)} {
		err := b.conn.Invoke(within(t), method, getOrder, &orderv1.GetOrderResponse{})
		require.Equal(t, codes.Unimplemented, status.Code(err))
		require.NotContains(t, err.Error(), "Steal")
		require.Equal(t, i+1, b.handled(t, "unknown", "Unimplemented"))
	}
	lines := b.logs.FilterMessage("call finished").All()
	require.Len(t, lines, 3)
	require.Equal(t, "/nobody.Knows/It", lines[0].ContextMap()["grpc.requested"])
	require.Len(t, lines[2].ContextMap()["grpc.requested"], 128)
	require.Empty(t, b.spans.GetSpans(), "no span is named by a caller")
}
