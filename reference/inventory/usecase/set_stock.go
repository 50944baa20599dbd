package usecase

import (
	"context"
	"time"

	"github.com/slipwayhq/slipway/reference/inventory/domain"
)

// SetStock notes what is in the warehouse, after a delivery or a count.
type SetStock struct {
	Warehouse Warehouse
	Now       func() time.Time
}

// SetStockCommand is what a caller asks for.
type SetStockCommand struct {
	SKU    string
	OnHand int64
	// ExpectedVersion is the version that the caller has seen; 0 for any.
	ExpectedVersion int64
}

// Execute sets the stock of an article, which need not be known yet. It fails with
// domain.ErrStockReserved and with domain.ErrVersionConflict.
func (s *SetStock) Execute(ctx context.Context, cmd SetStockCommand) (domain.Stock, error) {
	return s.Warehouse.UpdateStock(ctx, cmd.SKU, func(stock domain.Stock) (domain.Stock, error) {
		return stock.Set(cmd.OnHand, cmd.ExpectedVersion, s.Now())
	})
}
