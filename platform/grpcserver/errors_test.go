package grpcserver_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	orderv1 "github.com/slipwayhq/slipway/gen/slipway/order/v1"
	"github.com/slipwayhq/slipway/platform/fault"
	"github.com/slipwayhq/slipway/platform/grpcserver"
)

// detail returns the detail of type T of a status.
func detail[T any](t *testing.T, err error) T {
	t.Helper()
	for _, d := range status.Convert(err).Details() {
		if d, ok := d.(T); ok {
			return d
		}
	}
	t.Fatalf("no %T in %v", *new(T), status.Convert(err).Details())
	panic("unreachable")
}

// rawBytes is a request that is sent as it is.
type rawBytes string

// rawCodec sends rawBytes in the name of the protobuf codec.
type rawCodec struct{}

func (rawCodec) Name() string { return "proto" }

func (rawCodec) Marshal(v any) (mem.BufferSlice, error) {
	return mem.BufferSlice{mem.SliceBuffer(v.(rawBytes))}, nil
}

func (rawCodec) Unmarshal(data mem.BufferSlice, v any) error {
	return proto.Unmarshal(data.Materialize(), v.(proto.Message))
}

var (
	errVersion = errors.New("row version 3 is not 2 in table orders")
	errUnknown = errors.New("pq: password authentication failed for user orders at 10.1.2.3")
)

// returning answers GetOrder with err.
func (b *bundle) returning(err error) {
	b.orders.get = func(context.Context, *orderv1.GetOrderRequest) (*orderv1.GetOrderResponse, error) { return nil, err }
}

func TestServer_mapsFaults(t *testing.T) {
	t.Parallel()
	for code, want := range map[fault.Code]codes.Code{
		fault.Unknown:            codes.Internal,
		fault.Canceled:           codes.Canceled,
		fault.InvalidArgument:    codes.InvalidArgument,
		fault.DeadlineExceeded:   codes.DeadlineExceeded,
		fault.NotFound:           codes.NotFound,
		fault.AlreadyExists:      codes.AlreadyExists,
		fault.PermissionDenied:   codes.PermissionDenied,
		fault.ResourceExhausted:  codes.ResourceExhausted,
		fault.FailedPrecondition: codes.FailedPrecondition,
		fault.Aborted:            codes.Aborted,
		fault.Unimplemented:      codes.Unimplemented,
		fault.Internal:           codes.Internal,
		fault.Unavailable:        codes.Unavailable,
		fault.Unauthenticated:    codes.Unauthenticated,
		fault.Code(200):          codes.Internal,
	} {
		t.Run(code.String(), func(t *testing.T) {
			t.Parallel()
			b := setup(t, grpcserver.Config{})
			b.returning(fmt.Errorf("handle: %w", &fault.Error{Code: code, Message: "said to the client", Reason: "OUT_OF_STOCK", Cause: errUnknown}))
			_, err := b.client.GetOrder(within(t), getOrder)
			require.Equal(t, want, status.Code(err))
			require.Equal(t, "said to the client", status.Convert(err).Message())
			info := detail[*errdetails.ErrorInfo](t, err)
			require.Equal(t, "OUT_OF_STOCK", info.GetReason())
			require.Equal(t, orderService, info.GetDomain())
			require.Equal(t, 1, b.handled(t, "GetOrder", want.String()))
			require.Contains(t, b.line(t, "GetOrder")["error"], errUnknown.Error())
		})
	}
}

func TestServer_mapsErrors(t *testing.T) {
	t.Parallel()
	leak := "dial tcp 10.1.2.3:5432"
	inner, cancel := context.WithCancel(context.Background())
	cancel()
	for _, row := range []struct {
		name    string
		err     error
		code    codes.Code
		message string
		level   string
	}{
		{"by the table", fmt.Errorf("update: %w", errVersion), codes.Aborted, "the order has changed", "info"},
		{"of which nothing is known", errUnknown, codes.Internal, "internal error", "error"},
		{"of a cancellation that was not the caller's", fmt.Errorf("pool: %w", inner.Err()), codes.Internal, "internal error", "error"},
		{"of a deadline inside the service", fmt.Errorf("query: %w", context.DeadlineExceeded), codes.DeadlineExceeded, "the deadline was exceeded", "warn"},
		{"that are statuses of the caller's making", status.Error(codes.FailedPrecondition, "already shipped"), codes.FailedPrecondition, "already shipped", "info"},
		{"that are statuses with an internal text", status.Error(codes.Internal, leak), codes.Internal, "internal error", "error"},
		{"that are statuses with an unknown text", status.Error(codes.Unknown, leak), codes.Internal, "internal error", "error"},
		{"that are statuses of data loss", status.Error(codes.DataLoss, leak), codes.Internal, "internal error", "error"},
		{"that are statuses with a made-up code", status.Error(codes.Code(77), leak), codes.Internal, "internal error", "error"},
		{"of a server behind this one", status.Error(codes.Unavailable, leak), codes.Unavailable, "unavailable", "warn"},
		{"of a slow server behind this one", status.Error(codes.DeadlineExceeded, leak), codes.DeadlineExceeded, "deadline exceeded", "warn"},
		{"of credentials for a server behind this one", status.Error(codes.Unauthenticated, leak), codes.Unauthenticated, "unauthenticated", "info"},
		{"that wrap a status", fmt.Errorf("reserve: %w", status.Error(codes.NotFound, leak)), codes.Internal, "internal error", "error"},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			b := setup(t, grpcserver.Config{}, grpcserver.WithErrors(fault.Table{
				{Target: errVersion, Code: fault.Aborted, Message: "the order has changed", Reason: "VERSION"},
			}))
			b.returning(row.err)
			_, err := b.client.GetOrder(within(t), getOrder)
			require.Equal(t, row.code, status.Code(err))
			require.Equal(t, row.message, status.Convert(err).Message())
			for _, d := range status.Convert(err).Details() {
				require.NotContains(t, fmt.Sprint(d), "10.1.2.3")
			}
			line := b.line(t, "GetOrder")
			require.Equal(t, row.level, line["level"])
			require.Equal(t, row.err.Error(), line["error"], "the cause is in the log")
			require.NotEmpty(t, line["peer"])
		})
	}
}

func TestServer_internalErrorsCarryTheTraceID(t *testing.T) {
	t.Parallel()
	b := setup(t, grpcserver.Config{})
	b.returning(errUnknown)
	_, err := b.client.GetOrder(within(t), getOrder)
	require.Equal(t, b.line(t, "GetOrder")["trace_id"], detail[*errdetails.RequestInfo](t, err).GetRequestId())
	require.Eventually(t, func() bool { return len(b.spans.GetSpans()) == 1 }, patience, time.Millisecond)
	require.Len(t, b.spans.GetSpans()[0].Events, 1, "the span has the cause")
}

func TestServer_mapsTheCallersCancellation(t *testing.T) {
	t.Parallel()
	b := setup(t, grpcserver.Config{})
	entered := make(chan struct{})
	b.orders.get = func(ctx context.Context, _ *orderv1.GetOrderRequest) (*orderv1.GetOrderResponse, error) {
		close(entered)
		<-ctx.Done()
		return nil, fmt.Errorf("query: %w", ctx.Err())
	}
	ctx, cancel := context.WithCancel(within(t))
	go func() {
		<-entered
		cancel()
	}()
	_, err := b.client.GetOrder(ctx, getOrder)
	require.Equal(t, codes.Canceled, status.Code(err))
	require.Eventually(t, func() bool { return b.handled(t, "GetOrder", "Canceled") == 1 }, patience, time.Millisecond)
	require.Eventually(t, func() bool { return b.logs.FilterMessage("call finished").Len() == 1 }, patience, time.Millisecond)
	require.Equal(t, "info", b.line(t, "GetOrder")["level"])
}

func TestServer_countsAClientThatWentAwayAsCanceled(t *testing.T) {
	t.Parallel()
	b := setup(t, grpcserver.Config{})
	entered := make(chan struct{})
	b.orders.get = func(ctx context.Context, _ *orderv1.GetOrderRequest) (*orderv1.GetOrderResponse, error) {
		close(entered)
		<-ctx.Done()
		return &orderv1.GetOrderResponse{}, nil // There is nobody to send it to.
	}
	peer := connect(t, b.Addr())
	peer.open(t, orderv1.OrderService_GetOrder_FullMethodName, getOrder)
	<-entered
	require.NoError(t, peer.conn.Close())
	require.Eventually(t, func() bool { return b.logs.FilterMessage("call finished").Len() == 1 }, patience, time.Millisecond)
	require.Equal(t, "Canceled", b.line(t, "GetOrder")["grpc.code"])
	require.Equal(t, 1, b.handled(t, "GetOrder", "Canceled"))
}
