package clients

import (
	"context"
	"fmt"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	paymentv1 "github.com/slipwayhq/slipway/gen/slipway/payment/v1"
	"github.com/slipwayhq/slipway/reference/order/usecase"
)

// Payments implements the port of the use cases. It is safe for concurrent use.
type Payments struct {
	service paymentv1.PaymentServiceClient
}

// NewPayments returns the payments that service is.
func NewPayments(service paymentv1.PaymentServiceClient) *Payments {
	return &Payments{service: service}
}

var paymentRefusals = refusals{
	"PAYMENT_DECLINED": usecase.Declined,
	"PAYMENT_VOIDED":   "the payment was voided",
}

// Authorize implements usecase.Payments.
func (p *Payments) Authorize(ctx context.Context, key string, a usecase.Authorization) error {
	_, err := p.service.Authorize(ctx, &paymentv1.AuthorizeRequest{
		IdempotencyKey: key, OrderId: a.OrderID, CardToken: a.CardToken,
		Amount: &paymentv1.Money{CurrencyCode: a.Amount.Currency, MinorUnits: a.Amount.Minor},
	})
	return paymentRefusals.mark("authorize payment", err)
}

// Authorized implements usecase.Payments.
func (p *Payments) Authorized(ctx context.Context, orderID string) (bool, error) {
	resp, err := p.service.GetPayment(ctx, &paymentv1.GetPaymentRequest{OrderId: orderID})
	if status.Code(err) == codes.NotFound {
		return false, nil
	}
	if err != nil {
		return false, paymentRefusals.mark("get payment", err)
	}
	switch s := resp.GetPayment().GetStatus(); s {
	case paymentv1.PaymentStatus_PAYMENT_STATUS_AUTHORIZED, paymentv1.PaymentStatus_PAYMENT_STATUS_CAPTURING,
		paymentv1.PaymentStatus_PAYMENT_STATUS_CAPTURED:
		return true, nil
	case paymentv1.PaymentStatus_PAYMENT_STATUS_AUTHORIZING:
		return false, fmt.Errorf("the payment is %s", s)
	default:
		return false, nil
	}
}

// Void implements usecase.Payments.
func (p *Payments) Void(ctx context.Context, key, orderID string) error {
	_, err := p.service.Void(ctx, &paymentv1.VoidRequest{IdempotencyKey: key, OrderId: orderID})
	return paymentRefusals.mark("void payment", err)
}
