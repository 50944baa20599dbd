// Package usecase says what the inventory service does, step by step, in terms of the domain and of the
// ports below. It knows no database and no protocol.
package usecase

import (
	"context"

	"github.com/slipwayhq/slipway/reference/inventory/domain"
)

// Reserver stores what the requests with an idempotency key begin and undo, and moves the stock with
// it: both happen, or neither.
type Reserver interface {
	// Reserve stores a new reservation or, if its key was used before, returns the reservation of that
	// key. It fails with domain.ShortageError, with domain.ErrReleased when the key was undone, and with
	// domain.ErrOrderHasReservation when the order has a reservation under another key; then nothing is
	// held.
	Reserve(ctx context.Context, r *domain.Reservation) (domain.Snapshot, error)
	// Undo marks the key as undone, whether it was used or not, and applies change to its reservation.
	// found is false if there is none. With the error of change the key is not undone.
	Undo(ctx context.Context, key string, change func(*domain.Reservation) error) (s domain.Snapshot, found bool, err error)
}

// Updater changes reservations, and moves the stock with them.
type Updater interface {
	// UpdateOfOrder applies change to the reservation of an order and stores what it has changed. It
	// fails with domain.ErrNotFound and with the error of change.
	UpdateOfOrder(ctx context.Context, orderID string, change func(*domain.Reservation) error) (domain.Snapshot, error)
}

// Warehouse knows the stock.
type Warehouse interface {
	// Stocks returns the stock of the articles that are known, in the order of skus.
	Stocks(ctx context.Context, skus []string) ([]domain.Stock, error)
	// UpdateStock applies change to the stock of an article, which begins with nothing at version 0.
	UpdateStock(ctx context.Context, sku string, change func(domain.Stock) (domain.Stock, error)) (domain.Stock, error)
}
