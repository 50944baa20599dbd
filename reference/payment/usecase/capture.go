package usecase

import (
	"context"
	"time"

	"github.com/slipwayhq/slipway/reference/payment/domain"
)

// Capture transfers what is held for an order.
type Capture struct {
	Payments Updater
	Teller   *Teller
	Now      func() time.Time
}

// Execute transfers the amount, once however often it is called. It fails with
// domain.ErrInvalidTransition when nothing is held, with domain.ErrPending when nobody knows that yet,
// and with an error of the provider when the outcome is unknown: then the capture is finished later,
// without the caller.
func (c *Capture) Execute(ctx context.Context, orderID string) (domain.Snapshot, error) {
	s, err := c.Begin(ctx, orderID)
	if err != nil {
		return domain.Snapshot{}, err
	}
	return c.Teller.Finish(ctx, s)
}

// Begin notes that the amount is to be transferred, and leaves the transfer to [Settle].
func (c *Capture) Begin(ctx context.Context, orderID string) (domain.Snapshot, error) {
	return again(func() (domain.Snapshot, error) {
		return c.Payments.UpdateOfOrder(ctx, orderID, func(p *domain.Payment) error { return p.Capture(c.Now()) })
	})
}
