package usecase

import (
	"context"

	"github.com/slipwayhq/slipway/reference/order/domain"
)

// WatchOrder follows an order to its end.
type WatchOrder struct {
	Orders  Reader
	Changes Changes
}

// Execute calls send with the order as it is, unless the caller knows that version, and again when
// it has changed, until a final state was sent or ctx ends. A caller that is slower than the changes
// gets the latest state, not each one in between.
func (w *WatchOrder) Execute(ctx context.Context, owner, id string, known int64, send func(domain.Snapshot) error) error {
	// Subscribing comes first: a change between the read and the subscription would be missed.
	changed, end, err := w.Changes.Subscribe(id)
	if err != nil {
		return err
	}
	defer end()
	for {
		order, err := w.Orders.Get(ctx, owner, id)
		if err != nil {
			return err
		}
		if order.Version > known {
			if err := send(order); err != nil {
				return err
			}
			known = order.Version
		}
		if order.Status.Final() {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}
