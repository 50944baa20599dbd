// Package grpcapi answers the calls of PaymentService: it maps requests to use cases and what they
// return to responses. Validation, authentication, errors and telemetry happen in the chain of
// platform/grpcserver before and after.
package grpcapi

import (
	"context"
	"errors"
	"strings"

	paymentv1 "github.com/slipwayhq/slipway/gen/slipway/payment/v1"
	"github.com/slipwayhq/slipway/platform/fault"
	"github.com/slipwayhq/slipway/reference/payment/domain"
	"github.com/slipwayhq/slipway/reference/payment/usecase"
)

// Service implements paymentv1.PaymentServiceServer.
type Service struct {
	paymentv1.UnimplementedPaymentServiceServer

	Authorizing *usecase.Authorize
	Voiding     *usecase.Void
	Capturing   *usecase.Capture
	Refunding   *usecase.Refund
	Payments    usecase.Reader
}

// Errors says how the errors of the domain are shown to a client.
var Errors = fault.Table{
	{Target: domain.ErrNotFound, Code: fault.NotFound, Message: "the order has no payment", Reason: "PAYMENT_NOT_FOUND"},
	{
		Target: domain.ErrVoided, Code: fault.Aborted, Reason: "PAYMENT_VOIDED",
		Message: "the payment was voided",
	},
	{
		Target: domain.ErrPending, Code: fault.Unavailable, Reason: "PAYMENT_PENDING",
		Message: "the payment provider owes an answer: repeat the call",
	},
	{
		Target: domain.ErrInvalidTransition, Code: fault.FailedPrecondition, Reason: "PAYMENT_STATE",
		Message: "the payment is in a state that does not allow this",
	},
	{
		Target: domain.ErrIdempotencyMismatch, Code: fault.FailedPrecondition, Reason: "IDEMPOTENCY_KEY_REUSED",
		Message: "the idempotency key was used for another request",
	},
	{
		Target: domain.ErrOrderHasPayment, Code: fault.AlreadyExists, Reason: "ORDER_HAS_PAYMENT",
		Message: "the order has a payment under another idempotency key",
	},
	{
		Target: domain.ErrVersionConflict, Code: fault.Aborted, Reason: "PAYMENT_VERSION_CONFLICT",
		Message: "the payment was changed meanwhile: try again",
	},
	{
		Target: domain.ErrContradiction, Code: fault.Internal, Reason: "PROVIDER_CONTRADICTION",
		Message: "the payment provider contradicts what it said before",
	},
	{Target: domain.ErrInvalidAmount, Code: fault.InvalidArgument, Message: "the amount is not valid"},
}

// Authorize implements paymentv1.PaymentServiceServer.
func (s *Service) Authorize(ctx context.Context, req *paymentv1.AuthorizeRequest) (*paymentv1.AuthorizeResponse, error) {
	payment, err := s.Authorizing.Execute(ctx, usecase.AuthorizeCommand{
		Key:     req.GetIdempotencyKey(),
		OrderID: orderID(req),
		Amount:  moneyFromProto(req.GetAmount()),
		Card:    domain.CardToken(req.GetCardToken()),
	})
	if errors.Is(err, domain.ErrDeclined) {
		return nil, &fault.Error{
			Code: fault.FailedPrecondition, Reason: "PAYMENT_DECLINED", Cause: err,
			Message: "the payment was declined: " + payment.DeclineReason,
		}
	}
	if err != nil {
		return nil, err
	}
	return &paymentv1.AuthorizeResponse{Payment: paymentToProto(payment)}, nil
}

// Void implements paymentv1.PaymentServiceServer.
func (s *Service) Void(ctx context.Context, req *paymentv1.VoidRequest) (*paymentv1.VoidResponse, error) {
	payment, found, err := s.Voiding.Execute(ctx, usecase.VoidCommand{Key: req.GetIdempotencyKey(), OrderID: orderID(req)})
	if err != nil {
		return nil, err
	}
	if !found {
		return &paymentv1.VoidResponse{}, nil
	}
	return &paymentv1.VoidResponse{Payment: paymentToProto(payment)}, nil
}

// Capture implements paymentv1.PaymentServiceServer.
func (s *Service) Capture(ctx context.Context, req *paymentv1.CaptureRequest) (*paymentv1.CaptureResponse, error) {
	payment, err := s.Capturing.Execute(ctx, orderID(req))
	if err != nil {
		return nil, err
	}
	return &paymentv1.CaptureResponse{Payment: paymentToProto(payment)}, nil
}

// Refund implements paymentv1.PaymentServiceServer.
func (s *Service) Refund(ctx context.Context, req *paymentv1.RefundRequest) (*paymentv1.RefundResponse, error) {
	payment, err := s.Refunding.Execute(ctx, orderID(req), req.GetReason())
	if err != nil {
		return nil, err
	}
	return &paymentv1.RefundResponse{Payment: paymentToProto(payment)}, nil
}

// GetPayment implements paymentv1.PaymentServiceServer.
func (s *Service) GetPayment(ctx context.Context, req *paymentv1.GetPaymentRequest) (*paymentv1.GetPaymentResponse, error) {
	payment, err := s.Payments.OfOrder(ctx, orderID(req))
	if err != nil {
		return nil, err
	}
	return &paymentv1.GetPaymentResponse{Payment: paymentToProto(payment)}, nil
}

// orderID returns the id of a request in the form in which it is stored: the same id in capitals is
// the same order.
func orderID(req interface{ GetOrderId() string }) string { return strings.ToLower(req.GetOrderId()) }
