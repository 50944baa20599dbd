// Package domain holds the rules of the warehouse: what is there, what is promised to whom, and what may
// become of a promise. It knows no database, no protocol and no clock.
package domain

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Errors that callers tell apart; the edge maps each to a code.
var (
	ErrNotFound            = errors.New("order has no reservation")
	ErrOutOfStock          = errors.New("out of stock")
	ErrReleased            = errors.New("reservation was released")
	ErrInvalidTransition   = errors.New("reservation is in a state that does not allow this")
	ErrVersionConflict     = errors.New("stock was changed by somebody else")
	ErrStockReserved       = errors.New("more is promised than there would be")
	ErrIdempotencyMismatch = errors.New("idempotency key was used for another request")
	ErrOrderHasReservation = errors.New("order has a reservation under another idempotency key")
	ErrInvalidReservation  = errors.New("reservation is not valid")
)

// Status is where a reservation is in its life.
type Status string

// The states of a reservation. Reserved leads to one of the others, and both are final.
const (
	Reserved  Status = "RESERVED"
	Released  Status = "RELEASED"
	Committed Status = "COMMITTED"
)

// Statuses returns all states.
func Statuses() []Status { return []Status{Reserved, Released, Committed} }

// Line is so many pieces of an article.
type Line struct {
	SKU      string
	Quantity int64
}

// Snapshot is the state of a reservation as plain data.
type Snapshot struct {
	ID      string
	Key     string // idempotency key of the request that made it
	OrderID string
	Status  Status
	// Lines are in the order of their SKUs, one for each.
	Lines     []Line
	Version   int64
	CreatedAt time.Time
	UpdatedAt time.Time
}

// SameRequest reports whether both are asked for by the same order with the same lines.
func (s Snapshot) SameRequest(other Snapshot) bool {
	return s.OrderID == other.OrderID && slices.Equal(s.Lines, other.Lines)
}

// Reservation is what is promised to an order. It changes only through its methods, and collects what
// that means for the stock. It is not safe for concurrent use.
type Reservation struct {
	state     Snapshot
	movements []Movement
}

// NewReservation is what a reservation is made of. Lines of one article are added up.
type NewReservation struct {
	ID, Key, OrderID string
	Lines            []Line
}

// Reserve promises the lines to an order, at version 1.
func Reserve(n NewReservation, now time.Time) (*Reservation, error) {
	lines, err := sum(n.Lines)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalidReservation, err)
	}
	r := &Reservation{state: Snapshot{
		ID: n.ID, Key: n.Key, OrderID: n.OrderID, Status: Reserved, Lines: lines, Version: 1, CreatedAt: now, UpdatedAt: now,
	}}
	r.move(Movement{Reserved: 1})
	return r, nil
}

// Rehydrate returns the reservation that a store has kept.
func Rehydrate(s Snapshot) *Reservation {
	s.Lines = slices.Clone(s.Lines)
	return &Reservation{state: s}
}

// Snapshot returns a copy of the state.
func (r *Reservation) Snapshot() Snapshot {
	s := r.state
	s.Lines = slices.Clone(s.Lines)
	return s
}

// Release gives the promise up. Releasing a released reservation changes nothing; for a committed one
// it fails with [ErrInvalidTransition]: the pieces are gone.
func (r *Reservation) Release(now time.Time) error {
	return r.become(Released, Movement{Reserved: -1}, now)
}

// Commit keeps the promise. Committing a committed reservation changes nothing; for a released one it
// fails with [ErrInvalidTransition]: there is no promise any more.
func (r *Reservation) Commit(now time.Time) error {
	return r.become(Committed, Movement{OnHand: -1, Reserved: -1, Committed: 1}, now)
}

// DrainMovements returns what has changed about the stock since the last time, in the order of the SKUs.
func (r *Reservation) DrainMovements() []Movement {
	drained := r.movements
	r.movements = nil
	return drained
}

// become changes the state; each is what that means for one reserved piece.
func (r *Reservation) become(next Status, each Movement, now time.Time) error {
	switch r.state.Status {
	case next:
		return nil
	case Reserved:
	default:
		return fmt.Errorf("%w: it is %s and cannot become %s", ErrInvalidTransition, r.state.Status, next)
	}
	r.state.Status, r.state.UpdatedAt = next, now
	r.state.Version++
	r.move(each)
	return nil
}

func (r *Reservation) move(each Movement) {
	for _, l := range r.state.Lines {
		r.movements = append(r.movements, Movement{
			SKU: l.SKU, OnHand: each.OnHand * l.Quantity, Reserved: each.Reserved * l.Quantity, Committed: each.Committed * l.Quantity,
		})
	}
}

// maxQuantity bounds a line after adding up, so that no sum overflows.
const maxQuantity = 1_000_000_000

// sum adds up the lines of each article, in the order of the SKUs: who takes rows in one order never
// waits in a circle.
func sum(lines []Line) ([]Line, error) {
	if len(lines) == 0 {
		return nil, errors.New("it has no lines")
	}
	total := map[string]int64{}
	for _, l := range lines {
		if l.SKU == "" || l.Quantity < 1 || l.Quantity > maxQuantity {
			return nil, fmt.Errorf("line of %q needs an article and a quantity between 1 and %d", l.SKU, maxQuantity)
		}
		if total[l.SKU] += l.Quantity; total[l.SKU] > maxQuantity {
			return nil, fmt.Errorf("more than %d of %s", maxQuantity, l.SKU)
		}
	}
	summed := make([]Line, 0, len(total))
	for sku, quantity := range total {
		summed = append(summed, Line{sku, quantity})
	}
	slices.SortFunc(summed, func(a, b Line) int { return strings.Compare(a.SKU, b.SKU) })
	return summed, nil
}
