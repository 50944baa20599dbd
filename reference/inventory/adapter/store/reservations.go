// Package store keeps stock and reservations in PostgreSQL. Every transaction takes its locks in one
// order, so that none waits in a circle: idempotency key, reservation, stock by SKU. What many wait for,
// the stock of an article in demand, it takes last, with the statement that changes it.
package store

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/slipwayhq/slipway/platform/fault"
	"github.com/slipwayhq/slipway/platform/postgres"
	"github.com/slipwayhq/slipway/platform/saga/barrier"
	"github.com/slipwayhq/slipway/reference/inventory/adapter/store/sqlc"
	"github.com/slipwayhq/slipway/reference/inventory/domain"
)

// Reservations implements the ports Reserver and Updater of the use cases. It is safe for concurrent
// use.
type Reservations struct {
	inTx func(ctx context.Context, fn func(tx pgx.Tx) error) error
	gate *gate
}

// NewReservations returns the reservations in the database of pool, whose tables are those of the
// migrations and of the barrier.
func NewReservations(pool *pgxpool.Pool) *Reservations {
	return &Reservations{gate: newGate(), inTx: func(ctx context.Context, fn func(tx pgx.Tx) error) error {
		return postgres.InTx(ctx, pool, postgres.TxOptions{}, fn)
	}}
}

// In returns the reservations as a transaction sees them, which stays the caller's to end. An error
// means that it must be rolled back.
func (s *Reservations) In(tx pgx.Tx) *Reservations {
	return &Reservations{gate: s.gate, inTx: func(_ context.Context, fn func(tx pgx.Tx) error) error { return fn(tx) }}
}

// Reserve implements the port Reserver. One of two calls with the same key waits for the other at the
// barrier, and then finds the other's reservation.
func (s *Reservations) Reserve(ctx context.Context, r *domain.Reservation) (held domain.Snapshot, err error) {
	held = r.Snapshot()
	row, err := insertRow(held)
	if err != nil {
		return domain.Snapshot{}, err
	}
	leave, err := s.gate.enter(ctx, held.Lines)
	if err != nil {
		return domain.Snapshot{}, err
	}
	defer leave()
	err = s.inTx(ctx, func(tx pgx.Tx) error {
		if _, err := barrier.Act(ctx, tx, held.Key); err != nil {
			return undone(err)
		}
		q := sqlc.New(tx)
		inserted, err := q.InsertReservation(ctx, row)
		if err != nil {
			return fmt.Errorf("insert reservation: %w", err)
		}
		if inserted > 0 {
			return move(ctx, q, held, r.DrainMovements())
		}
		held, err = one(q.LockReservationOfKey(ctx, held.Key))
		if errors.Is(err, domain.ErrNotFound) {
			return domain.ErrOrderHasReservation
		}
		return err
	})
	if err != nil {
		return domain.Snapshot{}, classified(err)
	}
	return held, nil
}

// Undo implements the port Reserver.
func (s *Reservations) Undo(
	ctx context.Context, key string, change func(*domain.Reservation) error,
) (undone domain.Snapshot, found bool, err error) {
	err = s.inTx(ctx, func(tx pgx.Tx) error {
		if _, err := barrier.Undo(ctx, tx, key); err != nil {
			return fmt.Errorf("undo idempotency key: %w", err)
		}
		q := sqlc.New(tx)
		loaded, err := one(q.LockReservationOfKey(ctx, key))
		if errors.Is(err, domain.ErrNotFound) {
			return nil
		}
		if err != nil {
			return err
		}
		found = true
		undone, err = apply(ctx, q, loaded, change)
		return err
	})
	if err != nil {
		return domain.Snapshot{}, false, classified(err)
	}
	return undone, found, nil
}

// UpdateOfOrder implements the port Updater. Callers for the same order wait for each other.
func (s *Reservations) UpdateOfOrder(
	ctx context.Context, orderID string, change func(*domain.Reservation) error,
) (updated domain.Snapshot, err error) {
	parsed, err := uuid.Parse(orderID)
	if err != nil {
		return domain.Snapshot{}, domain.ErrNotFound
	}
	err = s.inTx(ctx, func(tx pgx.Tx) error {
		q := sqlc.New(tx)
		row, err := q.LockReservationOfOrder(ctx, parsed)
		loaded, err := one(sqlc.LockReservationOfKeyRow(row), err)
		if err != nil {
			return err
		}
		updated, err = apply(ctx, q, loaded, change)
		return err
	})
	if err != nil {
		return domain.Snapshot{}, classified(err)
	}
	return updated, nil
}

// apply changes a reservation that is locked, and stores it unless nothing has changed.
func apply(
	ctx context.Context, q *sqlc.Queries, loaded domain.Snapshot, change func(*domain.Reservation) error,
) (domain.Snapshot, error) {
	r := domain.Rehydrate(loaded)
	if err := change(r); err != nil {
		return domain.Snapshot{}, err
	}
	changed := r.Snapshot()
	if changed.Version == loaded.Version {
		return changed, nil
	}
	err := q.UpdateReservation(ctx, sqlc.UpdateReservationParams{
		ID: uuid.MustParse(loaded.ID), Status: string(changed.Status), Version: changed.Version, UpdatedAt: changed.UpdatedAt,
	})
	if err != nil {
		return domain.Snapshot{}, fmt.Errorf("update reservation: %w", err)
	}
	return changed, move(ctx, q, changed, r.DrainMovements())
}

// move is what domain.Stock.Move does to one article, for all that a reservation moves.
func move(ctx context.Context, q *sqlc.Queries, s domain.Snapshot, movements []domain.Movement) error {
	row := moveRow(s, movements)
	moved, err := q.MoveStock(ctx, row)
	if err != nil {
		return fmt.Errorf("move stock: %w", err)
	}
	short := slices.DeleteFunc(row.Skus, func(sku string) bool { return slices.Contains(moved, sku) })
	if len(short) > 0 {
		return &domain.ShortageError{SKUs: short}
	}
	return nil
}

func one(row sqlc.LockReservationOfKeyRow, err error) (domain.Snapshot, error) {
	if errors.Is(err, pgx.ErrNoRows) {
		return domain.Snapshot{}, domain.ErrNotFound
	}
	if err != nil {
		return domain.Snapshot{}, fmt.Errorf("read reservation: %w", err)
	}
	return snapshot(row), nil
}

func undone(err error) error {
	if errors.Is(err, barrier.ErrUndone) {
		return domain.ErrReleased
	}
	return fmt.Errorf("use idempotency key: %w", err)
}

// lockTimeout is the SQLSTATE of a statement that has waited for too long.
const lockTimeout = "55P03"

// classified tells callers to try again when the database is away, and when too many want the same
// article. Every call may be repeated.
func classified(err error) error {
	switch {
	case postgres.IsUnavailable(err):
		return fault.Wrap(err, fault.Unavailable, "the stock cannot be reached at the moment")
	case postgres.SQLState(err) == lockTimeout:
		return &fault.Error{
			Code: fault.ResourceExhausted, Reason: "STOCK_BUSY", Cause: err,
			Message: "too many want the same article at the moment: try again",
		}
	default:
		return err
	}
}
