package clients_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	inventoryv1 "github.com/slipwayhq/slipway/gen/slipway/inventory/v1"
	paymentv1 "github.com/slipwayhq/slipway/gen/slipway/payment/v1"
	"github.com/slipwayhq/slipway/platform/breaker"
	"github.com/slipwayhq/slipway/platform/saga"
	"github.com/slipwayhq/slipway/reference/order/adapter/clients"
	"github.com/slipwayhq/slipway/reference/order/domain"
	"github.com/slipwayhq/slipway/reference/order/usecase"
)

// inventory is a service that answers what it is told to.
type inventory struct {
	inventoryv1.InventoryServiceClient

	err      error
	reserved *inventoryv1.ReserveRequest
	released *inventoryv1.ReleaseRequest
}

func (i *inventory) Reserve(_ context.Context, req *inventoryv1.ReserveRequest, _ ...grpc.CallOption) (*inventoryv1.ReserveResponse, error) {
	i.reserved = req
	return &inventoryv1.ReserveResponse{}, i.err
}

func (i *inventory) Release(_ context.Context, req *inventoryv1.ReleaseRequest, _ ...grpc.CallOption) (*inventoryv1.ReleaseResponse, error) {
	i.released = req
	return &inventoryv1.ReleaseResponse{}, i.err
}

// payments is a service that answers what it is told to.
type payments struct {
	paymentv1.PaymentServiceClient

	err        error
	status     paymentv1.PaymentStatus
	authorized *paymentv1.AuthorizeRequest
	voided     *paymentv1.VoidRequest
}

func (p *payments) Authorize(_ context.Context, req *paymentv1.AuthorizeRequest, _ ...grpc.CallOption) (*paymentv1.AuthorizeResponse, error) {
	p.authorized = req
	return &paymentv1.AuthorizeResponse{}, p.err
}

func (p *payments) Void(_ context.Context, req *paymentv1.VoidRequest, _ ...grpc.CallOption) (*paymentv1.VoidResponse, error) {
	p.voided = req
	return &paymentv1.VoidResponse{}, p.err
}

func (p *payments) GetPayment(context.Context, *paymentv1.GetPaymentRequest, ...grpc.CallOption) (*paymentv1.GetPaymentResponse, error) {
	return &paymentv1.GetPaymentResponse{Payment: &paymentv1.Payment{Status: p.status}}, p.err
}

func refusal(t *testing.T, code codes.Code, reason string) error {
	t.Helper()
	s, err := status.New(code, "TEA-1 is sold out").WithDetails(&errdetails.ErrorInfo{Reason: reason})
	require.NoError(t, err)
	return s.Err()
}

func TestInventory(t *testing.T) {
	t.Parallel()
	fake := &inventory{}
	c := clients.NewInventory(fake)
	require.NoError(t, c.Reserve(t.Context(), "s/reserve", "o-1", []domain.Item{{SKU: "TEA-1", Quantity: 2}, {SKU: "TEA-2", Quantity: 1}}))
	require.Equal(t, "s/reserve", fake.reserved.GetIdempotencyKey())
	require.Equal(t, "o-1", fake.reserved.GetOrderId())
	require.Len(t, fake.reserved.GetLines(), 2)
	require.Equal(t, "TEA-1", fake.reserved.GetLines()[0].GetSku())
	require.EqualValues(t, 2, fake.reserved.GetLines()[0].GetQuantity())
	require.NoError(t, c.Release(t.Context(), "s/reserve", "o-1"))
	require.Equal(t, "s/reserve", fake.released.GetIdempotencyKey())

	fake.err = refusal(t, codes.FailedPrecondition, "OUT_OF_STOCK")
	err := c.Reserve(t.Context(), "s/reserve", "o-1", nil)
	require.Equal(t, saga.ClassRejected, saga.ClassOf(err))
	require.EqualError(t, err, usecase.OutOfStock+": TEA-1 is sold out")
}

func TestErrors(t *testing.T) {
	t.Parallel()
	for code, class := range map[codes.Code]saga.Class{
		codes.InvalidArgument: saga.ClassRejected, codes.NotFound: saga.ClassRejected, codes.FailedPrecondition: saga.ClassRejected,
		codes.Unauthenticated: saga.ClassRetryable, codes.ResourceExhausted: saga.ClassRetryable, codes.Unimplemented: saga.ClassRetryable,
		codes.Unavailable: saga.ClassUnknown, codes.DeadlineExceeded: saga.ClassUnknown, codes.Internal: saga.ClassUnknown,
		codes.Aborted: saga.ClassUnknown, codes.Canceled: saga.ClassUnknown, codes.Unknown: saga.ClassUnknown,
	} {
		c := clients.NewInventory(&inventory{err: status.Error(code, "no")})
		require.Equal(t, class, saga.ClassOf(c.Reserve(t.Context(), "k", "o", nil)), code)
	}
}

// A call that the circuit breaker did not make has had no effect, and is not tried before it may be made.
func TestErrors_breaker(t *testing.T) {
	t.Parallel()
	b, err := breaker.New(breaker.Config{Name: "inventory", Failures: 1, OpenTimeout: time.Hour, MaxOpen: time.Hour}, nil)
	require.NoError(t, err)
	require.Error(t, b.Do(t.Context(), func(context.Context) error { return errors.New("down") }))
	rejected := b.Do(t.Context(), func(context.Context) error { return nil })
	c := clients.NewInventory(&inventory{err: rejected})
	err = c.Reserve(t.Context(), "k", "o", nil)
	require.Equal(t, saga.ClassRetryable, saga.ClassOf(err))
	require.Greater(t, saga.ResultOf(err).After, 50*time.Minute)
}

func TestPayments(t *testing.T) {
	t.Parallel()
	fake := &payments{}
	c := clients.NewPayments(fake)
	require.NoError(t, c.Authorize(t.Context(), "s/authorize", usecase.Authorization{
		OrderID: "o-1", Amount: domain.Money{Currency: "EUR", Minor: 350}, CardToken: "tok_ok",
	}))
	require.Equal(t, "s/authorize", fake.authorized.GetIdempotencyKey())
	require.Equal(t, "tok_ok", fake.authorized.GetCardToken())
	require.EqualValues(t, 350, fake.authorized.GetAmount().GetMinorUnits())
	require.NoError(t, c.Void(t.Context(), "s/authorize", "o-1"))
	require.Equal(t, "s/authorize", fake.voided.GetIdempotencyKey())

	fake.err = refusal(t, codes.FailedPrecondition, "PAYMENT_DECLINED")
	err := c.Authorize(t.Context(), "k", usecase.Authorization{})
	require.Equal(t, saga.ClassRejected, saga.ClassOf(err))
	require.ErrorContains(t, err, usecase.Declined+": ")
}

func TestPayments_Authorized(t *testing.T) {
	t.Parallel()
	for s, want := range map[paymentv1.PaymentStatus]bool{
		paymentv1.PaymentStatus_PAYMENT_STATUS_AUTHORIZED: true, paymentv1.PaymentStatus_PAYMENT_STATUS_CAPTURED: true,
		paymentv1.PaymentStatus_PAYMENT_STATUS_DECLINED: false, paymentv1.PaymentStatus_PAYMENT_STATUS_VOIDED: false,
	} {
		got, err := clients.NewPayments(&payments{status: s}).Authorized(t.Context(), "o-1")
		require.NoError(t, err, s)
		require.Equal(t, want, got, s)
	}
	_, err := clients.NewPayments(&payments{status: paymentv1.PaymentStatus_PAYMENT_STATUS_AUTHORIZING}).Authorized(t.Context(), "o-1")
	require.ErrorContains(t, err, "AUTHORIZING", "nobody knows yet")
	got, err := clients.NewPayments(&payments{err: status.Error(codes.NotFound, "no")}).Authorized(t.Context(), "o-1")
	require.NoError(t, err)
	require.False(t, got)
	_, err = clients.NewPayments(&payments{err: status.Error(codes.Unavailable, "no")}).Authorized(t.Context(), "o-1")
	require.Error(t, err)
}
