// Package usecase says what the order service does, step by step, in terms of the domain and of
// the ports below. It knows no database, no cache and no protocol.
package usecase

import (
	"context"

	"github.com/slipwayhq/slipway/reference/order/domain"
)

// Placer stores new orders.
type Placer interface {
	// Place stores the order, its events and the idempotency record in one transaction. If the
	// caller has used the key for the same request, nothing is stored and the order of then is
	// returned as it is now; for another request it fails with domain.ErrIdempotencyMismatch.
	Place(ctx context.Context, o *domain.Order, idempotency Idempotency) (domain.Snapshot, error)
}

// Updater changes orders.
type Updater interface {
	// Update loads the owner's order, applies change, and stores the order with its events in one
	// transaction. change must not call other services. It fails with domain.ErrNotFound, with
	// domain.ErrVersionConflict when somebody else changed the order meanwhile, and with the error
	// of change. Without events nothing is stored.
	Update(ctx context.Context, owner, id string, change func(*domain.Order) error) (domain.Snapshot, error)
}

// Reader reads orders.
type Reader interface {
	// Get returns the owner's order, or domain.ErrNotFound.
	Get(ctx context.Context, owner, id string) (domain.Snapshot, error)
	// List returns at most limit orders that match the filter, newest first.
	List(ctx context.Context, f Filter, limit int) ([]domain.Snapshot, error)
}

// Cache remembers orders for a while. It never fails: without it, loads are more frequent.
type Cache interface {
	// Get returns the owner's order from the cache, or what load returns.
	Get(ctx context.Context, owner, id string, load func(context.Context) (domain.Snapshot, error)) (domain.Snapshot, error)
}

// Listener hears of every change after it was committed.
type Listener interface {
	OrderChanged(ctx context.Context, s domain.Snapshot)
}

// Changes tells when an order may have changed, on whichever replica that happened.
type Changes interface {
	// Subscribe returns a channel that gets a value after each change of the order, and a function
	// that ends the subscription. Several changes may be one value. It fails when too many
	// subscriptions are open.
	Subscribe(id string) (changed <-chan struct{}, end func(), err error)
}

// Idempotency identifies a request that may be repeated.
type Idempotency struct {
	// Owner is the caller; keys of different callers do not meet.
	Owner string
	// Key was chosen by the caller.
	Key string
	// Hash is the hash of the request's content.
	Hash []byte
}

// Filter selects orders of one owner.
type Filter struct {
	Owner string
	// Status and CustomerID select; empty means all.
	Status     domain.Status
	CustomerID string
	// Before is the id of the last order of the page before; empty for the first page.
	Before string
}
