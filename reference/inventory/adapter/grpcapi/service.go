// Package grpcapi answers the calls of InventoryService: it maps requests to use cases and what they
// return to responses. Validation, authentication, errors and telemetry happen in the chain of
// platform/grpcserver before and after.
package grpcapi

import (
	"context"
	"errors"
	"strings"

	inventoryv1 "github.com/slipwayhq/slipway/gen/slipway/inventory/v1"
	"github.com/slipwayhq/slipway/platform/fault"
	"github.com/slipwayhq/slipway/reference/inventory/domain"
	"github.com/slipwayhq/slipway/reference/inventory/usecase"
)

// Service implements inventoryv1.InventoryServiceServer.
type Service struct {
	inventoryv1.UnimplementedInventoryServiceServer

	Reserving  *usecase.Reserve
	Releasing  *usecase.Release
	Committing *usecase.Commit
	Setting    *usecase.SetStock
	Warehouse  usecase.Warehouse
}

// Errors says how the errors of the domain are shown to a client.
var Errors = fault.Table{
	{Target: domain.ErrNotFound, Code: fault.NotFound, Message: "the order has no reservation", Reason: "RESERVATION_NOT_FOUND"},
	{Target: domain.ErrReleased, Code: fault.Aborted, Message: "the reservation was released", Reason: "RESERVATION_RELEASED"},
	{
		Target: domain.ErrInvalidTransition, Code: fault.FailedPrecondition, Reason: "RESERVATION_STATE",
		Message: "the reservation is in a state that does not allow this",
	},
	{
		Target: domain.ErrIdempotencyMismatch, Code: fault.FailedPrecondition, Reason: "IDEMPOTENCY_KEY_REUSED",
		Message: "the idempotency key was used for another request",
	},
	{
		Target: domain.ErrOrderHasReservation, Code: fault.AlreadyExists, Reason: "ORDER_HAS_RESERVATION",
		Message: "the order has a reservation under another idempotency key",
	},
	{
		Target: domain.ErrVersionConflict, Code: fault.Aborted, Reason: "STOCK_VERSION_CONFLICT",
		Message: "the stock was changed meanwhile: read it again",
	},
	{
		Target: domain.ErrStockReserved, Code: fault.FailedPrecondition, Reason: "STOCK_RESERVED",
		Message: "more is promised than there would be",
	},
	{Target: domain.ErrInvalidReservation, Code: fault.InvalidArgument, Message: "the reservation is not valid"},
}

// Reserve implements inventoryv1.InventoryServiceServer.
func (s *Service) Reserve(ctx context.Context, req *inventoryv1.ReserveRequest) (*inventoryv1.ReserveResponse, error) {
	held, err := s.Reserving.Execute(ctx, usecase.ReserveCommand{
		Key:     req.GetIdempotencyKey(),
		OrderID: orderID(req),
		Lines:   linesFromProto(req.GetLines()),
	})
	if shortage := new(domain.ShortageError); errors.As(err, &shortage) {
		return nil, &fault.Error{
			Code: fault.FailedPrecondition, Reason: "OUT_OF_STOCK", Cause: err,
			Message: "there is not enough of " + strings.Join(shortage.SKUs, ", "),
		}
	}
	if err != nil {
		return nil, err
	}
	return &inventoryv1.ReserveResponse{Reservation: reservationToProto(held)}, nil
}

// Release implements inventoryv1.InventoryServiceServer.
func (s *Service) Release(ctx context.Context, req *inventoryv1.ReleaseRequest) (*inventoryv1.ReleaseResponse, error) {
	released, found, err := s.Releasing.Execute(ctx, usecase.ReleaseCommand{Key: req.GetIdempotencyKey(), OrderID: orderID(req)})
	if err != nil {
		return nil, err
	}
	if !found {
		return &inventoryv1.ReleaseResponse{}, nil
	}
	return &inventoryv1.ReleaseResponse{Reservation: reservationToProto(released)}, nil
}

// Commit implements inventoryv1.InventoryServiceServer.
func (s *Service) Commit(ctx context.Context, req *inventoryv1.CommitRequest) (*inventoryv1.CommitResponse, error) {
	committed, err := s.Committing.Execute(ctx, orderID(req))
	if err != nil {
		return nil, err
	}
	return &inventoryv1.CommitResponse{Reservation: reservationToProto(committed)}, nil
}

// GetStock implements inventoryv1.InventoryServiceServer.
func (s *Service) GetStock(ctx context.Context, req *inventoryv1.GetStockRequest) (*inventoryv1.GetStockResponse, error) {
	stocks, err := s.Warehouse.Stocks(ctx, req.GetSkus())
	if err != nil {
		return nil, err
	}
	resp := &inventoryv1.GetStockResponse{}
	for _, stock := range stocks {
		resp.Stocks = append(resp.Stocks, stockToProto(stock))
	}
	return resp, nil
}

// SetStock implements inventoryv1.InventoryServiceServer.
func (s *Service) SetStock(ctx context.Context, req *inventoryv1.SetStockRequest) (*inventoryv1.SetStockResponse, error) {
	stock, err := s.Setting.Execute(ctx, usecase.SetStockCommand{
		SKU:             req.GetSku(),
		OnHand:          req.GetOnHand(),
		ExpectedVersion: req.GetExpectedVersion(),
	})
	if err != nil {
		return nil, err
	}
	return &inventoryv1.SetStockResponse{Stock: stockToProto(stock)}, nil
}

// orderID returns the id of a request in the form in which it is stored: the same id in capitals is
// the same order.
func orderID(req interface{ GetOrderId() string }) string { return strings.ToLower(req.GetOrderId()) }
