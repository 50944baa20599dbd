package usecase

import (
	"context"
	"errors"
	"time"

	"github.com/slipwayhq/slipway/reference/order/domain"
)

// CancelOrder gives orders up for their owner.
type CancelOrder struct {
	Orders    Updater
	Listeners []Listener
	Now       func() time.Time
}

// CancelOrderCommand is what a caller asks for.
type CancelOrderCommand struct {
	Owner   string
	OrderID string
	Reason  string
	// ExpectedVersion is the version that the caller has seen; 0 for any.
	ExpectedVersion int64
}

// cancelAttempts bounds how often a caller that accepts any version can lose against other changes.
const cancelAttempts = 3

// Execute cancels a pending order. Repeated on a cancelled order it changes nothing, whatever the
// expected version: the caller has what it asked for. A change at the same time is a conflict only
// for a caller that expects a version; for any other the order is read again.
func (c *CancelOrder) Execute(ctx context.Context, cmd CancelOrderCommand) (domain.Snapshot, error) {
	for attempt := 1; ; attempt++ {
		cancelled, err := c.Orders.Update(ctx, cmd.Owner, cmd.OrderID, func(o *domain.Order) error {
			if o.Snapshot().Status == domain.Cancelled {
				return nil
			}
			if err := o.RequireVersion(cmd.ExpectedVersion); err != nil {
				return err
			}
			return o.Cancel(cmd.Reason, c.Now())
		})
		if err == nil {
			tell(ctx, c.Listeners, cancelled)
			return cancelled, nil
		}
		if cmd.ExpectedVersion != 0 || attempt == cancelAttempts || !errors.Is(err, domain.ErrVersionConflict) {
			return domain.Snapshot{}, err
		}
	}
}
