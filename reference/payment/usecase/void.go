package usecase

import (
	"context"
	"errors"
	"time"

	"github.com/slipwayhq/slipway/reference/payment/domain"
)

// Void undoes what Authorize with the same key has done or may still do.
type Void struct {
	Payments Opener
	Teller   *Teller
	Now      func() time.Time
}

// VoidCommand is what a caller asks for.
type VoidCommand struct {
	Key     string
	OrderID string
}

// Execute lets go of what is held. found is false if there never was such a payment: then there will
// be none. A payment that was declined stays so. It fails with domain.ErrInvalidTransition for one that
// is being captured or was, and with an error of the provider when the outcome is unknown: then it is
// voided later, without the caller.
func (v *Void) Execute(ctx context.Context, cmd VoidCommand) (s domain.Snapshot, found bool, err error) {
	for range attempts {
		s, found, err = v.Payments.Undo(ctx, cmd.Key, func(p *domain.Payment) error {
			if p.Snapshot().OrderID != cmd.OrderID {
				return domain.ErrIdempotencyMismatch
			}
			return p.Void(v.Now())
		})
		if !errors.Is(err, domain.ErrVersionConflict) {
			break
		}
	}
	if err != nil || !found {
		return domain.Snapshot{}, false, err
	}
	s, err = v.Teller.Finish(ctx, s)
	return s, true, err
}
