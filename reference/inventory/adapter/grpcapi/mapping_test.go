package grpcapi

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	inventoryv1 "github.com/slipwayhq/slipway/gen/slipway/inventory/v1"
	"github.com/slipwayhq/slipway/reference/inventory/domain"
)

func TestStatus(t *testing.T) {
	t.Parallel()
	require.Len(t, statusToProto, len(inventoryv1.ReservationStatus_name)-1, "every value but UNSPECIFIED has one status")
	for _, s := range domain.Statuses() {
		require.Equal(t, "RESERVATION_STATUS_"+string(s), statusToProto[s].String())
	}
}

func TestToProto_setsEveryField(t *testing.T) {
	t.Parallel()
	lines := []domain.Line{{SKU: "TEA-1", Quantity: 2}, {SKU: "CUP-9", Quantity: 1}}
	reservation := reservationToProto(domain.Snapshot{ID: "r-1", OrderID: "o-1", Status: domain.Released, Lines: lines, Version: 2})
	require.Equal(t, lines, linesFromProto(reservation.GetLines()))
	stock := stockToProto(domain.Stock{SKU: "TEA-1", OnHand: 3, Reserved: 2, Committed: 1, Version: 7, UpdatedAt: time.Unix(1, 0)})
	require.Equal(t, []int64{3, 2, 1, 7, 1}, []int64{
		stock.GetOnHand(), stock.GetReserved(), stock.GetCommitted(), stock.GetVersion(), stock.GetUpdateTime().GetSeconds(),
	})
	for _, m := range []proto.Message{reservation, reservation.GetLines()[0], stock} {
		fields := m.ProtoReflect().Descriptor().Fields()
		for i := range fields.Len() {
			require.True(t, m.ProtoReflect().Has(fields.Get(i)), "%s is never set", fields.Get(i).FullName())
		}
	}
}

func TestErrors_nameEveryErrorOfTheDomain(t *testing.T) {
	t.Parallel()
	for _, err := range []error{
		domain.ErrNotFound, domain.ErrReleased, domain.ErrInvalidTransition, domain.ErrVersionConflict,
		domain.ErrStockReserved, domain.ErrIdempotencyMismatch, domain.ErrOrderHasReservation, domain.ErrInvalidReservation,
	} {
		require.NotEqual(t, "internal error", Errors.Classify(err).Message, err)
	}
}
