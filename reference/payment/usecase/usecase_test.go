package usecase_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/mock"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/slipwayhq/slipway/reference/payment/domain"
	"github.com/slipwayhq/slipway/reference/payment/usecase"
)

var price = domain.Money{Currency: "EUR", Minor: 700}

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestAuthorize(t *testing.T) {
	t.Parallel()

	t.Run("the intent is stored before the provider is called, and the answer after it", func(t *testing.T) {
		t.Parallel()
		opener, updater, provider := newMockOpener(t), newMockUpdater(t), newMockProvider(t)
		var trail []string
		opener.EXPECT().Open(mock.Anything, mock.Anything).RunAndReturn(func(_ context.Context, p *domain.Payment) (domain.Snapshot, bool, error) {
			require.Equal(t, domain.Authorizing, p.Snapshot().Status)
			trail = append(trail, "intent")
			return p.Snapshot(), true, nil
		})
		provider.EXPECT().Authorize(mock.Anything, "p-1", price, domain.CardToken("tok_ok")).RunAndReturn(
			func(context.Context, string, domain.Money, domain.CardToken) (domain.Answer, error) {
				trail = append(trail, "call")
				return domain.Answer{Charge: domain.ChargeHeld}, nil
			})
		updater.EXPECT().Update(mock.Anything, "p-1", mock.Anything).RunAndReturn(
			func(_ context.Context, _ string, change func(*domain.Payment) error) (domain.Snapshot, error) {
				trail = append(trail, "answer")
				p := domain.Rehydrate(domain.Snapshot{ID: "p-1", Status: domain.Authorizing, Version: 1})
				return p.Snapshot(), change(p)
			})
		a := usecase.Authorize{
			Payments: opener, Now: time.Now, NewID: func() string { return "p-1" },
			Teller: &usecase.Teller{Payments: updater, Provider: provider, Now: time.Now},
		}
		_, err := a.Execute(t.Context(), usecase.AuthorizeCommand{Key: "saga/pay", OrderID: "o-1", Amount: price, Card: "tok_ok"})
		require.ErrorIs(t, err, domain.ErrPending, "the store of this test returns what was before")
		require.Equal(t, []string{"intent", "call", "answer"}, trail)
	})

	t.Run("repeated, it is answered from the store", func(t *testing.T) {
		t.Parallel()
		for card, want := range map[domain.CardToken]error{"tok_ok": nil, "tok_declined": domain.ErrDeclined} {
			w := newWorld()
			for range 3 {
				s, err := w.authorize(t.Context(), card)
				require.ErrorIs(t, err, want)
				require.EqualValues(t, 2, s.Version)
			}
			require.Len(t, w.bank.effects, 1)
		}
	})

	t.Run("repeated without an answer, it looks the payment up before it asks again", func(t *testing.T) {
		t.Parallel()
		for name, lost := range map[string]int{"the request was lost": 1, "the answer was lost": 2} {
			w := newWorld(0, lost, 0)
			_, err := w.authorize(t.Context(), "tok_ok")
			require.ErrorIs(t, err, errCrash, name)
			s, _, _ := w.payment()
			require.Equal(t, domain.Authorizing, s.Status, name)
			s, err = w.authorize(t.Context(), "tok_ok")
			require.NoError(t, err, name)
			require.Equal(t, domain.Authorized, s.Status, name)
			require.Equal(t, []string{"AUTHORIZED " + s.ID}, w.bank.effects, name)
		}
	})

	t.Run("a caller that gives up does not take the answer with it", func(t *testing.T) {
		t.Parallel()
		w := newWorld()
		ctx, cancel := context.WithCancel(t.Context())
		w.teller.Provider = cancelling{w.bank, cancel}
		w.teller.Payments = sensitive{w.payments}
		_, err := w.authorize(ctx, "tok_ok")
		require.NoError(t, err)
	})

	t.Run("a key stands for one request, and an order has one payment", func(t *testing.T) {
		t.Parallel()
		w := newWorld()
		_, err := w.authorize(t.Context(), "tok_ok")
		require.NoError(t, err)
		a := usecase.Authorize{Payments: w.payments, Teller: w.teller, Now: time.Now, NewID: func() string { return "p-2" }}
		for _, cmd := range []usecase.AuthorizeCommand{
			{Key: "saga/pay", OrderID: "o-2", Amount: price},
			{Key: "saga/pay", OrderID: "o-1", Amount: domain.Money{Currency: "EUR", Minor: 701}},
		} {
			_, err := a.Execute(t.Context(), cmd)
			require.ErrorIs(t, err, domain.ErrIdempotencyMismatch)
		}
		_, err = a.Execute(t.Context(), usecase.AuthorizeCommand{Key: "other/pay", OrderID: "o-1", Amount: price})
		require.ErrorIs(t, err, domain.ErrOrderHasPayment)
		_, err = a.Execute(t.Context(), usecase.AuthorizeCommand{Key: "other/pay", OrderID: "o-3"})
		require.ErrorIs(t, err, domain.ErrInvalidAmount)
		require.Len(t, w.bank.effects, 1)
	})

	t.Run("voided while the provider was asked, it is voided there as well", func(t *testing.T) {
		t.Parallel()
		w := newWorld()
		w.teller.Provider = voidMeanwhile{w.bank, w}
		_, err := w.authorize(t.Context(), "tok_ok")
		require.ErrorIs(t, err, domain.ErrVoided)
		s, _, charge := w.payment()
		require.Equal(t, domain.Voided, s.Status)
		require.False(t, s.InDoubt)
		require.Equal(t, domain.ChargeVoided, charge)
	})
}

// cancelling has the caller give up while the provider answers.
type cancelling struct {
	*bank
	cancel context.CancelFunc
}

func (c cancelling) Authorize(ctx context.Context, key string, amount domain.Money, card domain.CardToken) (domain.Answer, error) {
	defer c.cancel()
	return c.bank.Authorize(ctx, key, amount, card)
}

// sensitive is a store that minds the context.
type sensitive struct{ *memory }

func (s sensitive) Update(ctx context.Context, id string, change func(*domain.Payment) error) (domain.Snapshot, error) {
	if ctx.Err() != nil {
		return domain.Snapshot{}, ctx.Err()
	}
	return s.memory.Update(ctx, id, change)
}

// voidMeanwhile has the payment voided, to the end, before the provider gets the authorization.
type voidMeanwhile struct {
	*bank
	w *world
}

func (v voidMeanwhile) Authorize(ctx context.Context, key string, amount domain.Money, card domain.CardToken) (domain.Answer, error) {
	if s, _, err := v.w.void(ctx); err != nil || s.Status != domain.Voided {
		return domain.Answer{}, err
	}
	return v.bank.Authorize(ctx, key, amount, card)
}

func TestVoid(t *testing.T) {
	t.Parallel()

	t.Run("lets go of what is held, once", func(t *testing.T) {
		t.Parallel()
		w := newWorld()
		_, err := w.authorize(t.Context(), "tok_ok")
		require.NoError(t, err)
		for range 2 {
			s, found, err := w.void(t.Context())
			require.NoError(t, err)
			require.True(t, found)
			require.Equal(t, domain.Voided, s.Status)
			require.False(t, s.Unsettled())
		}
		require.Len(t, w.bank.effects, 2)
		_, err = w.authorize(t.Context(), "tok_ok")
		require.ErrorIs(t, err, domain.ErrVoided)
	})

	t.Run("comes before what it undoes", func(t *testing.T) {
		t.Parallel()
		w := newWorld()
		_, found, err := w.void(t.Context())
		require.NoError(t, err)
		require.False(t, found)
		_, err = w.authorize(t.Context(), "tok_ok")
		require.ErrorIs(t, err, domain.ErrVoided)
		require.Empty(t, w.bank.effects)
	})

	t.Run("leaves a payment that was declined, and one that was captured", func(t *testing.T) {
		t.Parallel()
		w := newWorld()
		_, err := w.authorize(t.Context(), "tok_declined")
		require.ErrorIs(t, err, domain.ErrDeclined)
		s, _, err := w.void(t.Context())
		require.NoError(t, err)
		require.Equal(t, domain.Declined, s.Status)

		w = newWorld()
		_, _ = w.authorize(t.Context(), "tok_ok")
		_, err = w.capture(t.Context())
		require.NoError(t, err)
		_, _, err = w.void(t.Context())
		require.ErrorIs(t, err, domain.ErrInvalidTransition)
	})

	t.Run("is of the order that it names", func(t *testing.T) {
		t.Parallel()
		w := newWorld()
		_, _ = w.authorize(t.Context(), "tok_ok")
		v := usecase.Void{Payments: w.payments, Teller: w.teller, Now: time.Now}
		_, _, err := v.Execute(t.Context(), usecase.VoidCommand{Key: "saga/pay", OrderID: "o-2"})
		require.ErrorIs(t, err, domain.ErrIdempotencyMismatch)
	})

	t.Run("without an answer it is unknown, and goes on when it is repeated", func(t *testing.T) {
		t.Parallel()
		w := newWorld()
		_, _ = w.authorize(t.Context(), "tok_ok")
		w.luck.draws = []int{0, 1} // The intent is stored, the call is lost.
		_, _, err := w.void(t.Context())
		require.ErrorIs(t, err, errCrash)
		s, _, err := w.void(t.Context())
		require.NoError(t, err)
		require.Equal(t, domain.Voided, s.Status)
	})
}

func TestCaptureAndRefund(t *testing.T) {
	t.Parallel()

	t.Run("each once, and each after what comes before it", func(t *testing.T) {
		t.Parallel()
		w := newWorld()
		_, err := w.capture(t.Context())
		require.ErrorIs(t, err, domain.ErrNotFound)
		_, _ = w.authorize(t.Context(), "tok_ok")
		_, err = w.refund(t.Context())
		require.ErrorIs(t, err, domain.ErrInvalidTransition)
		for range 2 {
			s, err := w.capture(t.Context())
			require.NoError(t, err)
			require.Equal(t, domain.Captured, s.Status)
		}
		for range 2 {
			s, err := w.refund(t.Context())
			require.NoError(t, err)
			require.Equal(t, domain.Refunded, s.Status)
			require.Equal(t, "broken", s.RefundReason)
		}
		s, err := w.capture(t.Context())
		require.NoError(t, err, "captured or further")
		require.Equal(t, []string{"AUTHORIZED " + s.ID, "CAPTURED " + s.ID, "REFUNDED " + s.ID}, w.bank.effects)
	})

	t.Run("a provider that has lost what it held is contradicted, and nothing changes", func(t *testing.T) {
		t.Parallel()
		w := newWorld()
		s, _ := w.authorize(t.Context(), "tok_ok")
		delete(w.bank.charges, s.ID)
		_, err := w.capture(t.Context())
		require.ErrorIs(t, err, domain.ErrContradiction)
		s, _, _ = w.payment()
		require.Equal(t, domain.Capturing, s.Status)
	})

	t.Run("a provider that takes its time leaves it pending", func(t *testing.T) {
		t.Parallel()
		provider, updater := newMockProvider(t), newMockUpdater(t)
		capturing := domain.Snapshot{ID: "p-1", Status: domain.Capturing, Amount: price}
		updater.EXPECT().UpdateOfOrder(mock.Anything, "o-1", mock.Anything).Return(capturing, nil)
		updater.EXPECT().Update(mock.Anything, "p-1", mock.Anything).Return(capturing, nil)
		provider.EXPECT().Capture(mock.Anything, "p-1", price).Return(domain.Answer{Charge: domain.ChargeHeld}, nil).Once()
		c := usecase.Capture{Payments: updater, Teller: &usecase.Teller{Payments: updater, Provider: provider, Now: time.Now}, Now: time.Now}
		_, err := c.Execute(t.Context(), "o-1")
		require.ErrorIs(t, err, domain.ErrPending)
	})

	t.Run("a change that loses against another is made again, not for ever", func(t *testing.T) {
		t.Parallel()
		updater := newMockUpdater(t)
		updater.EXPECT().UpdateOfOrder(mock.Anything, "o-1", mock.Anything).Return(domain.Snapshot{}, domain.ErrVersionConflict).Twice()
		updater.EXPECT().UpdateOfOrder(mock.Anything, "o-1", mock.Anything).Return(domain.Snapshot{Status: domain.Captured}, nil).Once()
		c := usecase.Capture{Payments: updater, Teller: &usecase.Teller{}, Now: time.Now}
		_, err := c.Execute(t.Context(), "o-1")
		require.NoError(t, err)
		updater.EXPECT().UpdateOfOrder(mock.Anything, "o-1", mock.Anything).Return(domain.Snapshot{}, domain.ErrVersionConflict).Times(5)
		_, err = c.Execute(t.Context(), "o-1")
		require.ErrorIs(t, err, domain.ErrVersionConflict)
	})
}
