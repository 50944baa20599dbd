// Package usecase says what the payment service does, step by step, in terms of the domain and of the
// ports below. It knows no database and no protocol.
//
// What is asked of the provider is noted first, in a transaction, and so is the answer, in another.
// Between them the payment is in a state that ends in -ING:
//
//	note the intent -> COMMIT -> call the provider -> note the answer -> COMMIT
//
// What is true after a crash
//
//   - before the first commit: nothing has happened.
//   - before the answer is noted: the payment waits. The provider knows it by its id and does nothing
//     twice, so whoever repeats the request goes on; without one [Settle] does.
//   - after it: the work is done.
package usecase

import (
	"context"
	"time"

	"github.com/slipwayhq/slipway/reference/payment/domain"
)

// Opener stores what the requests with an idempotency key begin. A request that undoes another has
// the key of that.
type Opener interface {
	// Open stores a new payment, and fresh is true; or, if its key was used before, returns the
	// payment of that key. It fails with domain.ErrVoided when the key was undone, and with
	// domain.ErrOrderHasPayment when the order has a payment under another key.
	Open(ctx context.Context, p *domain.Payment) (stored domain.Snapshot, fresh bool, err error)
	// Undo marks the key as undone, whether it was used or not, and applies change to its payment.
	// found is false if there is none. It fails with domain.ErrVersionConflict and with the error of
	// change; then the key is not undone.
	Undo(ctx context.Context, key string, change func(*domain.Payment) error) (s domain.Snapshot, found bool, err error)
}

// Updater changes payments.
type Updater interface {
	// Update applies change to a payment and stores what it has changed. change must not call other
	// services. It fails with domain.ErrNotFound, with domain.ErrVersionConflict when somebody else
	// changed the payment meanwhile, and with the error of change.
	Update(ctx context.Context, id string, change func(*domain.Payment) error) (domain.Snapshot, error)
	// UpdateOfOrder does so with the payment of an order.
	UpdateOfOrder(ctx context.Context, orderID string, change func(*domain.Payment) error) (domain.Snapshot, error)
}

// Reader reads payments.
type Reader interface {
	// OfOrder returns the payment of an order, or domain.ErrNotFound.
	OfOrder(ctx context.Context, orderID string) (domain.Snapshot, error)
}

// Claimer hands out payments that are not settled.
type Claimer interface {
	// Claim returns payments whose time to be looked at has come, longest overdue first, each to one
	// caller; it has them looked at again after a pause.
	Claim(ctx context.Context, c Claim) ([]Claimed, error)
}

// Claim says how many payments are wanted, and when they are looked at again.
type Claim struct {
	Limit int
	// Pause is until the next look; it doubles with each look that changes nothing, up to
	// LongestPause.
	Pause, LongestPause time.Duration
	// Watch is for how long a payment in doubt is watched after its last change.
	Watch time.Duration
}

// Claimed is a payment to be looked at.
type Claimed struct {
	domain.Snapshot
	// Watched says that the time to watch a payment in doubt is over.
	Watched bool
}

// Provider is who moves the money. It knows a payment by its id, the key, and does nothing twice for
// one. An error means that the outcome is unknown: the call may have had its effect, or may have it
// later.
type Provider interface {
	// Authorize holds the amount, unless the provider declines.
	Authorize(ctx context.Context, key string, amount domain.Money, card domain.CardToken) (domain.Answer, error)
	// Lookup says what the provider has under the key.
	Lookup(ctx context.Context, key string) (domain.Answer, error)
	// Void lets the amount go. The answer for a key that the provider does not know is
	// domain.NoCharge, and it may get to know it later.
	Void(ctx context.Context, key string) (domain.Answer, error)
	// Capture transfers the amount that is held.
	Capture(ctx context.Context, key string, amount domain.Money) (domain.Answer, error)
	// Refund gives the amount back that was transferred.
	Refund(ctx context.Context, key string, amount domain.Money) (domain.Answer, error)
}

// Observer hears what became of payments that were taken up without a caller.
type Observer interface {
	// Looked is called after each look at a payment: as it was, as it is, and what went wrong.
	Looked(ctx context.Context, before, after domain.Snapshot, err error)
	// LateSuccess is called when a payment that was voided turns out to have succeeded at the provider,
	// before that is undone.
	LateSuccess(ctx context.Context, s domain.Snapshot)
	// Idle is called when nothing could be handed out, with the reason.
	Idle(ctx context.Context, err error)
}
