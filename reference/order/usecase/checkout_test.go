package usecase_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/mock"
	"github.com/stretchr/testify/require"

	"github.com/slipwayhq/slipway/platform/saga"
	"github.com/slipwayhq/slipway/platform/saga/sagatest"
	"github.com/slipwayhq/slipway/reference/order/domain"
	"github.com/slipwayhq/slipway/reference/order/usecase"
)

// counter is a checkout whose order is real and whose services are mocks.
type counter struct {
	steps     *usecase.CheckoutSteps
	order     *domain.Order
	inventory *mockInventory
	payments  *mockPayments
	heard     []domain.Status
}

func newCounter(t *testing.T) *counter {
	t.Helper()
	order, err := domain.Place(domain.NewOrder{ID: "o-1", Owner: "shop", Items: command().Items}, now)
	require.NoError(t, err)
	c := &counter{order: order, inventory: newMockInventory(t), payments: newMockPayments(t)}
	orders, listener := newMockStepUpdater(t), newMockListener(t)
	orders.EXPECT().UpdateInStep(mock.Anything, mock.Anything, mock.Anything).RunAndReturn(
		func(_ context.Context, s usecase.Step, change func(*domain.Order) error) (domain.Snapshot, error) {
			require.Equal(t, "o-1", s.OrderID)
			require.Equal(t, "shop", s.Owner)
			if err := change(c.order); err != nil {
				return domain.Snapshot{}, err
			}
			return c.order.Snapshot(), nil
		}).Maybe()
	listener.EXPECT().OrderChanged(mock.Anything, mock.Anything).Run(func(_ context.Context, s domain.Snapshot) {
		c.heard = append(c.heard, s.Status)
	}).Maybe()
	c.steps = &usecase.CheckoutSteps{
		Orders: orders, Inventory: c.inventory, Payments: c.payments, Listeners: []usecase.Listener{listener},
		Now: func() time.Time { return now },
	}
	return c
}

func (c *counter) run(t *testing.T, options ...sagatest.Option) *sagatest.Result[usecase.Checkout] {
	t.Helper()
	s := c.order.Snapshot()
	return sagatest.Run(t, c.steps.Definition(time.Minute), usecase.Checkout{
		OrderID: s.ID, Owner: s.Owner, Items: s.Items, Total: s.Total, CardToken: "tok_ok",
	}, options...)
}

func TestCheckout(t *testing.T) {
	t.Parallel()
	anyKey := func(step string) any {
		return mock.MatchedBy(func(key string) bool { return len(key) > len(step) && key[len(key)-len(step):] == step })
	}

	t.Run("confirms an order when its stock and its money are held", func(t *testing.T) {
		t.Parallel()
		c := newCounter(t)
		c.inventory.EXPECT().Reserve(mock.Anything, anyKey("/reserve-stock"), "o-1", c.order.Snapshot().Items).Return(nil)
		c.payments.EXPECT().Authorize(mock.Anything, anyKey("/authorize-payment"), usecase.Authorization{
			OrderID: "o-1", Amount: domain.Money{Currency: "EUR", Minor: 700}, CardToken: "tok_ok",
		}).Return(nil)
		r := c.run(t)
		require.Equal(t, saga.Completed, r.Status)
		require.Equal(t, domain.Confirmed, c.order.Snapshot().Status)
		require.Equal(t, []domain.Status{domain.Confirmed}, c.heard)
		require.Empty(t, r.State.CardToken, "it is not needed any more")
	})

	t.Run("cancels an order that is out of stock, and asks nobody for money", func(t *testing.T) {
		t.Parallel()
		c := newCounter(t)
		c.inventory.EXPECT().Reserve(mock.Anything, mock.Anything, mock.Anything, mock.Anything).
			Return(saga.Rejected(errors.New(usecase.OutOfStock + ": TEA-1")))
		r := c.run(t)
		require.Equal(t, saga.Compensated, r.Status)
		require.Equal(t, domain.Cancelled, c.order.Snapshot().Status)
		require.Equal(t, "out of stock: TEA-1", c.order.Snapshot().CancelReason)
		require.Equal(t, []domain.Status{domain.Cancelled}, c.heard)
	})

	t.Run("gives the stock back when the card is declined, with the key that it was reserved with", func(t *testing.T) {
		t.Parallel()
		c := newCounter(t)
		var key string
		c.inventory.EXPECT().Reserve(mock.Anything, mock.Anything, mock.Anything, mock.Anything).
			Run(func(_ context.Context, k, _ string, _ []domain.Item) { key = k }).Return(nil)
		c.payments.EXPECT().Authorize(mock.Anything, mock.Anything, mock.Anything).
			Return(saga.Rejected(errors.New(usecase.Declined + ": insufficient funds")))
		c.inventory.EXPECT().Release(mock.Anything, mock.Anything, "o-1").
			RunAndReturn(func(_ context.Context, k, _ string) error { require.Equal(t, key, k); return nil })
		r := c.run(t)
		require.Equal(t, saga.Compensated, r.Status)
		require.Equal(t, "payment declined: insufficient funds", c.order.Snapshot().CancelReason)
		require.Empty(t, r.State.CardToken)
	})

	t.Run("asks what became of an authorization without an answer, and goes on if it holds", func(t *testing.T) {
		t.Parallel()
		c := newCounter(t)
		c.inventory.EXPECT().Reserve(mock.Anything, mock.Anything, mock.Anything, mock.Anything).Return(nil)
		c.payments.EXPECT().Authorize(mock.Anything, mock.Anything, mock.Anything).Return(errors.New("timeout"))
		c.payments.EXPECT().Authorized(mock.Anything, "o-1").Return(true, nil)
		r := c.run(t)
		require.Equal(t, saga.Completed, r.Status)
		require.Equal(t, domain.Confirmed, c.order.Snapshot().Status)
	})

	t.Run("voids an authorization that nobody knows of, and says nothing of what is wrong inside", func(t *testing.T) {
		t.Parallel()
		c := newCounter(t)
		c.inventory.EXPECT().Reserve(mock.Anything, mock.Anything, mock.Anything, mock.Anything).Return(nil)
		c.payments.EXPECT().Authorize(mock.Anything, mock.Anything, mock.Anything).Return(errors.New("dial tcp 10.0.0.1: refused"))
		c.payments.EXPECT().Authorized(mock.Anything, "o-1").Return(false, nil)
		c.payments.EXPECT().Void(mock.Anything, anyKey("/authorize-payment"), "o-1").Return(nil)
		c.inventory.EXPECT().Release(mock.Anything, mock.Anything, "o-1").Return(nil)
		r := c.run(t)
		require.Equal(t, saga.Compensated, r.Status)
		require.Equal(t, "the order could not be completed", c.order.Snapshot().CancelReason)
	})

	t.Run("a customer who cancels in time wins", func(t *testing.T) {
		t.Parallel()
		c := newCounter(t)
		c.inventory.EXPECT().Reserve(mock.Anything, mock.Anything, mock.Anything, mock.Anything).Return(nil)
		c.payments.EXPECT().Authorize(mock.Anything, mock.Anything, mock.Anything).
			RunAndReturn(func(context.Context, string, usecase.Authorization) error {
				return c.order.Cancel("changed my mind", now)
			})
		c.payments.EXPECT().Void(mock.Anything, mock.Anything, "o-1").Return(nil)
		c.inventory.EXPECT().Release(mock.Anything, mock.Anything, "o-1").Return(nil)
		r := c.run(t)
		require.Equal(t, saga.Compensated, r.Status)
		require.Equal(t, "changed my mind", c.order.Snapshot().CancelReason)
	})

	t.Run("a confirmation without an answer stands", func(t *testing.T) {
		t.Parallel()
		c := newCounter(t)
		c.inventory.EXPECT().Reserve(mock.Anything, mock.Anything, mock.Anything, mock.Anything).Return(nil)
		c.payments.EXPECT().Authorize(mock.Anything, mock.Anything, mock.Anything).Return(nil)
		r := c.run(t, sagatest.AnswerLost("confirm-order", 100))
		require.Equal(t, saga.Completed, r.Status)
		require.Equal(t, domain.Confirmed, c.order.Snapshot().Status)
	})

	t.Run("an order that was confirmed is not cancelled behind its back", func(t *testing.T) {
		t.Parallel()
		c := newCounter(t)
		require.NoError(t, c.order.Confirm(now))
		c.inventory.EXPECT().Reserve(mock.Anything, mock.Anything, mock.Anything, mock.Anything).Return(saga.Rejected(errDisk))
		r := c.run(t)
		require.Equal(t, saga.NeedsOperator, r.Status)
		require.Contains(t, r.Instance.Problem, "cancel-order")
	})
}

func TestPlaceOrder_checkout(t *testing.T) {
	t.Parallel()
	orders := newMockPlacer(t)
	orders.EXPECT().Place(mock.Anything, mock.Anything, mock.Anything, mock.Anything).RunAndReturn(
		func(_ context.Context, o *domain.Order, _ usecase.Idempotency, c usecase.Checkout) (domain.Snapshot, error) {
			require.Equal(t, usecase.Checkout{
				OrderID: "o-1", Owner: "shop", Items: command().Items, Total: o.Snapshot().Total, CardToken: "tok_ok",
			}, c)
			return o.Snapshot(), nil
		})
	place := &usecase.PlaceOrder{Orders: orders, NewID: func() string { return "o-1" }, Now: func() time.Time { return now }}
	cmd := command()
	cmd.CardToken = "tok_ok"
	_, err := place.Execute(t.Context(), cmd)
	require.NoError(t, err)
}
