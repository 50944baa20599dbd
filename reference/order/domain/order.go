// Package domain holds the rules of orders: what an order is, how it may change, and what it tells
// the world when it does. It knows no database, no protocol and no clock.
package domain

import (
	"errors"
	"fmt"
	"slices"
	"time"
)

// Errors of the rules; the edge maps each to a code.
var (
	ErrNotFound            = errors.New("order not found")
	ErrVersionConflict     = errors.New("order was changed by somebody else")
	ErrInvalidTransition   = errors.New("order is in a state that does not allow this")
	ErrIdempotencyMismatch = errors.New("idempotency key was used for another request")
	ErrInvalidOrder        = errors.New("order is not valid")
)

// MaxTotal is the largest total of an order, in minor units.
const MaxTotal = 1_000_000_000_000

// Item is one line of an order.
type Item struct {
	SKU       string
	Quantity  int32
	UnitPrice Money
}

// Snapshot is the state of an order as plain data, for stores, caches and views.
type Snapshot struct {
	ID           string
	Owner        string
	CustomerID   string
	Status       Status
	Items        []Item
	Total        Money
	Version      int64
	CreatedAt    time.Time
	UpdatedAt    time.Time
	CancelReason string
}

// Order is the aggregate: it changes only through its methods, which keep its rules, and collects
// the events that a store has to publish with the change. It is not safe for concurrent use.
type Order struct {
	state  Snapshot
	events []Event
}

// NewOrder is what an order is made of.
type NewOrder struct {
	ID         string
	Owner      string
	CustomerID string
	Items      []Item
}

// Place accepts a new order at version 1. It fails with [ErrInvalidOrder] when the items do not
// make an order.
func Place(n NewOrder, now time.Time) (*Order, error) {
	total, err := sum(n.Items)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalidOrder, err)
	}
	o := &Order{state: Snapshot{
		ID:         n.ID,
		Owner:      n.Owner,
		CustomerID: n.CustomerID,
		Status:     Pending,
		Items:      slices.Clone(n.Items),
		Total:      total,
		Version:    1,
		CreatedAt:  now,
		UpdatedAt:  now,
	}}
	o.events = append(o.events, OrderPlaced{Order: o.Snapshot()})
	return o, nil
}

// Rehydrate returns the order that a store has kept, without events.
func Rehydrate(s Snapshot) *Order {
	s.Items = slices.Clone(s.Items)
	return &Order{state: s}
}

// Confirm promises delivery. Confirming a confirmed order changes nothing.
func (o *Order) Confirm(now time.Time) error {
	if o.state.Status == Confirmed {
		return nil
	}
	if err := o.become(Confirmed, now); err != nil {
		return err
	}
	o.events = append(o.events, OrderConfirmed{
		OrderID: o.state.ID, OrderVersion: o.state.Version, Total: o.state.Total, At: now,
	})
	return nil
}

// Cancel gives the order up. Cancelling a cancelled order changes nothing, not even the reason.
func (o *Order) Cancel(reason string, now time.Time) error {
	if o.state.Status == Cancelled {
		return nil
	}
	if err := o.become(Cancelled, now); err != nil {
		return err
	}
	o.state.CancelReason = reason
	o.events = append(o.events, OrderCancelled{
		OrderID: o.state.ID, OrderVersion: o.state.Version, Reason: reason, At: now,
	})
	return nil
}

// RequireVersion fails with [ErrVersionConflict] unless the order has the given version; 0 accepts
// any.
func (o *Order) RequireVersion(version int64) error {
	if version != 0 && version != o.state.Version {
		return fmt.Errorf("%w: it has version %d, not %d", ErrVersionConflict, o.state.Version, version)
	}
	return nil
}

// Snapshot returns a copy of the state.
func (o *Order) Snapshot() Snapshot {
	s := o.state
	s.Items = slices.Clone(s.Items)
	return s
}

// DrainEvents returns the events since the order was placed, loaded or drained, oldest first, and
// forgets them.
func (o *Order) DrainEvents() []Event {
	events := o.events
	o.events = nil
	return events
}

func (o *Order) become(next Status, now time.Time) error {
	if !o.state.Status.CanBecome(next) {
		return fmt.Errorf("%w: %s cannot become %s", ErrInvalidTransition, o.state.Status, next)
	}
	o.state.Status = next
	o.state.Version++
	o.state.UpdatedAt = now
	return nil
}

func sum(items []Item) (Money, error) {
	if len(items) == 0 {
		return Money{}, errors.New("it has no items")
	}
	total := Money{Currency: items[0].UnitPrice.Currency}
	for _, item := range items {
		if item.Quantity < 1 || item.UnitPrice.Minor < 1 {
			return Money{}, fmt.Errorf("item %s needs a quantity and a price above zero", item.SKU)
		}
		price, err := item.UnitPrice.Times(item.Quantity)
		if err != nil {
			return Money{}, err
		}
		if total, err = total.Add(price); err != nil {
			return Money{}, err
		}
	}
	if total.Minor > MaxTotal {
		return Money{}, fmt.Errorf("%w: a total may be %d at most", ErrAmountOverflow, int64(MaxTotal))
	}
	return total, nil
}
