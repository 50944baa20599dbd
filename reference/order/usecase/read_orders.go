package usecase

import (
	"context"

	"github.com/slipwayhq/slipway/reference/order/domain"
)

// GetOrder reads one order, through the cache.
type GetOrder struct {
	Orders Reader
	Cache  Cache
}

// Execute returns the owner's order, or domain.ErrNotFound.
func (g *GetOrder) Execute(ctx context.Context, owner, id string) (domain.Snapshot, error) {
	return g.Cache.Get(ctx, owner, id, func(ctx context.Context) (domain.Snapshot, error) {
		return g.Orders.Get(ctx, owner, id)
	})
}

// ListOrders reads the orders of one owner, page by page.
type ListOrders struct {
	Orders Reader
}

// DefaultPageSize is the size of a page for a caller that names none.
const DefaultPageSize = 20

// Execute returns a page of at most size orders, newest first, and the id after which the next page
// begins, "" on the last one. Orders placed meanwhile do not shift pages.
func (l *ListOrders) Execute(ctx context.Context, f Filter, size int) (page []domain.Snapshot, next string, err error) {
	if size <= 0 {
		size = DefaultPageSize
	}
	page, err = l.Orders.List(ctx, f, size+1) // One more tells whether there is a next page.
	if err != nil || len(page) <= size {
		return page, "", err
	}
	page = page[:size]
	return page, page[size-1].ID, nil
}
