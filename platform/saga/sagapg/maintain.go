package sagapg

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"go.uber.org/zap"

	"github.com/slipwayhq/slipway/platform/postgres"
)

// partitioned are the tables with a partition a day, and the column that the day is of.
var partitioned = []struct{ table, column string }{
	{"saga_finished", "finished_at"},
	{"saga_journal", "at"},
}

// maintain looks after partitions, retention and dead workers until ctx ends. A failure is
// logged and tried again the next time: nothing depends on the hour.
func (r *Runner) maintain(ctx context.Context) {
	for ctx.Err() == nil {
		wait(ctx, r.cfg.Maintenance)
		if err := r.upkeep(ctx); err != nil && ctx.Err() == nil {
			r.logger.Warn("upkeep of sagas is incomplete", zap.Error(err))
		}
	}
}

func (r *Runner) upkeep(ctx context.Context) error {
	var errs []error
	for _, p := range partitioned {
		errs = append(errs, r.addPartitions(ctx, p.table), r.dropPartitions(ctx, p.table), r.deleteOld(ctx, p.table+"_default", p.column))
	}
	return errors.Join(append(errs, r.dropSignals(ctx), r.bury(ctx), r.free(ctx))...)
}

const missingDays = `SELECT to_char(day, 'YYYYMMDD'), to_char(day, 'YYYY-MM-DD') || ' 00:00+00', to_char(day + interval '1 day', 'YYYY-MM-DD') || ' 00:00+00'
FROM generate_series(date_trunc('day', ` + now + ` AT TIME ZONE 'UTC'), date_trunc('day', ` + now + ` AT TIME ZONE 'UTC') + interval '2 days', interval '1 day') day
WHERE to_regclass('slipway.' || $1 || '_d' || to_char(day, 'YYYYMMDD')) IS NULL`

// addPartitions attaches tables that it has made apart: that takes no lock that an insert
// needs, but for a moment one of the default partition, which is all but empty. A day that
// has rows there stays there.
func (r *Runner) addPartitions(ctx context.Context, table string) error {
	rows, err := r.db.Query(ctx, missingDays, table)
	if err != nil {
		return fmt.Errorf("list missing partitions: %w", err)
	}
	days, err := pgx.CollectRows(rows, pgx.RowToStructByPos[struct{ Name, From, To string }])
	if err != nil {
		return fmt.Errorf("list missing partitions: %w", err)
	}
	var errs []error
	for _, d := range days {
		err := r.change(ctx,
			fmt.Sprintf("CREATE TABLE slipway.%[1]s_d%[2]s (LIKE slipway.%[1]s INCLUDING ALL) WITH (autovacuum_vacuum_insert_threshold = -1)", table, d.Name),
			fmt.Sprintf("ALTER TABLE slipway.%[1]s ATTACH PARTITION slipway.%[1]s_d%[2]s FOR VALUES FROM ('%[3]s') TO ('%[4]s')", table, d.Name, d.From, d.To))
		if err != nil {
			errs = append(errs, fmt.Errorf("add partition %s of %s: %w", d.Name, table, err))
		}
	}
	return errors.Join(errs...)
}

const oldPartitions = `SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
WHERE i.inhparent = ('slipway.' || $1)::regclass AND c.relname ~ '_d\d{8}$'
    AND to_date(right(c.relname, 8), 'YYYYMMDD') + 1 < ((` + now + ` - $2::interval) AT TIME ZONE 'UTC')::date ORDER BY 1`

func (r *Runner) dropPartitions(ctx context.Context, table string) error {
	rows, err := r.db.Query(ctx, oldPartitions, table, r.cfg.Retention)
	if err != nil {
		return fmt.Errorf("list old partitions: %w", err)
	}
	old, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return fmt.Errorf("list old partitions: %w", err)
	}
	var errs []error
	for _, name := range old {
		errs = append(errs, r.change(ctx,
			"LOCK TABLE ONLY slipway."+table+" IN ACCESS EXCLUSIVE MODE",
			"LOCK TABLE slipway."+table+"_default, slipway."+name+" IN ACCESS EXCLUSIVE MODE NOWAIT",
			"DROP TABLE slipway."+name))
	}
	return errors.Join(errs...)
}

// deleteOld removes rows that are in no partition of a day, a few at a time.
func (r *Runner) deleteOld(ctx context.Context, table, column string) error {
	_, err := r.db.Exec(ctx, fmt.Sprintf(`DELETE FROM slipway.%[1]s WHERE ctid = ANY (ARRAY(
		SELECT ctid FROM slipway.%[1]s WHERE %[2]s < %[3]s - $1::interval LIMIT 10000))`, table, column, now), r.cfg.Retention)
	if err != nil {
		return fmt.Errorf("delete old rows of %s: %w", table, err)
	}
	return nil
}

// dropSignals removes signals that came too late or too early for their saga. Each claim
// looks at all that are there.
func (r *Runner) dropSignals(ctx context.Context) error {
	_, err := r.db.Exec(ctx, `DELETE FROM slipway.saga_signal WHERE ctid = ANY (ARRAY(
		SELECT g.ctid FROM slipway.saga_signal g WHERE g.at < clock_timestamp() - $1::interval
			AND NOT EXISTS (SELECT FROM slipway.saga s WHERE s.id = g.saga_id) LIMIT 10000))`, strayFor)
	if err != nil {
		return fmt.Errorf("drop signals of no saga: %w", err)
	}
	return nil
}

// strayFor is how long a signal is kept without a saga.
const strayFor = time.Hour

// bury forgets dead workers that have no sagas any more. One whose sagas nobody here can
// run stays, so that others find them.
func (r *Runner) bury(ctx context.Context) error {
	_, err := r.db.Exec(ctx, `DELETE FROM slipway.saga_worker w WHERE ended_at < clock_timestamp() - interval '1 minute'
		AND NOT EXISTS (SELECT FROM slipway.saga s WHERE s.owner = w.id)`)
	if err != nil {
		return fmt.Errorf("forget ended saga workers: %w", err)
	}
	return nil
}

// free takes sagas from workers that are forgotten. A process that was frozen for so long may
// still have stored one as its own before it noticed.
func (r *Runner) free(ctx context.Context) error {
	_, err := r.db.Exec(ctx, `UPDATE slipway.saga s SET owner = NULL, claims = claims + 1, next_run_at = `+now+`
		WHERE s.owner IS NOT NULL AND NOT EXISTS (SELECT FROM slipway.saga_worker w WHERE w.id = s.owner)`)
	if err != nil {
		return fmt.Errorf("free sagas of forgotten workers: %w", err)
	}
	return nil
}

// What a change of partitions may meet: it is tried again later.
const (
	codeLockNotAvailable = "55P03"
	codeDuplicateTable   = "42P07"
	codeCheckViolation   = "23514" // the default partition has rows of the day
)

const takeTurns = "SELECT pg_advisory_xact_lock(hashtextextended('slipway.saga.partitions', 0))"

// change executes the statements in one transaction, one replica at a time. It is no error
// when someone else needs the tables now, or has changed them already.
func (r *Runner) change(ctx context.Context, statements ...string) error {
	err := postgres.InTx(ctx, r.db, postgres.TxOptions{}, func(tx pgx.Tx) error {
		for _, sql := range append([]string{takeTurns, "SET LOCAL lock_timeout = '50ms'"}, statements...) {
			if _, err := tx.Exec(ctx, sql); err != nil {
				return err
			}
		}
		return nil
	})
	switch postgres.SQLState(err) {
	case codeLockNotAvailable, codeDuplicateTable, codeUndefinedTable, codeCheckViolation:
		return nil
	default:
		return err
	}
}

// reclaimEvery is how often a worker looks for sagas that it has and does not run, and so for how
// long they must have stood still: longer than a process takes from a claim to what follows it.
const reclaimEvery = 15 * time.Second
