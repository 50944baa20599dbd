package usecase

import (
	"context"
	"time"

	"github.com/slipwayhq/slipway/reference/payment/domain"
)

// Refund gives back what was captured for an order.
type Refund struct {
	Payments Updater
	Teller   *Teller
	Now      func() time.Time
}

// Execute gives the amount back, once however often it is called; the first reason is kept. It fails
// with domain.ErrInvalidTransition when nothing was captured, with domain.ErrPending while that is not
// known, and with an error of the provider when the outcome is unknown: then the refund is finished
// later, without the caller.
func (r *Refund) Execute(ctx context.Context, orderID, reason string) (domain.Snapshot, error) {
	s, err := again(func() (domain.Snapshot, error) {
		return r.Payments.UpdateOfOrder(ctx, orderID, func(p *domain.Payment) error { return p.Refund(reason, r.Now()) })
	})
	if err != nil {
		return domain.Snapshot{}, err
	}
	return r.Teller.Finish(ctx, s)
}
