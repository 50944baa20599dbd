package grpcapi_test

import (
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	inventoryv1 "github.com/slipwayhq/slipway/gen/slipway/inventory/v1"
)

func TestService_Reserve(t *testing.T) {
	t.Parallel()
	b := setup(t)

	t.Run("holds the lines, and says the same when it is repeated", func(t *testing.T) {
		t.Parallel()
		b.set(t, "TEA-1", 10)
		req := request("TEA-1", 2)
		req.Lines = append(req.Lines, &inventoryv1.Line{Sku: "TEA-1", Quantity: 3})
		first := b.reserve(t, req)
		require.Equal(t, inventoryv1.ReservationStatus_RESERVATION_STATUS_RESERVED, first.GetStatus())
		require.Equal(t, req.GetOrderId(), first.GetOrderId())
		require.Len(t, first.GetLines(), 1)
		require.EqualValues(t, 5, first.GetLines()[0].GetQuantity())
		req.OrderId = strings.ToUpper(req.GetOrderId())
		again := b.reserve(t, req)
		require.True(t, proto.Equal(first, again), "%v, then %v", first, again)
		require.Equal(t, "10/5/0", b.stock(t, "TEA-1"))
	})

	t.Run("too little and nothing at all are out of stock", func(t *testing.T) {
		t.Parallel()
		b.set(t, "MUG-1", 1)
		for _, req := range []*inventoryv1.ReserveRequest{request("MUG-1", 2), request("NOBODY-KNOWS", 1)} {
			_, err := b.Reserve(within(t), req)
			requireCode(t, codes.FailedPrecondition, "OUT_OF_STOCK", err)
			require.Equal(t, "there is not enough of "+req.GetLines()[0].GetSku(), status.Convert(err).Message())
		}
		require.Equal(t, "1/0/0", b.stock(t, "MUG-1"))
	})

	t.Run("a key is for one request, an order for one key", func(t *testing.T) {
		t.Parallel()
		b.set(t, "CUP-9", 10)
		req := request("CUP-9", 2)
		b.reserve(t, req)
		other := proto.CloneOf(req)
		other.Lines[0].Quantity++
		_, err := b.Reserve(within(t), other)
		requireCode(t, codes.FailedPrecondition, "IDEMPOTENCY_KEY_REUSED", err)
		other = proto.CloneOf(req)
		other.IdempotencyKey += "/2"
		_, err = b.Reserve(within(t), other)
		requireCode(t, codes.AlreadyExists, "ORDER_HAS_RESERVATION", err)
		require.Equal(t, "10/2/0", b.stock(t, "CUP-9"))
	})
}

func TestService_Release(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.set(t, "TEA-1", 10)
	release := func(req *inventoryv1.ReserveRequest) (*inventoryv1.ReleaseResponse, error) {
		return b.Release(within(t), &inventoryv1.ReleaseRequest{IdempotencyKey: req.GetIdempotencyKey(), OrderId: strings.ToUpper(req.GetOrderId())})
	}

	req := request("TEA-1", 2)
	b.reserve(t, req)
	for range 2 {
		resp, err := release(req)
		require.NoError(t, err)
		require.Equal(t, inventoryv1.ReservationStatus_RESERVATION_STATUS_RELEASED, resp.GetReservation().GetStatus())
	}
	require.Equal(t, "10/0/0", b.stock(t, "TEA-1"))
	_, err := b.Reserve(within(t), req)
	requireCode(t, codes.Aborted, "RESERVATION_RELEASED", err)
	_, err = b.Commit(within(t), &inventoryv1.CommitRequest{OrderId: req.GetOrderId()})
	requireCode(t, codes.FailedPrecondition, "RESERVATION_STATE", err)

	req = request("TEA-1", 2)
	resp, err := release(req)
	require.NoError(t, err)
	require.Nil(t, resp.GetReservation(), "there is nothing to give back")
	_, err = b.Reserve(within(t), req)
	requireCode(t, codes.Aborted, "RESERVATION_RELEASED", err)

	req = request("TEA-1", 2)
	b.reserve(t, req)
	_, err = release(&inventoryv1.ReserveRequest{IdempotencyKey: req.GetIdempotencyKey(), OrderId: unknownID})
	requireCode(t, codes.FailedPrecondition, "IDEMPOTENCY_KEY_REUSED", err)
	require.Equal(t, "10/2/0", b.stock(t, "TEA-1"))
}

func TestService_Commit(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.set(t, "TEA-1", 10)
	req := request("TEA-1", 2)
	_, err := b.Commit(within(t), &inventoryv1.CommitRequest{OrderId: req.GetOrderId()})
	requireCode(t, codes.NotFound, "RESERVATION_NOT_FOUND", err)
	b.reserve(t, req)
	for _, id := range []string{req.GetOrderId(), strings.ToUpper(req.GetOrderId())} {
		resp, err := b.Commit(within(t), &inventoryv1.CommitRequest{OrderId: id})
		require.NoError(t, err)
		require.Equal(t, inventoryv1.ReservationStatus_RESERVATION_STATUS_COMMITTED, resp.GetReservation().GetStatus())
	}
	require.Equal(t, "8/0/2", b.stock(t, "TEA-1"))
	require.Equal(t, inventoryv1.ReservationStatus_RESERVATION_STATUS_COMMITTED, b.reserve(t, req).GetStatus(), "reserved or further")
	_, err = b.Release(within(t), &inventoryv1.ReleaseRequest{IdempotencyKey: req.GetIdempotencyKey(), OrderId: req.GetOrderId()})
	requireCode(t, codes.FailedPrecondition, "RESERVATION_STATE", err)
}

func TestService_SetStock(t *testing.T) {
	t.Parallel()
	b := setup(t)
	first := b.set(t, "TEA-1", 10)
	require.EqualValues(t, 1, first.GetVersion())
	require.True(t, proto.Equal(first, b.set(t, "TEA-1", 10)), "repeated, it changes nothing")
	b.reserve(t, request("TEA-1", 4))
	_, err := b.SetStock(within(t), &inventoryv1.SetStockRequest{Sku: "TEA-1", OnHand: 20, ExpectedVersion: 1})
	requireCode(t, codes.Aborted, "STOCK_VERSION_CONFLICT", err)
	_, err = b.SetStock(within(t), &inventoryv1.SetStockRequest{Sku: "TEA-1", OnHand: 3})
	requireCode(t, codes.FailedPrecondition, "STOCK_RESERVED", err)
	resp, err := b.SetStock(within(t), &inventoryv1.SetStockRequest{Sku: "TEA-1", OnHand: 4, ExpectedVersion: 2})
	require.NoError(t, err)
	require.EqualValues(t, 3, resp.GetStock().GetVersion())
	require.Equal(t, "4/4/0", b.stock(t, "TEA-1"))
}

func TestService_GetStock(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.set(t, "B", 1)
	want := b.set(t, "A", 2)
	resp, err := b.GetStock(within(t), &inventoryv1.GetStockRequest{Skus: []string{"X", "B", "A"}})
	require.NoError(t, err)
	require.Len(t, resp.GetStocks(), 2)
	require.Equal(t, "B", resp.GetStocks()[0].GetSku())
	require.True(t, proto.Equal(want, resp.GetStocks()[1]))
}

func TestService_invalidRequests(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for name, change := range map[string]func(*inventoryv1.ReserveRequest){
		"no key":          func(r *inventoryv1.ReserveRequest) { r.IdempotencyKey = "" },
		"long key":        func(r *inventoryv1.ReserveRequest) { r.IdempotencyKey = strings.Repeat("k", 129) },
		"no order":        func(r *inventoryv1.ReserveRequest) { r.OrderId = "" },
		"order in braces": func(r *inventoryv1.ReserveRequest) { r.OrderId = "{" + unknownID + "}" },
		"no lines":        func(r *inventoryv1.ReserveRequest) { r.Lines = nil },
		"too many lines": func(r *inventoryv1.ReserveRequest) {
			for range 100 {
				r.Lines = append(r.Lines, r.GetLines()[0])
			}
		},
		"no article":        func(r *inventoryv1.ReserveRequest) { r.Lines[0].Sku = "" },
		"a strange article": func(r *inventoryv1.ReserveRequest) { r.Lines[0].Sku = "tea 1" },
		"nothing":           func(r *inventoryv1.ReserveRequest) { r.Lines[0].Quantity = 0 },
		"too much":          func(r *inventoryv1.ReserveRequest) { r.Lines[0].Quantity = 100_001 },
	} {
		req := request("TEA-1", 1)
		change(req)
		_, err := b.Reserve(within(t), req)
		require.Equal(t, codes.InvalidArgument, status.Code(err), name)
	}
	for _, err := range []error{
		call(b.Release(within(t), &inventoryv1.ReleaseRequest{IdempotencyKey: uuid.NewString()})),
		call(b.Commit(within(t), &inventoryv1.CommitRequest{OrderId: "1"})),
		call(b.GetStock(within(t), &inventoryv1.GetStockRequest{})),
		call(b.GetStock(within(t), &inventoryv1.GetStockRequest{Skus: []string{"tea"}})),
		call(b.SetStock(within(t), &inventoryv1.SetStockRequest{Sku: "TEA-1", OnHand: -1})),
		call(b.SetStock(within(t), &inventoryv1.SetStockRequest{Sku: "TEA-1", ExpectedVersion: -1})),
	} {
		require.Equal(t, codes.InvalidArgument, status.Code(err))
	}
}

func call[T any](_ T, err error) error { return err }
