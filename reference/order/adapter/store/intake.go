package store

import (
	"context"
	"crypto/subtle"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/slipwayhq/slipway/platform/postgres"
	"github.com/slipwayhq/slipway/platform/saga"
	"github.com/slipwayhq/slipway/platform/saga/sagapg"
	"github.com/slipwayhq/slipway/reference/order/adapter/store/sqlc"
	"github.com/slipwayhq/slipway/reference/order/domain"
	"github.com/slipwayhq/slipway/reference/order/usecase"
)

// Intake implements the port Placer of the use cases. It is safe for concurrent use.
type Intake struct {
	orders   *Orders
	checkout *saga.Definition[usecase.Checkout]
	runner   *sagapg.Runner
}

// NewIntake returns an intake that starts a checkout with each order, on runner if it is not nil.
func NewIntake(orders *Orders, checkout *saga.Definition[usecase.Checkout], runner *sagapg.Runner) *Intake {
	return &Intake{orders: orders, checkout: checkout, runner: runner}
}

// Place stores a new order, its idempotency key, its events and its checkout, which begins with the
// commit. One of two calls with the same key
// waits for the other here, and then finds the other's order.
func (i *Intake) Place(
	ctx context.Context, o *domain.Order, idempotency usecase.Idempotency, checkout usecase.Checkout,
) (placed domain.Snapshot, err error) {
	begin := func() {}
	placed = o.Snapshot()
	row, err := orderRow(placed)
	if err != nil {
		return domain.Snapshot{}, err
	}
	err = postgres.InTx(ctx, i.orders.pool, postgres.TxOptions{}, func(tx pgx.Tx) error {
		q := i.orders.queries.WithTx(tx)
		claimed, err := q.ClaimKey(ctx, sqlc.ClaimKeyParams{
			Owner: idempotency.Owner, Key: idempotency.Key, RequestHash: idempotency.Hash,
			OrderID: row.ID, CreatedAt: placed.CreatedAt,
		})
		if err != nil {
			return fmt.Errorf("claim idempotency key: %w", err)
		}
		if claimed == 0 {
			placed, err = earlier(ctx, q, idempotency)
			return err
		}
		if err := insert(ctx, q, row, placed.Items); err != nil {
			return err
		}
		if begin, err = sagapg.Start(ctx, tx, i.runner, i.checkout, placed.ID, checkout); err != nil {
			return err
		}
		return addEvents(ctx, tx, o)
	})
	if err != nil {
		return domain.Snapshot{}, classified(err)
	}
	begin()
	return placed, nil
}

// earlier returns the order that the key was used for, if it was the same request.
func earlier(ctx context.Context, q *sqlc.Queries, i usecase.Idempotency) (domain.Snapshot, error) {
	used, err := q.GetKey(ctx, sqlc.GetKeyParams{Owner: i.Owner, Key: i.Key})
	if err != nil {
		return domain.Snapshot{}, fmt.Errorf("read idempotency key: %w", err)
	}
	if subtle.ConstantTimeCompare(used.RequestHash, i.Hash) != 1 {
		return domain.Snapshot{}, domain.ErrIdempotencyMismatch
	}
	return get(ctx, q, i.Owner, used.OrderID.String())
}

func insert(ctx context.Context, q *sqlc.Queries, row sqlc.InsertOrderParams, items []domain.Item) error {
	if err := q.InsertOrder(ctx, row); err != nil {
		return fmt.Errorf("insert order: %w", err)
	}
	if err := q.InsertItems(ctx, itemRows(row.ID, items)); err != nil {
		return fmt.Errorf("insert order items: %w", err)
	}
	return nil
}
