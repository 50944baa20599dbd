package usecase

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/slipwayhq/slipway/platform/saga"
	"github.com/slipwayhq/slipway/reference/order/domain"
)

// Checkout is what the checkout of an order works with. It is stored with the saga.
type Checkout struct {
	OrderID string        `json:"order_id"`
	Owner   string        `json:"owner"`
	Items   []domain.Item `json:"items"`
	Total   domain.Money  `json:"total"`
	// CardToken is what the payment provider knows the card by; it is forgotten with the
	// authorization.
	CardToken string `json:"card_token,omitempty"`
}

// CheckoutSteps are what the checkout of an order does.
type CheckoutSteps struct {
	Orders    StepUpdater
	Inventory Inventory
	Payments  Payments
	Listeners []Listener
	Now       func() time.Time
}

// Definition is the checkout: stock is reserved, the money is held, and the order is confirmed;
// or all of that is undone and the order is cancelled. What follows a confirmation, the capture
// and the shipping, others do when they hear of it.
func (s *CheckoutSteps) Definition(timeout time.Duration) *saga.Definition[Checkout] {
	return saga.Define("checkout", 1,
		saga.Undo("cancel-order", s.cancelOrder),
		saga.Step("reserve-stock", s.reserveStock).
			Undo("release-stock", s.releaseStock),
		saga.Step("authorize-payment", s.authorizePayment).Verify(s.paymentAuthorized).
			Undo("void-payment", s.voidPayment),
		saga.Pivot("confirm-order", s.confirmOrder).Verify(s.orderConfirmed),
	).Timeout(timeout)
}

func (s *CheckoutSteps) reserveStock(ctx context.Context, c *saga.Call[Checkout]) error {
	return s.Inventory.Reserve(ctx, c.Key, c.State.OrderID, c.State.Items)
}

func (s *CheckoutSteps) releaseStock(ctx context.Context, c *saga.Call[Checkout]) error {
	return s.Inventory.Release(ctx, c.Key, c.State.OrderID)
}

func (s *CheckoutSteps) authorizePayment(ctx context.Context, c *saga.Call[Checkout]) error {
	err := s.Payments.Authorize(ctx, c.Key, Authorization{
		OrderID: c.State.OrderID, Amount: c.State.Total, CardToken: c.State.CardToken,
	})
	if err == nil {
		c.State.CardToken = ""
	}
	return err
}

func (s *CheckoutSteps) paymentAuthorized(ctx context.Context, c *saga.Call[Checkout]) (bool, error) {
	return s.Payments.Authorized(ctx, c.State.OrderID)
}

func (s *CheckoutSteps) voidPayment(ctx context.Context, c *saga.Call[Checkout]) error {
	c.State.CardToken = ""
	return s.Payments.Void(ctx, c.Key, c.State.OrderID)
}

// confirmOrder decides. A customer who cancels at the same time wins or loses here.
func (s *CheckoutSteps) confirmOrder(ctx context.Context, c *saga.Call[Checkout]) error {
	return s.update(ctx, c, func(o *domain.Order) error { return o.Confirm(s.Now()) })
}

// errNotConfirmed is how orderConfirmed learns of an order that is not.
var errNotConfirmed = errors.New("order is not confirmed")

// orderConfirmed is sure of its answer: it waits for whoever is changing the order, and a
// process that no longer runs the checkout cannot change it any more.
func (s *CheckoutSteps) orderConfirmed(ctx context.Context, c *saga.Call[Checkout]) (bool, error) {
	err := s.update(ctx, c, func(o *domain.Order) error {
		if o.Snapshot().Status != domain.Confirmed {
			return errNotConfirmed
		}
		return nil
	})
	if errors.Is(err, errNotConfirmed) {
		return false, nil
	}
	return err == nil, err
}

func (s *CheckoutSteps) cancelOrder(ctx context.Context, c *saga.Call[Checkout]) error {
	c.State.CardToken = ""
	return s.update(ctx, c, func(o *domain.Order) error { return o.Cancel(reasonFor(c.Reason), s.Now()) })
}

// Refusals that a customer may read. The error of a step that was refused begins with one of them.
const (
	OutOfStock = "out of stock"
	Declined   = "payment declined"
)

// maxReason is how long a reason may be that is shown to people.
const maxReason = 200

// reasonFor is what a customer is told: not what is wrong inside.
func reasonFor(problem string) string {
	for _, refusal := range []string{OutOfStock, Declined} {
		if _, detail, found := strings.Cut(problem, refusal); found {
			reason := []rune(refusal + detail)
			return string(reason[:min(len(reason), maxReason)])
		}
	}
	return "the order could not be completed"
}

func (s *CheckoutSteps) update(ctx context.Context, c *saga.Call[Checkout], change func(*domain.Order) error) error {
	step := Step{SagaID: c.SagaID, Token: c.Token, Owner: c.State.Owner, OrderID: c.State.OrderID}
	updated, err := s.Orders.UpdateInStep(ctx, step, change)
	switch {
	case errors.Is(err, domain.ErrInvalidTransition), errors.Is(err, domain.ErrNotFound):
		return saga.Rejected(err)
	case err != nil:
		return err
	}
	tell(ctx, s.Listeners, updated)
	return nil
}
