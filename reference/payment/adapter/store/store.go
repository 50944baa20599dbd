// Package store keeps payments in PostgreSQL, and hands out those that are not settled. What depends
// on time does so by the clock of the database.
package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/slipwayhq/slipway/platform/fault"
	"github.com/slipwayhq/slipway/platform/postgres"
	"github.com/slipwayhq/slipway/platform/saga/barrier"
	"github.com/slipwayhq/slipway/reference/payment/adapter/store/sqlc"
	"github.com/slipwayhq/slipway/reference/payment/domain"
	"github.com/slipwayhq/slipway/reference/payment/usecase"
)

// Payments implements the ports Opener, Updater, Reader and Claimer of the use cases. It is safe for
// concurrent use.
type Payments struct {
	inTx    func(ctx context.Context, fn func(tx pgx.Tx) error) error
	queries *sqlc.Queries
	// rest is for how long a payment that waits is left to its caller.
	rest time.Duration
}

// New returns the payments in the database of pool, whose tables are those of the migrations and of
// the barrier. One that waits for the provider is left to the caller for rest before it is handed out.
func New(pool *pgxpool.Pool, rest time.Duration) *Payments {
	return &Payments{
		queries: sqlc.New(pool), rest: rest,
		inTx: func(ctx context.Context, fn func(tx pgx.Tx) error) error {
			return postgres.InTx(ctx, pool, postgres.TxOptions{}, fn)
		},
	}
}

// In returns the payments as a transaction sees them, which stays the caller's to end. What waits for
// the provider is handed out at once: nobody else goes on with it. An error means that the
// transaction must be rolled back, but for domain errors.
func (s *Payments) In(tx pgx.Tx) *Payments {
	return &Payments{
		queries: s.queries.WithTx(tx),
		inTx:    func(_ context.Context, fn func(tx pgx.Tx) error) error { return fn(tx) },
	}
}

// Open implements the port Opener. One of two calls with the same key waits for the other at the
// barrier, and then finds the other's payment.
func (s *Payments) Open(ctx context.Context, p *domain.Payment) (stored domain.Snapshot, fresh bool, err error) {
	stored = p.Snapshot()
	row, err := insertRow(stored, s.rest)
	if err != nil {
		return domain.Snapshot{}, false, err
	}
	err = s.inTx(ctx, func(tx pgx.Tx) error {
		q := s.queries.WithTx(tx)
		if _, err := barrier.Act(ctx, tx, stored.Key); err != nil {
			return undone(err)
		}
		inserted, err := q.InsertPayment(ctx, row)
		if err != nil {
			return fmt.Errorf("insert payment: %w", err)
		}
		if fresh = inserted == 1; fresh {
			return nil
		}
		stored, err = one(q.GetPaymentOfKey(ctx, stored.Key))
		if errors.Is(err, domain.ErrNotFound) {
			return domain.ErrOrderHasPayment
		}
		return err
	})
	if err != nil {
		return domain.Snapshot{}, false, classified(err)
	}
	return stored, fresh, nil
}

// Undo implements the port Opener.
func (s *Payments) Undo(ctx context.Context, key string, change func(*domain.Payment) error) (undone domain.Snapshot, found bool, err error) {
	err = s.inTx(ctx, func(tx pgx.Tx) error {
		if _, err := barrier.Undo(ctx, tx, key); err != nil {
			return fmt.Errorf("undo idempotency key: %w", err)
		}
		q := s.queries.WithTx(tx)
		loaded, err := one(q.GetPaymentOfKey(ctx, key))
		if errors.Is(err, domain.ErrNotFound) {
			return nil
		}
		if err != nil {
			return err
		}
		found = true
		undone, err = s.apply(ctx, q, loaded, change)
		return err
	})
	if err != nil {
		return domain.Snapshot{}, false, classified(err)
	}
	return undone, found, nil
}

// Update implements the port Updater, under an optimistic lock: nobody waits for a row, and the second
// of two concurrent changes fails with domain.ErrVersionConflict.
func (s *Payments) Update(ctx context.Context, id string, change func(*domain.Payment) error) (domain.Snapshot, error) {
	parsed, err := uuid.Parse(id)
	if err != nil {
		return domain.Snapshot{}, domain.ErrNotFound
	}
	return s.update(ctx, change, func(q *sqlc.Queries) (sqlc.Payment, error) { return q.GetPayment(ctx, parsed) })
}

// UpdateOfOrder implements the port Updater.
func (s *Payments) UpdateOfOrder(ctx context.Context, orderID string, change func(*domain.Payment) error) (domain.Snapshot, error) {
	parsed, err := uuid.Parse(orderID)
	if err != nil {
		return domain.Snapshot{}, domain.ErrNotFound
	}
	return s.update(ctx, change, func(q *sqlc.Queries) (sqlc.Payment, error) { return q.GetPaymentOfOrder(ctx, parsed) })
}

// OfOrder implements the port Reader.
func (s *Payments) OfOrder(ctx context.Context, orderID string) (domain.Snapshot, error) {
	parsed, err := uuid.Parse(orderID)
	if err != nil {
		return domain.Snapshot{}, domain.ErrNotFound
	}
	found, err := one(s.queries.GetPaymentOfOrder(ctx, parsed))
	return found, classified(err)
}

// Claim implements the port Claimer. Replicas that claim at the same time get different payments. What
// was claimed by one that died is handed out again after the pause.
func (s *Payments) Claim(ctx context.Context, c usecase.Claim) ([]usecase.Claimed, error) {
	rows, err := s.queries.ClaimPayments(ctx, sqlc.ClaimPaymentsParams{
		Pause: c.Pause, LongestPause: c.LongestPause, Watch: c.Watch, MaxRows: int32(c.Limit),
	})
	if err != nil {
		return nil, fmt.Errorf("claim payments: %w", err)
	}
	claimed := make([]usecase.Claimed, len(rows))
	for i, row := range rows {
		claimed[i] = usecase.Claimed{Snapshot: claimedSnapshot(row), Watched: row.Watched}
	}
	return claimed, nil
}

func (s *Payments) update(
	ctx context.Context, change func(*domain.Payment) error, load func(*sqlc.Queries) (sqlc.Payment, error),
) (updated domain.Snapshot, err error) {
	err = s.inTx(ctx, func(tx pgx.Tx) error {
		q := s.queries.WithTx(tx)
		loaded, err := one(load(q))
		if err != nil {
			return err
		}
		updated, err = s.apply(ctx, q, loaded, change)
		return err
	})
	if err != nil {
		return domain.Snapshot{}, classified(err)
	}
	return updated, nil
}

// apply changes a payment that was loaded, and stores it unless nothing has changed.
func (s *Payments) apply(ctx context.Context, q *sqlc.Queries, loaded domain.Snapshot, change func(*domain.Payment) error) (domain.Snapshot, error) {
	p := domain.Rehydrate(loaded)
	if err := change(p); err != nil {
		return domain.Snapshot{}, err
	}
	changed := p.Snapshot()
	if changed.Version == loaded.Version {
		return changed, nil
	}
	rows, err := q.UpdatePayment(ctx, updateRow(loaded, changed, s.rest))
	if err != nil {
		return domain.Snapshot{}, fmt.Errorf("update payment: %w", err)
	}
	if rows == 0 {
		return domain.Snapshot{}, domain.ErrVersionConflict
	}
	return changed, nil
}

func one(row sqlc.Payment, err error) (domain.Snapshot, error) {
	if errors.Is(err, pgx.ErrNoRows) {
		return domain.Snapshot{}, domain.ErrNotFound
	}
	if err != nil {
		return domain.Snapshot{}, fmt.Errorf("read payment: %w", err)
	}
	return snapshot(row), nil
}

func undone(err error) error {
	if errors.Is(err, barrier.ErrUndone) {
		return domain.ErrVoided
	}
	return fmt.Errorf("use idempotency key: %w", err)
}

// classified tells callers of a database that is away to try again. Every call may be repeated.
func classified(err error) error {
	if postgres.IsUnavailable(err) {
		return fault.Wrap(err, fault.Unavailable, "payments cannot be reached at the moment")
	}
	return err
}
