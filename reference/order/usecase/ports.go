// Package usecase says what the order service does, step by step, in terms of the domain and of
// the ports below. It knows no database, no cache and no protocol.
package usecase

import (
	"context"

	"github.com/slipwayhq/slipway/reference/order/domain"
)

// Placer stores new orders.
type Placer interface {
	// Place stores the order, its events, the idempotency record and the start of its checkout in
	// one transaction. If the caller has used the key for the same request, nothing is stored and
	// the order of then is returned as it is now; for another request it fails with
	// domain.ErrIdempotencyMismatch.
	Place(ctx context.Context, o *domain.Order, idempotency Idempotency, checkout Checkout) (domain.Snapshot, error)
}

// Updater changes orders.
type Updater interface {
	// Update loads the owner's order, applies change, and stores the order with its events in one
	// transaction. change must not call other services. It fails with domain.ErrNotFound, with
	// domain.ErrVersionConflict when somebody else changed the order meanwhile, and with the error
	// of change. Without events nothing is stored.
	Update(ctx context.Context, owner, id string, change func(*domain.Order) error) (domain.Snapshot, error)
}

// StepUpdater changes orders as a step of their checkout.
type StepUpdater interface {
	// UpdateInStep is as Updater.Update, but waits for others that change the order, and fails
	// without a change when another process has taken the checkout over.
	UpdateInStep(ctx context.Context, step Step, change func(*domain.Order) error) (domain.Snapshot, error)
}

// Step identifies a step of a checkout that changes its order.
type Step struct {
	SagaID  string
	Token   int64
	Owner   string
	OrderID string
}

// Inventory holds stock for orders, in another service. key is the same for each attempt of a
// call and for its undo. Errors are marked with what they mean for a saga.
type Inventory interface {
	// Reserve holds all items, or fails with a rejection that tells why not.
	Reserve(ctx context.Context, key, orderID string, items []domain.Item) error
	// Release gives back what Reserve with the key holds, if anything.
	Release(ctx context.Context, key, orderID string) error
}

// Payments holds money for orders, in another service. key is the same for each attempt of a
// call and for its undo. Errors are marked with what they mean for a saga.
type Payments interface {
	// Authorize holds the amount, or fails with a rejection that tells why not.
	Authorize(ctx context.Context, key string, a Authorization) error
	// Authorized tells whether the amount is held, and fails as long as nobody knows.
	Authorized(ctx context.Context, orderID string) (bool, error)
	// Void lets go of what Authorize with the key holds, if anything.
	Void(ctx context.Context, key, orderID string) error
}

// Authorization is what a customer is to pay.
type Authorization struct {
	OrderID string
	Amount  domain.Money
	// CardToken is what the payment provider knows the card by.
	CardToken string
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
