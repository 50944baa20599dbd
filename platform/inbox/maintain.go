package inbox

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"go.uber.org/zap"

	"github.com/slipwayhq/slipway/platform/postgres"
)

// introduce counts on a mode that never changes: ids are nothing to one that knows
// versions, and the other way round.
const introduce = `INSERT INTO slipway.inbox_consumer AS c (consumer, mode, retention) VALUES ($1, $2, $3)
ON CONFLICT (consumer) DO UPDATE SET retention = $3, seen_at = clock_timestamp() WHERE c.mode = $2
RETURNING current_setting('synchronous_commit') <> 'off'`

// register makes the consumer known, as soon as the database is there.
func (c *Consumer) register(ctx context.Context) error {
	for attempt := 1; ; attempt++ {
		var durable bool
		err := c.db.QueryRow(ctx, introduce, c.cfg.Name, string(c.cfg.Mode), c.cfg.Retention).Scan(&durable)
		switch {
		case err == nil && !durable:
			c.logger.Warn("synchronous_commit is off: a crash of the database loses what is acknowledged already")
			return nil
		case err == nil:
			return nil
		case errors.Is(err, pgx.ErrNoRows):
			return fmt.Errorf("register consumer %s: it has not been %s before, take another name", c.cfg.Name, c.cfg.Mode)
		case ctx.Err() != nil:
			return nil //nolint:nilerr // the end of ctx is the end of Run, not a fault
		case !postgres.IsUnavailable(err):
			return fmt.Errorf("register consumer %s: %w", c.cfg.Name, missing(err))
		}
		c.logger.Warn("waiting for the database", zap.Error(err))
		timer := time.NewTimer(c.cfg.backoff(attempt))
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return nil
		}
	}
}

// maintain does one round. What fails is tried in the next one.
func (c *Consumer) maintain(ctx context.Context) {
	_, err := c.db.Exec(ctx, introduce, c.cfg.Name, string(c.cfg.Mode), c.cfg.Retention)
	err = errors.Join(err, Maintain(ctx, c.db, c.cfg.Retention), c.measure(ctx))
	if err != nil && ctx.Err() == nil {
		c.logger.Warn("cannot maintain inbox", zap.Error(err))
	}
}

// measure sets the gauges.
func (c *Consumer) measure(ctx context.Context) error {
	var letters, waiting, age float64
	err := c.db.QueryRow(ctx, `SELECT
		(SELECT count(*) FROM slipway.inbox_dead WHERE consumer = $1 AND resolved_at IS NULL)::float8, count(*)::float8,
		coalesce(extract(epoch FROM clock_timestamp() - min(received_at)), 0)::float8
		FROM slipway.inbox_early WHERE consumer = $1`, c.cfg.Name).Scan(&letters, &waiting, &age)
	if err != nil {
		return fmt.Errorf("count dead letters and waiting events: %w", err)
	}
	c.metrics.deadLetters.Set(letters)
	c.metrics.earlyCount.Set(waiting)
	c.metrics.earlyAge.Set(age)
	return nil
}

// moveHorizon keeps the longest retention of all consumers that are still there.
const moveHorizon = `UPDATE slipway.inbox_horizon SET oldest = new.oldest FROM (
    SELECT ((clock_timestamp() - greatest($1::interval, max(retention))) AT TIME ZONE 'UTC')::date AS oldest
    FROM slipway.inbox_consumer WHERE seen_at > clock_timestamp() - retention - interval '1 day'
) new WHERE inbox_horizon.oldest < new.oldest`

// Maintain makes the partitions of the coming days and removes what is older than
// the retention, or than the longest one of a Consumer on the database. Consumers
// call it by themselves: it is for those who use Once alone, every minute or so.
// It never waits for a lock that it needs for itself alone longer than a moment;
// what it does not get it leaves to the next call. Any number may run at once. The
// role needs to own the tables.
func Maintain(ctx context.Context, db *pgxpool.Pool, retention time.Duration) error {
	if _, err := db.Exec(ctx, moveHorizon, retention); err != nil {
		return fmt.Errorf("move horizon of inbox: %w", err)
	}
	return errors.Join(addPartitions(ctx, db), dropPartitions(ctx, db), trim(ctx, db))
}

const (
	trimBatch   = 1000
	trimBatches = 50
)

// trim removes the old rows of what is not dropped whole, in small transactions.
func trim(ctx context.Context, db *pgxpool.Pool) error {
	const horizon = "(SELECT oldest::timestamp AT TIME ZONE 'UTC' FROM slipway.inbox_horizon)"
	var errs []error
	for _, t := range [][2]string{
		{"inbox_other", "received_at < " + horizon},
		{"inbox_default", "day < (SELECT oldest FROM slipway.inbox_horizon) OR day > current_date + 2 AND received_at < " + horizon},
		{"inbox_attempt", "last_at < " + horizon},
		{"inbox_dead", "resolved_at < " + horizon},
	} {
		sql := fmt.Sprintf("DELETE FROM slipway.%[1]s WHERE ctid = ANY (ARRAY (SELECT ctid FROM slipway.%[1]s WHERE %[2]s LIMIT %[3]d))",
			t[0], t[1], trimBatch)
		for range trimBatches {
			tag, err := db.Exec(ctx, sql)
			if err != nil {
				errs = append(errs, fmt.Errorf("remove old rows of %s: %w", t[0], err))
			}
			if tag.RowsAffected() < trimBatch {
				break
			}
		}
	}
	return errors.Join(errs...)
}
