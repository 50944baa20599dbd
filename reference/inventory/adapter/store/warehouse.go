package store

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/slipwayhq/slipway/platform/postgres"
	"github.com/slipwayhq/slipway/reference/inventory/adapter/store/sqlc"
	"github.com/slipwayhq/slipway/reference/inventory/domain"
)

// Warehouse implements the port Warehouse of the use cases. It is safe for concurrent use.
type Warehouse struct{ pool *pgxpool.Pool }

// NewWarehouse returns the stock in the database of pool.
func NewWarehouse(pool *pgxpool.Pool) *Warehouse { return &Warehouse{pool: pool} }

// Stocks implements the port Warehouse.
func (w *Warehouse) Stocks(ctx context.Context, skus []string) ([]domain.Stock, error) {
	rows, err := sqlc.New(w.pool).GetStocks(ctx, skus)
	if err != nil {
		return nil, classified(fmt.Errorf("read stock: %w", err))
	}
	stocks := make([]domain.Stock, len(rows))
	for i, row := range rows {
		stocks[i] = stock(row)
	}
	return stocks, nil
}

// UpdateStock implements the port Warehouse. Who moves or updates the same article waits.
func (w *Warehouse) UpdateStock(
	ctx context.Context, sku string, change func(domain.Stock) (domain.Stock, error),
) (changed domain.Stock, err error) {
	err = postgres.InTx(ctx, w.pool, postgres.TxOptions{}, func(tx pgx.Tx) error {
		for q := sqlc.New(tx); ; {
			loaded, err := lock(ctx, q, sku)
			if err != nil {
				return err
			}
			if changed, err = change(loaded); err != nil {
				return err
			}
			if saved, err := save(ctx, q, loaded, changed); err != nil || saved {
				return err
			}
		}
	})
	if err != nil {
		return domain.Stock{}, classified(err)
	}
	return changed, nil
}

// lock returns the stock of an article, which nobody else changes until the transaction ends. Of one
// that is not known there is none.
func lock(ctx context.Context, q *sqlc.Queries, sku string) (domain.Stock, error) {
	row, err := q.LockStock(ctx, sku)
	if errors.Is(err, pgx.ErrNoRows) {
		return domain.Stock{SKU: sku}, nil
	}
	if err != nil {
		return domain.Stock{}, fmt.Errorf("read stock: %w", err)
	}
	return stock(row), nil
}

// save returns false when the article has become known meanwhile.
func save(ctx context.Context, q *sqlc.Queries, loaded, s domain.Stock) (bool, error) {
	switch loaded.Version {
	case s.Version:
		return true, nil
	case 0:
		inserted, err := q.InsertStock(ctx, sqlc.InsertStockParams{
			Sku: s.SKU, OnHand: s.OnHand, Reserved: s.Reserved, Committed: s.Committed, Version: s.Version, UpdatedAt: s.UpdatedAt,
		})
		if err != nil {
			return false, fmt.Errorf("insert stock: %w", err)
		}
		return inserted == 1, nil
	}
	err := q.UpdateStock(ctx, sqlc.UpdateStockParams{
		Sku: s.SKU, OnHand: s.OnHand, Reserved: s.Reserved, Committed: s.Committed, Version: s.Version, UpdatedAt: s.UpdatedAt,
	})
	if err != nil {
		return false, fmt.Errorf("update stock: %w", err)
	}
	return true, nil
}
