package usecase

import (
	"context"
	"time"

	"github.com/slipwayhq/slipway/reference/inventory/domain"
)

// Reserve holds stock for orders.
type Reserve struct {
	Reservations Reserver
	// NewID draws the id of a reservation, a UUIDv7.
	NewID func() string
	Now   func() time.Time
}

// ReserveCommand is what a caller asks for.
type ReserveCommand struct {
	Key     string
	OrderID string
	Lines   []domain.Line
}

// Execute holds all lines, or fails with domain.ShortageError and holds none. Repeated with the same
// key and content it returns what became of the first request, and fails with domain.ErrReleased when
// that is released; with other content it fails with domain.ErrIdempotencyMismatch.
func (r *Reserve) Execute(ctx context.Context, cmd ReserveCommand) (domain.Snapshot, error) {
	wanted, err := domain.Reserve(domain.NewReservation{ID: r.NewID(), Key: cmd.Key, OrderID: cmd.OrderID, Lines: cmd.Lines}, r.Now())
	if err != nil {
		return domain.Snapshot{}, err
	}
	held, err := r.Reservations.Reserve(ctx, wanted)
	if err != nil {
		return domain.Snapshot{}, err
	}
	if !held.SameRequest(wanted.Snapshot()) {
		return domain.Snapshot{}, domain.ErrIdempotencyMismatch
	}
	if held.Status == domain.Released {
		return domain.Snapshot{}, domain.ErrReleased
	}
	return held, nil
}
