package usecase

import (
	"context"
	"time"

	"github.com/slipwayhq/slipway/reference/inventory/domain"
)

// Release undoes what Reserve with the same key has done or may still do.
type Release struct {
	Reservations Reserver
	Now          func() time.Time
}

// ReleaseCommand is what a caller asks for.
type ReleaseCommand struct {
	Key     string
	OrderID string
}

// Execute gives back what is held. found is false if there never was such a reservation: then there
// will be none. It fails with domain.ErrInvalidTransition when the pieces have left, and with
// domain.ErrIdempotencyMismatch when the key is that of another order.
func (r *Release) Execute(ctx context.Context, cmd ReleaseCommand) (s domain.Snapshot, found bool, err error) {
	return r.Reservations.Undo(ctx, cmd.Key, func(held *domain.Reservation) error {
		if held.Snapshot().OrderID != cmd.OrderID {
			return domain.ErrIdempotencyMismatch
		}
		return held.Release(r.Now())
	})
}
