package grpcapi

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	paymentv1 "github.com/slipwayhq/slipway/gen/slipway/payment/v1"
	"github.com/slipwayhq/slipway/reference/payment/domain"
)

func TestStatus(t *testing.T) {
	t.Parallel()
	require.Len(t, statusToProto, len(paymentv1.PaymentStatus_name)-1, "every value but UNSPECIFIED has one status")
	for _, s := range domain.Statuses() {
		require.Equal(t, "PAYMENT_STATUS_"+string(s), statusToProto[s].String())
	}
}

func TestPaymentToProto_setsEveryField(t *testing.T) {
	t.Parallel()
	got := paymentToProto(domain.Snapshot{
		ID: "p-1", OrderID: "o-1", Status: domain.Declined, Amount: domain.Money{Currency: "EUR", Minor: 700},
		DeclineReason: "expired_card", Version: 2, CreatedAt: time.Unix(1, 0), UpdatedAt: time.Unix(2, 0),
	})
	fields := got.ProtoReflect().Descriptor().Fields()
	for i := range fields.Len() {
		require.True(t, got.ProtoReflect().Has(fields.Get(i)), "%s is never set", fields.Get(i).Name())
	}
	require.Equal(t, domain.Money{Currency: "EUR", Minor: 700}, moneyFromProto(got.GetAmount()))
	require.EqualValues(t, 1, got.GetCreateTime().GetSeconds())
	require.EqualValues(t, 2, got.GetUpdateTime().GetSeconds())
}

func TestErrors_nameEveryErrorOfTheDomain(t *testing.T) {
	t.Parallel()
	for _, err := range []error{
		domain.ErrNotFound, domain.ErrVersionConflict, domain.ErrInvalidTransition, domain.ErrInvalidAmount, domain.ErrIdempotencyMismatch,
		domain.ErrOrderHasPayment, domain.ErrVoided, domain.ErrPending, domain.ErrContradiction,
	} {
		require.NotEqual(t, "internal error", Errors.Classify(err).Message, err)
	}
}
