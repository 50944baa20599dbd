package grpcapi_test

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	paymentv1 "github.com/slipwayhq/slipway/gen/slipway/payment/v1"
)

func TestService_Authorize(t *testing.T) {
	t.Parallel()
	b := setup(t)

	t.Run("holds the amount, and says the same when it is repeated", func(t *testing.T) {
		t.Parallel()
		req := request("tok_ok")
		first := b.authorize(t, req)
		require.Equal(t, paymentv1.PaymentStatus_PAYMENT_STATUS_AUTHORIZED, first.GetStatus())
		require.Equal(t, req.GetOrderId(), first.GetOrderId())
		require.True(t, proto.Equal(req.GetAmount(), first.GetAmount()))
		require.EqualValues(t, 2, first.GetVersion())
		req.OrderId = strings.ToUpper(req.GetOrderId())
		again := b.authorize(t, req)
		require.True(t, proto.Equal(first, again), "%v, then %v", first, again)
	})

	t.Run("a refusal is final and has its reason", func(t *testing.T) {
		t.Parallel()
		req := request("tok_insufficient_funds")
		for range 2 {
			_, err := b.Authorize(within(t), req)
			requireCode(t, codes.FailedPrecondition, "PAYMENT_DECLINED", err)
			require.Contains(t, status.Convert(err).Message(), "insufficient_funds")
		}
		got, err := b.GetPayment(within(t), &paymentv1.GetPaymentRequest{OrderId: req.GetOrderId()})
		require.NoError(t, err)
		require.Equal(t, paymentv1.PaymentStatus_PAYMENT_STATUS_DECLINED, got.GetPayment().GetStatus())
		require.Equal(t, "insufficient_funds", got.GetPayment().GetDeclineReason())
	})

	t.Run("without an answer it is unavailable, and known when it is repeated", func(t *testing.T) {
		t.Parallel()
		for card, want := range map[string]codes.Code{
			"tok_timeout": codes.OK, "tok_flaky_1": codes.OK, "tok_error": codes.Unavailable, "tok_timeout_lost": codes.Unavailable,
		} {
			req := request(card)
			_, err := b.Authorize(within(t), req)
			requireCode(t, codes.Unavailable, "PROVIDER_UNAVAILABLE", err)
			require.NotContains(t, err.Error(), card)
			require.Equal(t, paymentv1.PaymentStatus_PAYMENT_STATUS_AUTHORIZING, b.status(t, req.GetOrderId()))
			_, err = b.Authorize(within(t), req)
			require.Equal(t, want, status.Code(err), card)
		}
	})

	t.Run("a key is for one request, an order for one key", func(t *testing.T) {
		t.Parallel()
		req := request("tok_ok")
		b.authorize(t, req)
		other := proto.CloneOf(req)
		other.Amount.MinorUnits++
		_, err := b.Authorize(within(t), other)
		requireCode(t, codes.FailedPrecondition, "IDEMPOTENCY_KEY_REUSED", err)
		other = proto.CloneOf(req)
		other.IdempotencyKey += "/2"
		_, err = b.Authorize(within(t), other)
		requireCode(t, codes.AlreadyExists, "ORDER_HAS_PAYMENT", err)
	})
}

func TestService_Void(t *testing.T) {
	t.Parallel()
	b := setup(t)
	void := func(req *paymentv1.AuthorizeRequest) (*paymentv1.VoidResponse, error) {
		return b.Void(within(t), &paymentv1.VoidRequest{IdempotencyKey: req.GetIdempotencyKey(), OrderId: req.GetOrderId()})
	}

	t.Run("lets go, as often as it is called, and nothing is authorized after it", func(t *testing.T) {
		t.Parallel()
		req := request("tok_ok")
		b.authorize(t, req)
		for range 2 {
			resp, err := void(req)
			require.NoError(t, err)
			require.Equal(t, paymentv1.PaymentStatus_PAYMENT_STATUS_VOIDED, resp.GetPayment().GetStatus())
		}
		_, err := b.Authorize(within(t), req)
		requireCode(t, codes.Aborted, "PAYMENT_VOIDED", err)
		_, err = b.Capture(within(t), &paymentv1.CaptureRequest{OrderId: req.GetOrderId()})
		requireCode(t, codes.FailedPrecondition, "PAYMENT_STATE", err)
	})

	t.Run("succeeds when there is nothing, and nothing is authorized after it", func(t *testing.T) {
		t.Parallel()
		req := request("tok_ok")
		resp, err := void(req)
		require.NoError(t, err)
		require.Nil(t, resp.GetPayment())
		_, err = b.Authorize(within(t), req)
		requireCode(t, codes.Aborted, "PAYMENT_VOIDED", err)
		_, err = b.GetPayment(within(t), &paymentv1.GetPaymentRequest{OrderId: req.GetOrderId()})
		requireCode(t, codes.NotFound, "PAYMENT_NOT_FOUND", err)
	})

	t.Run("lets go of what has succeeded without an answer", func(t *testing.T) {
		t.Parallel()
		req := request("tok_timeout")
		_, err := b.Authorize(within(t), req)
		requireCode(t, codes.Unavailable, "PROVIDER_UNAVAILABLE", err)
		resp, err := void(req)
		require.NoError(t, err)
		require.Equal(t, paymentv1.PaymentStatus_PAYMENT_STATUS_VOIDED, resp.GetPayment().GetStatus())
		require.Equal(t, []string{"authorized", "voided"}, b.ledger(t, resp.GetPayment().GetId()))
	})

	t.Run("what was captured stays captured, and what was declined declined", func(t *testing.T) {
		t.Parallel()
		req := request("tok_ok")
		b.authorize(t, req)
		_, err := b.Capture(within(t), &paymentv1.CaptureRequest{OrderId: req.GetOrderId()})
		require.NoError(t, err)
		_, err = void(req)
		requireCode(t, codes.FailedPrecondition, "PAYMENT_STATE", err)

		req = request("tok_declined")
		_, err = b.Authorize(within(t), req)
		requireCode(t, codes.FailedPrecondition, "PAYMENT_DECLINED", err)
		resp, err := void(req)
		require.NoError(t, err)
		require.Equal(t, paymentv1.PaymentStatus_PAYMENT_STATUS_DECLINED, resp.GetPayment().GetStatus())
	})
}

// ledger returns the effects that the provider has written down for a payment.
func (b bundle) ledger(t *testing.T, id string) (effects []string) {
	t.Helper()
	resp, err := http.Get(b.provider.URL() + "/ledger")
	require.NoError(t, err)
	defer resp.Body.Close()
	defer http.DefaultClient.CloseIdleConnections()
	text, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	for line := range strings.Lines(string(text)) {
		if strings.Contains(line, id) {
			effect, _, _ := strings.Cut(strings.TrimPrefix(line, `{"effect":"`), `"`)
			effects = append(effects, effect)
		}
	}
	return effects
}

func TestService_CaptureAndRefund(t *testing.T) {
	t.Parallel()
	b := setup(t)
	req := request("tok_ok")
	refund := &paymentv1.RefundRequest{OrderId: req.GetOrderId(), Reason: "broken"}
	capture := &paymentv1.CaptureRequest{OrderId: req.GetOrderId()}

	_, err := b.Capture(within(t), capture)
	requireCode(t, codes.NotFound, "PAYMENT_NOT_FOUND", err)
	payment := b.authorize(t, req)
	_, err = b.Refund(within(t), refund)
	requireCode(t, codes.FailedPrecondition, "PAYMENT_STATE", err)
	for range 2 {
		resp, err := b.Capture(within(t), capture)
		require.NoError(t, err)
		require.Equal(t, paymentv1.PaymentStatus_PAYMENT_STATUS_CAPTURED, resp.GetPayment().GetStatus())
	}
	for range 2 {
		resp, err := b.Refund(within(t), refund)
		require.NoError(t, err)
		require.Equal(t, paymentv1.PaymentStatus_PAYMENT_STATUS_REFUNDED, resp.GetPayment().GetStatus())
	}
	require.Equal(t, paymentv1.PaymentStatus_PAYMENT_STATUS_REFUNDED, b.authorize(t, req).GetStatus(), "authorized or further")
	require.Equal(t, []string{"authorized", "captured", "refunded"}, b.ledger(t, payment.GetId()))

	lost := request("tok_timeout_lost")
	_, err = b.Authorize(within(t), lost)
	requireCode(t, codes.Unavailable, "PROVIDER_UNAVAILABLE", err)
	_, err = b.Capture(within(t), &paymentv1.CaptureRequest{OrderId: lost.GetOrderId()})
	requireCode(t, codes.Unavailable, "PAYMENT_PENDING", err)
}

func TestService_invalidRequests(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for name, change := range map[string]func(*paymentv1.AuthorizeRequest){
		"no key":              func(r *paymentv1.AuthorizeRequest) { r.IdempotencyKey = "" },
		"long key":            func(r *paymentv1.AuthorizeRequest) { r.IdempotencyKey = strings.Repeat("k", 129) },
		"no order":            func(r *paymentv1.AuthorizeRequest) { r.OrderId = "" },
		"order in braces":     func(r *paymentv1.AuthorizeRequest) { r.OrderId = "{" + unknownID + "}" },
		"no amount":           func(r *paymentv1.AuthorizeRequest) { r.Amount = nil },
		"nothing to pay":      func(r *paymentv1.AuthorizeRequest) { r.Amount.MinorUnits = 0 },
		"too much":            func(r *paymentv1.AuthorizeRequest) { r.Amount.MinorUnits = 1_000_000_000_001 },
		"no currency":         func(r *paymentv1.AuthorizeRequest) { r.Amount.CurrencyCode = "euro" },
		"no card":             func(r *paymentv1.AuthorizeRequest) { r.CardToken = "" },
		"a path as card":      func(r *paymentv1.AuthorizeRequest) { r.CardToken = "tok/../x" },
		"a number of a card?": func(r *paymentv1.AuthorizeRequest) { r.CardToken = "4111 1111 1111 1111" },
	} {
		req := request("tok_ok")
		change(req)
		_, err := b.Authorize(within(t), req)
		require.Equal(t, codes.InvalidArgument, status.Code(err), name)
	}
	for _, err := range []error{
		call(b.Void(within(t), &paymentv1.VoidRequest{IdempotencyKey: uuid.NewString()})),
		call(b.Capture(within(t), &paymentv1.CaptureRequest{OrderId: "1"})),
		call(b.Refund(within(t), &paymentv1.RefundRequest{OrderId: unknownID})),
		call(b.Refund(within(t), &paymentv1.RefundRequest{OrderId: unknownID, Reason: "\x00"})),
		call(b.GetPayment(within(t), &paymentv1.GetPaymentRequest{OrderId: "1"})),
	} {
		require.Equal(t, codes.InvalidArgument, status.Code(err))
	}
}

func call[T any](_ T, err error) error { return err }

// TestService_cardIsStoredNowhere looks for the token in every column of the database.
func TestService_cardIsStoredNowhere(t *testing.T) {
	t.Parallel()
	b := setup(t)
	const card = "tok_secret_0815"
	b.authorize(t, request(card))
	var tables []string
	require.NoError(t, b.pool.QueryRow(t.Context(), `SELECT array_agg(format('%I.%I', schemaname, tablename)) FROM pg_tables
		WHERE schemaname NOT IN ('pg_catalog', 'information_schema')`).Scan(&tables))
	require.Contains(t, tables, "public.payments")
	for _, table := range tables {
		var rows int
		require.NoError(t, b.pool.QueryRow(t.Context(), fmt.Sprintf("SELECT count(*) FROM %s t WHERE t::text LIKE '%%' || $1 || '%%'", table), card).Scan(&rows))
		require.Zero(t, rows, table)
	}
}
