package inbox

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"go.opentelemetry.io/otel/trace"
	"go.uber.org/zap"

	"github.com/slipwayhq/slipway/platform/postgres"
)

const insertEarly = `INSERT INTO slipway.inbox_early (consumer, key, version, message_id, subject, headers, payload)
VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT DO NOTHING`

// keepEarly stores an event until the one before it has been applied. The caller
// holds the lock of the watermark.
func (c *Consumer) keepEarly(ctx context.Context, tx pgx.Tx, l letter) error {
	_, err := tx.Exec(ctx, insertEarly, c.cfg.Name, l.Key, l.version, l.id, storable(l.Subject, maxKey), l.headers, l.payload())
	if err != nil {
		return fmt.Errorf("store early event: %w", err)
	}
	return nil
}

// drainAtOnce bounds how many waiting events the worker applies that has closed
// the gap; the loop goes on with the rest.
const drainAtOnce = 100

// drain applies the events of the key that wait and may go on, in order, each in a
// transaction of its own: one that fails must not undo those before it.
func (c *Consumer) drain(ctx context.Context, key string) {
	for range drainAtOnce {
		more, err := c.applyWaiting(ctx, key)
		if err != nil {
			c.logger.Warn("cannot apply waiting event", zap.String("key", key), zap.Error(err))
		}
		if err != nil || !more {
			return
		}
	}
}

// applyWaiting applies the next event of the key, if it waits and its time has
// come. more tells whether it did. An error means that the database is of no help.
func (c *Consumer) applyWaiting(ctx context.Context, key string) (more bool, err error) {
	var l letter
	var attempts int
	var span trace.Span
	err = postgres.InTx(ctx, c.db, readCommitted, func(tx pgx.Tx) error {
		if l, attempts, err = c.takeWaiting(ctx, tx, key); err != nil || l.id == "" {
			return err
		}
		ctx, span = c.startSpan(ctx, l.Message)
		if _, err := advance(ctx, tx, c.position(l), false); err != nil {
			return err
		}
		return c.run(ctx, tx, l.Message)
	})
	if span == nil {
		return false, err
	}
	defer span.End()
	if err = blameCommit(err); err == nil {
		c.report(ctx, l, applied, nil)
		return true, nil
	}
	return false, c.waitingFailed(ctx, l, attempts+1, err)
}

// takeWaiting locks the watermark of the key, before anything else as everywhere,
// and takes out what comes next. Another process may have it in hand.
const takeWaiting = `WITH w AS (
    SELECT version FROM slipway.inbox_watermark WHERE consumer = $1 AND key = $2 AND NOT held FOR UPDATE SKIP LOCKED
)
DELETE FROM slipway.inbox_early e USING w
WHERE e.consumer = $1 AND e.key = $2 AND e.version = w.version + 1 AND e.ready_at <= clock_timestamp()
RETURNING e.version, e.message_id, e.subject, e.headers, e.payload, e.attempts`

func (c *Consumer) takeWaiting(ctx context.Context, tx pgx.Tx, key string) (l letter, attempts int, err error) {
	l.Key = key
	err = tx.QueryRow(ctx, takeWaiting, c.cfg.Name, key).
		Scan(&l.version, &l.id, &l.Subject, &l.headers, &l.Payload, &attempts)
	if errors.Is(err, pgx.ErrNoRows) {
		return letter{}, 0, nil
	}
	if err != nil {
		return letter{}, 0, fmt.Errorf("take waiting event: %w", err)
	}
	l.ID = l.id
	l.Message, err = unstored(l.Message, l.headers)
	return l, attempts, err
}

// waitingFailed has a waiting event tried again later, or makes it a dead letter.
func (c *Consumer) waitingFailed(ctx context.Context, l letter, attempts int, cause error) error {
	var blamed *handlerError
	if !errors.As(cause, &blamed) {
		return cause
	}
	f := failure{class: classExhausted, cause: cause, attempts: 1}
	if isPermanent(cause) {
		f.class = classPermanent
	}
	if f.class == classPermanent || attempts >= c.cfg.MaxAttempts {
		done, err := c.bury(ctx, l, f)
		if done.result == "" {
			return err
		}
		c.report(ctx, l, done.result, err)
		return nil
	}
	_, err := c.db.Exec(ctx, `UPDATE slipway.inbox_early
		SET attempts = attempts + 1, first_failed_at = coalesce(first_failed_at, clock_timestamp()), ready_at = clock_timestamp() + $4
		WHERE consumer = $1 AND key = $2 AND version = $3`, c.cfg.Name, l.Key, l.version, c.cfg.backoff(attempts))
	if err != nil {
		return fmt.Errorf("count attempt at waiting event: %w", err)
	}
	c.report(ctx, l, retried, cause)
	return nil
}
