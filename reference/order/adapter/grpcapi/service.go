// Package grpcapi answers the calls of OrderService: it maps requests to use cases and what they
// return to responses. Validation, authentication, errors and telemetry happen in the chain of
// platform/grpcserver before and after.
package grpcapi

import (
	"context"
	"errors"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/timestamppb"

	orderv1 "github.com/slipwayhq/slipway/gen/slipway/order/v1"
	"github.com/slipwayhq/slipway/platform/fault"
	"github.com/slipwayhq/slipway/platform/grpcserver"
	"github.com/slipwayhq/slipway/reference/order/domain"
	"github.com/slipwayhq/slipway/reference/order/usecase"
)

// Service implements orderv1.OrderServiceServer.
type Service struct {
	orderv1.UnimplementedOrderServiceServer

	Place  *usecase.PlaceOrder
	Get    *usecase.GetOrder
	List   *usecase.ListOrders
	Cancel *usecase.CancelOrder
	Watch  *usecase.WatchOrder
}

// Errors says how the errors of the domain are shown to a client.
var Errors = fault.Table{
	{Target: domain.ErrNotFound, Code: fault.NotFound, Message: "order not found", Reason: "ORDER_NOT_FOUND"},
	{
		Target: domain.ErrVersionConflict, Code: fault.Aborted, Reason: "ORDER_VERSION_CONFLICT",
		Message: "the order was changed meanwhile: read it and try again",
	},
	{
		Target: domain.ErrInvalidTransition, Code: fault.FailedPrecondition, Reason: "ORDER_STATE",
		Message: "the order is in a state that does not allow this",
	},
	{
		Target: domain.ErrIdempotencyMismatch, Code: fault.FailedPrecondition, Reason: "IDEMPOTENCY_KEY_REUSED",
		Message: "the idempotency key was used for another request",
	},
	{Target: domain.ErrInvalidOrder, Code: fault.InvalidArgument, Message: "the order is not valid"},
}

// PlaceOrder implements orderv1.OrderServiceServer.
func (s *Service) PlaceOrder(ctx context.Context, req *orderv1.PlaceOrderRequest) (*orderv1.PlaceOrderResponse, error) {
	placed, err := s.Place.Execute(ctx, usecase.PlaceOrderCommand{
		Owner:          caller(ctx),
		IdempotencyKey: req.GetIdempotencyKey(),
		CustomerID:     req.GetCustomerId(),
		Items:          itemsFromProto(req.GetItems()),
		CardToken:      req.GetCardToken(),
	})
	if errors.Is(err, domain.ErrAmountOverflow) { // The one rule about a field that validation cannot state.
		return nil, fault.Invalid(fault.Violation{Field: "items", Description: "the total of the order is too large"})
	}
	if err != nil {
		return nil, err
	}
	return &orderv1.PlaceOrderResponse{Order: orderToProto(placed)}, nil
}

// GetOrder implements orderv1.OrderServiceServer.
func (s *Service) GetOrder(ctx context.Context, req *orderv1.GetOrderRequest) (*orderv1.GetOrderResponse, error) {
	order, err := s.Get.Execute(ctx, caller(ctx), orderID(req))
	if err != nil {
		return nil, err
	}
	return &orderv1.GetOrderResponse{Order: orderToProto(order)}, nil
}

// ListOrders implements orderv1.OrderServiceServer.
func (s *Service) ListOrders(ctx context.Context, req *orderv1.ListOrdersRequest) (*orderv1.ListOrdersResponse, error) {
	filter := usecase.Filter{
		Owner:      caller(ctx),
		Status:     statusFromProto(req.GetStatus()),
		CustomerID: req.GetCustomerId(),
	}
	var err error
	if filter.Before, err = decodeToken(req.GetPageToken(), filter); err != nil {
		return nil, err
	}
	page, next, err := s.List.Execute(ctx, filter, int(req.GetPageSize()))
	if err != nil {
		return nil, err
	}
	resp := &orderv1.ListOrdersResponse{NextPageToken: encodeToken(next, filter)}
	for _, order := range page {
		resp.Orders = append(resp.Orders, orderToProto(order))
	}
	return resp, nil
}

// CancelOrder implements orderv1.OrderServiceServer.
func (s *Service) CancelOrder(ctx context.Context, req *orderv1.CancelOrderRequest) (*orderv1.CancelOrderResponse, error) {
	cancelled, err := s.Cancel.Execute(ctx, usecase.CancelOrderCommand{
		Owner:           caller(ctx),
		OrderID:         orderID(req),
		Reason:          req.GetReason(),
		ExpectedVersion: req.GetExpectedVersion(),
	})
	if err != nil {
		return nil, err
	}
	return &orderv1.CancelOrderResponse{Order: orderToProto(cancelled)}, nil
}

// WatchOrder implements orderv1.OrderServiceServer.
func (s *Service) WatchOrder(req *orderv1.WatchOrderRequest, stream grpc.ServerStreamingServer[orderv1.WatchOrderResponse]) error {
	ctx := stream.Context()
	return s.Watch.Execute(ctx, caller(ctx), orderID(req), req.GetKnownVersion(), func(order domain.Snapshot) error {
		err := stream.Send(&orderv1.WatchOrderResponse{Order: orderToProto(order), SendTime: timestamppb.Now()})
		if err != nil && ctx.Err() != nil {
			return errors.Join(context.Cause(ctx), err)
		}
		return err
	})
}

// caller names whose orders a call is about. The server is built with an authenticator, so there
// always is one.
func caller(ctx context.Context) string {
	p, _ := grpcserver.PrincipalFrom(ctx)
	return p.ID
}

// orderID returns the id of a request in the form in which the service gives it out: to the cache
// and to the hub, the same id in capitals would be another order.
func orderID(req interface{ GetOrderId() string }) string { return strings.ToLower(req.GetOrderId()) }
