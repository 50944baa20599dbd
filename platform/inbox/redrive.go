package inbox

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"
	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"github.com/slipwayhq/slipway/platform/postgres"
)

const (
	// pickUpAtOnce bounds what one look finds; the next look goes on.
	pickUpAtOnce = 100
	// pickUpWorkers is how many of that are in hand at once.
	pickUpWorkers = 4
)

// pickUp applies what does not come from the broker: dead letters that an operator
// wants tried again, and events whose turn has come.
func (c *Consumer) pickUp(ctx context.Context) {
	for ctx.Err() == nil {
		found, err := c.pickUpSome(ctx)
		if err != nil && ctx.Err() == nil {
			c.logger.Warn("cannot look for waiting messages", zap.Error(err))
		}
		if err != nil || found < pickUpAtOnce {
			return
		}
	}
}

// candidate is a dead letter, or with a zero id the events that wait for a key.
type candidate struct {
	ID      int64
	Key     string
	Version int64
}

const (
	findRedrives = `SELECT id, key, coalesce(version, 0) FROM slipway.inbox_dead
WHERE consumer = $1 AND redrive_requested_at IS NOT NULL AND resolved_at IS NULL ORDER BY id LIMIT 100`
	findWaiting = `SELECT 0::bigint, key, version FROM slipway.inbox_early
WHERE consumer = $1 AND ready_at <= clock_timestamp() ORDER BY ready_at LIMIT 100`
)

// pickUpSome returns how much it has found. What another process has in hand it
// skips. Once begun, a message is finished although ctx ends.
func (c *Consumer) pickUpSome(ctx context.Context) (int, error) {
	most := 0
	for _, query := range []string{findRedrives, findWaiting} {
		rows, err := c.db.Query(ctx, query, c.cfg.Name)
		if err != nil {
			return 0, err
		}
		found, err := pgx.CollectRows(rows, pgx.RowToStructByPos[candidate])
		if err != nil {
			return 0, err
		}
		most = max(most, len(found))
		work := context.WithoutCancel(ctx)
		group := errgroup.Group{}
		group.SetLimit(pickUpWorkers)
		for _, f := range found {
			if ctx.Err() != nil {
				break
			}
			group.Go(func() error { return c.pickUpOne(work, f) })
		}
		if err := group.Wait(); err != nil {
			return 0, err
		}
	}
	return most, nil
}

func (c *Consumer) pickUpOne(ctx context.Context, f candidate) error {
	if f.ID != 0 {
		if done, err := c.redrive(ctx, f); err != nil || !done || f.Version == 0 {
			return err
		}
	}
	c.drain(ctx, f.Key)
	return nil
}

const (
	takeDead = `SELECT message_id, subject, headers, payload FROM slipway.inbox_dead
WHERE id = $1 AND redrive_requested_at IS NOT NULL AND resolved_at IS NULL FOR UPDATE SKIP LOCKED`

	resolveDead = `UPDATE slipway.inbox_dead SET resolved_at = clock_timestamp(), resolution = $2, redrive_requested_at = NULL
WHERE id = $1`

	redriveFailed = `UPDATE slipway.inbox_dead
SET redrive_requested_at = NULL, attempts = attempts + 1, last_at = clock_timestamp(), error = $2
WHERE id = $1 AND resolved_at IS NULL`
)

// errNotMine rolls back what was prepared for a dead letter that another process
// has in hand.
var errNotMine = errors.New("dead letter is in other hands")

// redrive tries a dead letter once more. Its mark stands already: the row of the
// dead letter is the lock, and with the row the request goes. One that fails waits
// for the operator again, with the new error.
func (c *Consumer) redrive(ctx context.Context, f candidate) (done bool, err error) {
	var l letter
	var span trace.Span
	err = postgres.InTx(ctx, c.db, readCommitted, func(tx pgx.Tx) error {
		if l, err = c.takeDead(ctx, tx, f); err != nil || l.id == "" {
			return err
		}
		ctx, span = c.startSpan(ctx, l.Message)
		if _, err := tx.Exec(ctx, resolveDead, f.ID, "redriven"); err != nil {
			return err
		}
		return c.run(ctx, tx, l.Message)
	})
	if errors.Is(err, errNotMine) {
		return false, nil
	}
	if span == nil {
		return false, err
	}
	defer span.End()
	if err = blameCommit(err); err == nil {
		c.report(ctx, l, applied, nil)
		return true, nil
	}
	var blamed *handlerError
	if !errors.As(err, &blamed) {
		return false, err
	}
	span.RecordError(err)
	span.SetStatus(codes.Error, "redrive failed")
	c.log(ctx, l.Message).Error("redrive of dead letter failed", zap.Int64("dead_letter", f.ID), zap.Error(err))
	if _, err := c.db.Exec(ctx, redriveFailed, f.ID, storable(err.Error(), maxError)); err != nil {
		return false, fmt.Errorf("store outcome of redrive: %w", err)
	}
	return false, nil
}

// takeDead locks the dead letter and lets its key go on after it. Without an id
// there is nothing to do, or another process does it.
func (c *Consumer) takeDead(ctx context.Context, tx pgx.Tx, f candidate) (l letter, err error) {
	if f.Version != 0 {
		if ok, err := release(ctx, tx, position{c.cfg.Name, f.Key, f.Version}, "SKIP LOCKED"); err != nil || !ok {
			return letter{}, err
		}
	}
	l.Key, l.version = f.Key, f.Version
	err = tx.QueryRow(ctx, takeDead, f.ID).Scan(&l.id, &l.Subject, &l.headers, &l.Payload)
	if errors.Is(err, pgx.ErrNoRows) {
		return letter{}, errNotMine
	}
	if err != nil {
		return letter{}, fmt.Errorf("take dead letter: %w", err)
	}
	l.ID = l.id
	l.Message, err = unstored(l.Message, l.headers)
	return l, err
}

// release moves the watermark over the dead letter that holds the key and sets
// free what waits for it. It tells whether the dead letter did hold the key; wait
// is how to treat a lock, empty or SKIP LOCKED.
func release(ctx context.Context, tx pgx.Tx, at position, wait string) (bool, error) {
	version, held, err := lockWatermark(ctx, tx, at, wait)
	if errors.Is(err, pgx.ErrNoRows) {
		return false, nil
	}
	if err != nil || !held || version != at.version-1 {
		return false, err
	}
	_, err = moveWatermark(ctx, tx, at)
	return err == nil, err
}

// lockWatermark locks the key's and returns it. Its error is pgx.ErrNoRows when
// there is none, or it is in other hands and wait is SKIP LOCKED.
func lockWatermark(ctx context.Context, tx pgx.Tx, at position, wait string) (version int64, held bool, err error) {
	err = tx.QueryRow(ctx, "SELECT version, held FROM slipway.inbox_watermark WHERE consumer = $1 AND key = $2 FOR UPDATE "+wait,
		at.consumer, at.key).Scan(&version, &held)
	if err != nil {
		return 0, false, fmt.Errorf("lock inbox watermark: %w", err)
	}
	return version, held, nil
}

// moveWatermark settles all up to the version and tells whether the following one
// waited: it is free now. The caller holds the lock.
func moveWatermark(ctx context.Context, tx pgx.Tx, at position) (next bool, err error) {
	batch := &pgx.Batch{}
	batch.Queue("UPDATE slipway.inbox_watermark SET version = $3, held = false WHERE consumer = $1 AND key = $2",
		at.consumer, at.key, at.version)
	batch.Queue(wakeNext, at.consumer, at.key, at.version).Exec(func(tag pgconn.CommandTag) error {
		next = tag.RowsAffected() > 0
		return nil
	})
	if err := tx.SendBatch(ctx, batch).Close(); err != nil {
		return false, fmt.Errorf("move inbox watermark: %w", err)
	}
	return next, nil
}
