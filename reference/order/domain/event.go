package domain

import "time"

// Event is something that has happened to an order: OrderPlaced, OrderConfirmed or OrderCancelled.
type Event interface {
	// Version is the version of the order after the event.
	Version() int64
}

// OrderPlaced says that an order was accepted.
type OrderPlaced struct {
	Order Snapshot
}

// OrderConfirmed says that an order will be delivered, and what is to be captured.
type OrderConfirmed struct {
	OrderID      string
	OrderVersion int64
	Total        Money
	At           time.Time
}

// OrderCancelled says that an order was given up.
type OrderCancelled struct {
	OrderID      string
	OrderVersion int64
	Reason       string
	At           time.Time
}

// Version implements [Event].
func (e OrderPlaced) Version() int64 { return e.Order.Version }

// Version implements [Event].
func (e OrderConfirmed) Version() int64 { return e.OrderVersion }

// Version implements [Event].
func (e OrderCancelled) Version() int64 { return e.OrderVersion }
