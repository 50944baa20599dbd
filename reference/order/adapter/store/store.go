// Package store keeps orders in PostgreSQL. An order and what it tells the world are written in one
// transaction: the events go into the outbox, or the change did not happen.
package store

import (
	"context"
	"errors"
	"fmt"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/slipwayhq/slipway/platform/fault"
	"github.com/slipwayhq/slipway/platform/outbox"
	"github.com/slipwayhq/slipway/platform/postgres"
	"github.com/slipwayhq/slipway/platform/saga/sagapg"
	"github.com/slipwayhq/slipway/reference/order/adapter/store/sqlc"
	"github.com/slipwayhq/slipway/reference/order/domain"
	"github.com/slipwayhq/slipway/reference/order/usecase"
)

// Orders implements the ports Updater, StepUpdater and Reader of the use cases. It is safe for
// concurrent use.
type Orders struct {
	pool    *pgxpool.Pool
	queries *sqlc.Queries
}

// New returns the orders in the database of pool, whose tables are those of the migrations.
func New(pool *pgxpool.Pool) *Orders {
	return &Orders{pool: pool, queries: sqlc.New(pool)}
}

// Update changes one order under an optimistic lock: nobody waits for a row, and the second of two
// concurrent changes fails with domain.ErrVersionConflict.
func (s *Orders) Update(ctx context.Context, owner, id string, change func(*domain.Order) error) (updated domain.Snapshot, err error) {
	err = postgres.InTx(ctx, s.pool, postgres.TxOptions{}, func(tx pgx.Tx) error {
		loaded, err := get(ctx, s.queries.WithTx(tx), owner, id)
		if err != nil {
			return err
		}
		updated, err = s.apply(ctx, tx, loaded, change)
		return err
	})
	if err != nil {
		return domain.Snapshot{}, classified(err)
	}
	return updated, nil
}

// UpdateInStep changes an order as a step of its checkout. The row is locked: what the step
// reads is not about to change, also not by an attempt before it whose outcome is unknown.
func (s *Orders) UpdateInStep(ctx context.Context, step usecase.Step, change func(*domain.Order) error) (updated domain.Snapshot, err error) {
	err = postgres.InTx(ctx, s.pool, postgres.TxOptions{}, func(tx pgx.Tx) error {
		if err := sagapg.Guard(ctx, tx, step.SagaID, step.Token); err != nil {
			return err
		}
		q := s.queries.WithTx(tx)
		if err := lock(ctx, q, step.Owner, step.OrderID); err != nil {
			return err
		}
		loaded, err := get(ctx, q, step.Owner, step.OrderID)
		if err != nil {
			return err
		}
		updated, err = s.apply(ctx, tx, loaded, change)
		return err
	})
	if err != nil {
		return domain.Snapshot{}, classified(err)
	}
	return updated, nil
}

// apply changes a loaded order and stores what has changed, with its events.
func (s *Orders) apply(ctx context.Context, tx pgx.Tx, loaded domain.Snapshot, change func(*domain.Order) error) (domain.Snapshot, error) {
	o := domain.Rehydrate(loaded)
	if err := change(o); err != nil {
		return domain.Snapshot{}, err
	}
	updated := o.Snapshot()
	if updated.Version == loaded.Version {
		return updated, nil
	}
	if err := update(ctx, s.queries.WithTx(tx), loaded.Version, updated); err != nil {
		return domain.Snapshot{}, err
	}
	return updated, addEvents(ctx, tx, o)
}

// Get returns the owner's order.
func (s *Orders) Get(ctx context.Context, owner, id string) (domain.Snapshot, error) {
	found, err := get(ctx, s.queries, owner, id)
	return found, classified(err)
}

// List returns at most limit orders that match f, newest first, with two statements.
func (s *Orders) List(ctx context.Context, f usecase.Filter, limit int) ([]domain.Snapshot, error) {
	before := uuid.Max // No UUIDv7: the first page begins below it.
	if f.Before != "" {
		var err error
		if before, err = uuid.Parse(f.Before); err != nil {
			return nil, fmt.Errorf("parse id of the order before the page: %w", err)
		}
	}
	rows, err := s.page(ctx, f, before, int32(limit))
	if err != nil {
		return nil, classified(fmt.Errorf("list orders: %w", err))
	}
	page, err := withItems(ctx, s.queries, rows)
	return page, classified(err)
}

// Versions returns the version of each of the given orders that exists.
func (s *Orders) Versions(ctx context.Context, ids []string) (map[string]int64, error) {
	parsed := make([]uuid.UUID, 0, len(ids))
	for _, id := range ids {
		if u, err := uuid.Parse(id); err == nil {
			parsed = append(parsed, u)
		}
	}
	rows, err := s.queries.VersionsOfOrders(ctx, parsed)
	if err != nil {
		return nil, fmt.Errorf("read versions of orders: %w", err)
	}
	versions := make(map[string]int64, len(rows))
	for _, r := range rows {
		versions[r.ID.String()] = r.Version
	}
	return versions, nil
}

// page chooses the statement whose index has the rows of the filter in order.
func (s *Orders) page(ctx context.Context, f usecase.Filter, before uuid.UUID, limit int32) ([]sqlc.Order, error) {
	switch {
	case f.CustomerID != "":
		return s.queries.ListOrdersOfCustomer(ctx, sqlc.ListOrdersOfCustomerParams{
			Owner: f.Owner, CustomerID: f.CustomerID, Status: string(f.Status), Before: before, MaxRows: limit,
		})
	case f.Status != "":
		return s.queries.ListOrdersInStatus(ctx, sqlc.ListOrdersInStatusParams{
			Owner: f.Owner, Status: string(f.Status), Before: before, MaxRows: limit,
		})
	}
	return s.queries.ListOrders(ctx, sqlc.ListOrdersParams{Owner: f.Owner, Before: before, MaxRows: limit})
}

// classified tells callers of a database that is away to try again. Every call may be repeated:
// placing an order has its key, and a cancelled order can be cancelled again.
func classified(err error) error {
	if postgres.IsUnavailable(err) {
		return fault.Wrap(err, fault.Unavailable, "orders cannot be reached at the moment")
	}
	return err
}

func get(ctx context.Context, q *sqlc.Queries, owner, id string) (domain.Snapshot, error) {
	parsed, err := uuid.Parse(id)
	if err != nil {
		return domain.Snapshot{}, domain.ErrNotFound
	}
	row, err := q.GetOrder(ctx, sqlc.GetOrderParams{ID: parsed, Owner: owner})
	if errors.Is(err, pgx.ErrNoRows) {
		return domain.Snapshot{}, domain.ErrNotFound
	}
	if err != nil {
		return domain.Snapshot{}, fmt.Errorf("read order: %w", err)
	}
	orders, err := withItems(ctx, q, []sqlc.Order{row})
	if err != nil {
		return domain.Snapshot{}, err
	}
	return orders[0], nil
}

// lock waits for others that change the order.
func lock(ctx context.Context, q *sqlc.Queries, owner, id string) error {
	parsed, err := uuid.Parse(id)
	if err != nil {
		return domain.ErrNotFound
	}
	_, err = q.LockOrder(ctx, sqlc.LockOrderParams{ID: parsed, Owner: owner})
	if err != nil && !errors.Is(err, pgx.ErrNoRows) {
		return fmt.Errorf("lock order: %w", err)
	}
	return nil
}

func withItems(ctx context.Context, q *sqlc.Queries, rows []sqlc.Order) ([]domain.Snapshot, error) {
	if len(rows) == 0 {
		return nil, nil
	}
	ids := make([]uuid.UUID, len(rows))
	for i, row := range rows {
		ids[i] = row.ID
	}
	items, err := q.ItemsOfOrders(ctx, ids)
	if err != nil {
		return nil, fmt.Errorf("read order items: %w", err)
	}
	return snapshots(rows, items), nil
}

func update(ctx context.Context, q *sqlc.Queries, loadedVersion int64, s domain.Snapshot) error {
	changed, err := q.UpdateOrder(ctx, sqlc.UpdateOrderParams{
		ID: uuid.MustParse(s.ID), LoadedVersion: loadedVersion,
		Status: string(s.Status), Version: s.Version, CancelReason: s.CancelReason, UpdatedAt: s.UpdatedAt,
	})
	if err != nil {
		return fmt.Errorf("update order: %w", err)
	}
	if changed == 0 {
		return domain.ErrVersionConflict
	}
	return nil
}

func addEvents(ctx context.Context, tx pgx.Tx, o *domain.Order) error {
	events, err := outboxEvents(o.Snapshot().ID, o.DrainEvents())
	if err != nil {
		return err
	}
	return outbox.Add(ctx, tx, events...)
}
