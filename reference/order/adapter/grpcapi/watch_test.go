package grpcapi_test

import (
	"context"
	"io"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	orderv1 "github.com/slipwayhq/slipway/gen/slipway/order/v1"
)

const (
	pending   = orderv1.OrderStatus_ORDER_STATUS_PENDING
	confirmed = orderv1.OrderStatus_ORDER_STATUS_CONFIRMED
	cancelled = orderv1.OrderStatus_ORDER_STATUS_CANCELLED
)

type stream = grpc.ServerStreamingClient[orderv1.WatchOrderResponse]

func (b bundle) watch(t *testing.T, id string, known int64) stream {
	t.Helper()
	s, err := b.WatchOrder(as(t, "shop"), &orderv1.WatchOrderRequest{OrderId: id, KnownVersion: known})
	require.NoError(t, err)
	return s
}

func requireNext(t *testing.T, s stream, status orderv1.OrderStatus, version int64) {
	t.Helper()
	m, err := s.Recv()
	require.NoError(t, err)
	require.Equal(t, status, m.GetOrder().GetStatus())
	require.Equal(t, version, m.GetOrder().GetVersion())
	require.WithinDuration(t, now(), m.GetSendTime().AsTime(), patience)
}

func requireEnd(t *testing.T, s stream) {
	t.Helper()
	_, err := s.Recv()
	require.ErrorIs(t, err, io.EOF)
}

func TestService_WatchOrder(t *testing.T) {
	t.Parallel()
	b := setup(t)
	cancel := func(t *testing.T, id string) {
		t.Helper()
		_, err := b.CancelOrder(as(t, "shop"), &orderv1.CancelOrderRequest{OrderId: id, Reason: "no"})
		require.NoError(t, err)
	}

	t.Run("sends the state at once, then the change, and ends after the final one", func(t *testing.T) {
		t.Parallel()
		id := b.place(t, "shop").GetId()
		s := b.watch(t, id, 0)
		requireNext(t, s, pending, 1)
		cancel(t, id)
		requireNext(t, s, cancelled, 2)
		requireEnd(t, s)
	})

	t.Run("sends nothing that the caller knows", func(t *testing.T) {
		t.Parallel()
		id := b.place(t, "shop").GetId()
		s := b.watch(t, id, 1)
		cancel(t, id)
		requireNext(t, s, cancelled, 2)
		requireEnd(t, s)
		requireEnd(t, b.watch(t, id, 2))
	})

	t.Run("sends a final state and ends", func(t *testing.T) {
		t.Parallel()
		id := b.place(t, "shop").GetId()
		cancel(t, id)
		s := b.watch(t, id, 0)
		requireNext(t, s, cancelled, 2)
		requireEnd(t, s)
	})

	t.Run("notices what another replica changes, also under an id in capitals", func(t *testing.T) {
		t.Parallel()
		id := b.place(t, "shop").GetId()
		watches := []stream{b.watch(t, id, 0), b.watch(t, strings.ToUpper(id), 0)}
		for _, s := range watches {
			requireNext(t, s, pending, 1)
		}
		_, err := b.replica(t).Update(t.Context(), "shop", id, confirm)
		require.NoError(t, err)
		for _, s := range watches {
			requireNext(t, s, confirmed, 2)
			requireEnd(t, s)
		}
	})

	t.Run("a caller that leaves ends its watch", func(t *testing.T) {
		t.Parallel()
		ctx, leave := context.WithCancel(as(t, "shop"))
		s, err := b.WatchOrder(ctx, &orderv1.WatchOrderRequest{OrderId: b.place(t, "shop").GetId()})
		require.NoError(t, err)
		requireNext(t, s, pending, 1)
		leave()
		_, err = s.Recv()
		requireCode(t, codes.Canceled, err)
	})
}

func TestService_WatchOrder_drain(t *testing.T) {
	t.Parallel()
	b := setup(t)
	open := []stream{b.watch(t, b.place(t, "shop").GetId(), 0), b.watch(t, b.place(t, "shop").GetId(), 0)}
	for _, s := range open {
		requireNext(t, s, pending, 1)
	}
	shut := make(chan error, 1)
	go func() { shut <- b.server.Shutdown(context.Background()) }()
	for _, s := range open {
		_, err := s.Recv()
		requireCode(t, codes.Unavailable, err)
		require.ErrorContains(t, err, "server is draining")
	}
	require.NoError(t, <-shut)
}
