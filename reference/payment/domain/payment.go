// Package domain holds the rules of payments: which states follow each other, what an answer of the
// provider means in each of them, and what is still open. It knows no database, no protocol and no
// clock.
package domain

import (
	"errors"
	"fmt"
	"time"
)

// Errors of the rules; the edge maps each to a code.
var (
	ErrNotFound            = errors.New("payment not found")
	ErrVersionConflict     = errors.New("payment was changed by somebody else")
	ErrInvalidTransition   = errors.New("payment is in a state that does not allow this")
	ErrInvalidAmount       = errors.New("amount is not valid")
	ErrIdempotencyMismatch = errors.New("idempotency key was used for another request")
	ErrOrderHasPayment     = errors.New("order has a payment under another idempotency key")
	ErrDeclined            = errors.New("payment was declined")
	ErrVoided              = errors.New("payment was voided")
	ErrPending             = errors.New("answer of the payment provider is outstanding")
	ErrContradiction       = errors.New("payment provider contradicts what it said before")
)

// Snapshot is the state of a payment as plain data, for stores and views.
type Snapshot struct {
	// ID identifies the payment, also at the provider.
	ID string
	// Key is the idempotency key of the request that asked for it.
	Key           string
	OrderID       string
	Status        Status
	Amount        Money
	DeclineReason string
	RefundReason  string
	// InDoubt says that an authorization may still succeed at the provider although the payment is
	// voided, or is being voided again: the provider knew nothing of it when it was to be voided.
	InDoubt   bool
	Version   int64
	CreatedAt time.Time
	UpdatedAt time.Time
}

// Unsettled tells whether something has to be asked or done at the provider before the payment rests.
func (s Snapshot) Unsettled() bool { return s.Status.Waiting() || s.InDoubt }

// Payment is the aggregate: it changes only through its methods, which keep its rules. It is not
// safe for concurrent use.
type Payment struct {
	state Snapshot
}

// NewPayment is what a payment is made of.
type NewPayment struct {
	ID      string
	Key     string
	OrderID string
	Amount  Money
}

// Open returns a payment whose authorization is about to be asked for, at version 1. It fails with
// [ErrInvalidAmount].
func Open(n NewPayment, now time.Time) (*Payment, error) {
	if err := n.Amount.Validate(); err != nil {
		return nil, err
	}
	return &Payment{state: Snapshot{
		ID:        n.ID,
		Key:       n.Key,
		OrderID:   n.OrderID,
		Status:    Authorizing,
		Amount:    n.Amount,
		Version:   1,
		CreatedAt: now,
		UpdatedAt: now,
	}}, nil
}

// Rehydrate returns the payment that a store has kept.
func Rehydrate(s Snapshot) *Payment { return &Payment{state: s} }

// Snapshot returns a copy of the state.
func (p *Payment) Snapshot() Snapshot { return p.state }

// RequireSame fails with [ErrIdempotencyMismatch] unless the payment is for that order and amount.
func (p *Payment) RequireSame(orderID string, amount Money) error {
	if p.state.OrderID != orderID || p.state.Amount != amount {
		return ErrIdempotencyMismatch
	}
	return nil
}

// Void notes that what is held is to be let go. There is nothing to let go of a payment that was
// declined, and one that is being voided or is voided stays so.
func (p *Payment) Void(now time.Time) error {
	switch p.state.Status {
	case Declined, Voiding, Voided:
		return nil
	case Authorizing, Authorized:
		return p.become(Voiding, now)
	default:
		return p.refused("voided")
	}
}

// Capture notes that what is held is to be transferred. A payment that is being captured or is past
// that stays as it is. It fails with [ErrPending] while nobody knows whether anything is held.
func (p *Payment) Capture(now time.Time) error {
	switch p.state.Status {
	case Capturing, Captured, Refunding, Refunded:
		return nil
	case Authorizing:
		return fmt.Errorf("capture payment: %w", ErrPending)
	case Authorized:
		return p.become(Capturing, now)
	default:
		return p.refused("captured")
	}
}

// Refund notes that what was captured is to be given back. A payment that is being refunded or is
// refunded stays as it is, also the reason. It fails with [ErrPending] while the capture has no
// answer.
func (p *Payment) Refund(reason string, now time.Time) error {
	switch p.state.Status {
	case Refunding, Refunded:
		return nil
	case Capturing:
		return fmt.Errorf("refund payment: %w", ErrPending)
	case Captured:
		p.state.RefundReason = reason
		return p.become(Refunding, now)
	default:
		return p.refused("refunded")
	}
}

// Outcome is nil for a payment that was authorized, whatever followed, [ErrDeclined], [ErrVoided],
// or [ErrPending].
func (s Snapshot) Outcome() error {
	switch s.Status {
	case Authorizing:
		return ErrPending
	case Declined:
		return fmt.Errorf("%w: %s", ErrDeclined, s.DeclineReason)
	case Voiding, Voided:
		return ErrVoided
	default:
		return nil
	}
}

func (p *Payment) refused(what string) error {
	return fmt.Errorf("%w: %s cannot be %s", ErrInvalidTransition, p.state.Status, what)
}

func (p *Payment) become(next Status, now time.Time) error {
	if !p.state.Status.CanBecome(next) {
		return fmt.Errorf("%w: %s cannot become %s", ErrInvalidTransition, p.state.Status, next)
	}
	p.state.Status = next
	p.touch(now)
	return nil
}

func (p *Payment) touch(now time.Time) {
	p.state.Version++
	p.state.UpdatedAt = now
}
