package inbox

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/slipwayhq/slipway/platform/postgres"
)

// failure is why a message becomes a dead letter. attempts are those that are not
// counted in a table yet.
type failure struct {
	class    string
	cause    error
	attempts int
}

const countAttempt = `INSERT INTO slipway.inbox_attempt AS a (consumer, message_id, attempts) VALUES ($1, $2, 1)
ON CONFLICT (consumer, message_id) DO UPDATE SET attempts = a.attempts + 1, last_at = clock_timestamp()
RETURNING attempts`

// failed counts an attempt in the database: an attempt that fails because that is
// away cannot be counted.
func (c *Consumer) failed(ctx context.Context, l letter, cause error) (decision, error) {
	var attempts int
	if err := c.db.QueryRow(ctx, countAttempt, c.cfg.Name, l.id).Scan(&attempts); err != nil {
		return decision{}, errors.Join(fmt.Errorf("count attempt: %w", err), cause)
	}
	if attempts >= c.cfg.MaxAttempts {
		return c.bury(ctx, l, failure{class: classExhausted, cause: cause})
	}
	return decision{result: retried, delay: c.cfg.backoff(attempts)}, cause
}

// bury stores the message as a dead letter, in a transaction of its own that also
// marks it as settled: when it comes again it is a duplicate.
func (c *Consumer) bury(ctx context.Context, l letter, f failure) (decision, error) {
	done := duplicate
	err := postgres.InTx(ctx, c.db, readCommitted, func(tx pgx.Tx) error {
		open, err := c.settleDead(ctx, tx, l, f.class)
		if err != nil || !open {
			return err
		}
		inserted, err := c.insertDead(ctx, tx, l, f)
		if inserted {
			done = dead
		}
		return err
	})
	if err != nil {
		return decision{}, errors.Join(fmt.Errorf("store dead letter: %w", err), f.cause)
	}
	if done == duplicate {
		return decision{result: duplicate}, nil
	}
	return decision{result: dead}, f.cause
}

// holdBack makes the later events of the key wait for the version.
const holdBack = `INSERT INTO slipway.inbox_watermark AS w (consumer, key, version, held) VALUES ($1, $2, $3::bigint - 1, true)
ON CONFLICT (consumer, key) DO UPDATE SET held = true WHERE w.version = $3::bigint - 1 AND NOT w.held`

// settleDead marks the message as settled and tells whether it was open until now:
// another process may have applied it meanwhile. What has no mark is open.
func (c *Consumer) settleDead(ctx context.Context, tx pgx.Tx, l letter, class string) (bool, error) {
	switch {
	case class == classMalformed, class == classTooOld:
		return true, nil
	case c.cfg.Mode == ByVersion:
		tag, err := tx.Exec(ctx, holdBack, c.cfg.Name, l.Key, l.version)
		return tag.RowsAffected() > 0, err
	default:
		fresh, err := mark(ctx, tx, c.cfg.Name, l.id)
		if errors.Is(err, ErrTooOld) {
			return true, nil
		}
		return fresh, err
	}
}

const insertDead = `WITH tried AS (
    DELETE FROM slipway.inbox_attempt WHERE consumer = $1 AND message_id = $2 RETURNING attempts, first_at
), waited AS (
    DELETE FROM slipway.inbox_early WHERE consumer = $1 AND key = $3 AND version = $4 RETURNING attempts, first_failed_at
), past AS (
    SELECT * FROM tried UNION ALL SELECT * FROM waited
)
INSERT INTO slipway.inbox_dead (consumer, message_id, key, version, subject, headers, payload, class, error, attempts, first_at)
SELECT $1, $2, $3, $4, $5, $6, $7, $8, $9, (SELECT coalesce(sum(attempts), 0) FROM past) + $10,
    coalesce((SELECT min(first_at) FROM past), clock_timestamp())
ON CONFLICT ON CONSTRAINT inbox_dead_message DO NOTHING`

func (c *Consumer) insertDead(ctx context.Context, tx pgx.Tx, l letter, f failure) (bool, error) {
	tag, err := tx.Exec(ctx, insertDead, c.cfg.Name, l.id, storable(l.Key, maxKey), nullable(l.version),
		storable(l.Subject, maxKey), l.headers, l.payload(), f.class, storable(f.cause.Error(), maxError), f.attempts)
	return tag.RowsAffected() > 0, err
}

func nullable(version int64) *int64 {
	if version == 0 {
		return nil
	}
	return &version
}
