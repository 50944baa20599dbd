package usecase

import (
	"context"
	"time"

	"github.com/slipwayhq/slipway/reference/inventory/domain"
)

// Commit takes what is held for a confirmed order out of the stock.
type Commit struct {
	Reservations Updater
	Now          func() time.Time
}

// Execute does so once, however often it is called. It fails with domain.ErrNotFound and with
// domain.ErrInvalidTransition when nothing is held for the order.
func (c *Commit) Execute(ctx context.Context, orderID string) (domain.Snapshot, error) {
	return c.Reservations.UpdateOfOrder(ctx, orderID, func(held *domain.Reservation) error { return held.Commit(c.Now()) })
}
