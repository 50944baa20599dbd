package grpcapi

import (
	"google.golang.org/protobuf/types/known/timestamppb"

	inventoryv1 "github.com/slipwayhq/slipway/gen/slipway/inventory/v1"
	"github.com/slipwayhq/slipway/reference/inventory/domain"
)

var statusToProto = map[domain.Status]inventoryv1.ReservationStatus{
	domain.Reserved:  inventoryv1.ReservationStatus_RESERVATION_STATUS_RESERVED,
	domain.Released:  inventoryv1.ReservationStatus_RESERVATION_STATUS_RELEASED,
	domain.Committed: inventoryv1.ReservationStatus_RESERVATION_STATUS_COMMITTED,
}

func reservationToProto(s domain.Snapshot) *inventoryv1.Reservation {
	r := &inventoryv1.Reservation{Id: s.ID, OrderId: s.OrderID, Status: statusToProto[s.Status], Version: s.Version}
	for _, l := range s.Lines {
		r.Lines = append(r.Lines, &inventoryv1.Line{Sku: l.SKU, Quantity: l.Quantity})
	}
	return r
}

func linesFromProto(lines []*inventoryv1.Line) []domain.Line {
	mapped := make([]domain.Line, len(lines))
	for i, l := range lines {
		mapped[i] = domain.Line{SKU: l.GetSku(), Quantity: l.GetQuantity()}
	}
	return mapped
}

func stockToProto(s domain.Stock) *inventoryv1.Stock {
	return &inventoryv1.Stock{
		Sku:        s.SKU,
		OnHand:     s.OnHand,
		Reserved:   s.Reserved,
		Committed:  s.Committed,
		Version:    s.Version,
		UpdateTime: timestamppb.New(s.UpdatedAt),
	}
}
