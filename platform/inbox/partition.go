package inbox

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/slipwayhq/slipway/platform/postgres"
)

// What a change of partitions may meet: it is tried again later.
const (
	codeLockNotAvailable = "55P03"
	codeDuplicateTable   = "42P07"
	codeUndefinedTable   = "42P01"
	codeCheckViolation   = "23514" // the default partition has rows of the day
)

// missingDays are those from the horizon to the day after tomorrow without a
// partition, the coming ones first.
const missingDays = `SELECT to_char(day, 'YYYYMMDD'), day::date::text, (day + interval '1 day')::date::text
FROM slipway.inbox_horizon, generate_series(oldest, (clock_timestamp() AT TIME ZONE 'UTC')::date + 2, interval '1 day') day
WHERE oldest > '-infinity' AND to_regclass('slipway.inbox_d' || to_char(day, 'YYYYMMDD')) IS NULL ORDER BY day DESC`

// addPartitions attaches tables that it has made apart: that takes no lock on the
// parent that an insert needs, and an exclusive one on the default partition only,
// which is all but empty. A day that has rows there stays there.
func addPartitions(ctx context.Context, db *pgxpool.Pool) error {
	rows, err := db.Query(ctx, missingDays)
	if err != nil {
		return fmt.Errorf("list missing partitions: %w", err)
	}
	days, err := pgx.CollectRows(rows, pgx.RowToStructByPos[struct{ Name, From, To string }])
	if err != nil {
		return fmt.Errorf("list missing partitions: %w", err)
	}
	var errs []error
	for _, d := range days {
		err := change(ctx, db,
			fmt.Sprintf("CREATE TABLE slipway.inbox_d%s (LIKE slipway.inbox INCLUDING ALL) WITH (autovacuum_vacuum_insert_threshold = -1)", d.Name),
			fmt.Sprintf("ALTER TABLE slipway.inbox ATTACH PARTITION slipway.inbox_d%s FOR VALUES FROM ('%s') TO ('%s')", d.Name, d.From, d.To))
		if err != nil {
			errs = append(errs, fmt.Errorf("add partition of %s: %w", d.From, err))
		}
	}
	return errors.Join(errs...)
}

const expired = `SELECT c.relname, pg_relation_size(c.oid) > 0 FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid, slipway.inbox_horizon
WHERE i.inhparent = 'slipway.inbox'::regclass AND c.relname ~ '^inbox_d\d{8}$' AND to_date(substr(c.relname, 8), 'YYYYMMDD') < oldest
ORDER BY 1`

// dropPartitions empties the partitions before the horizon, which disturbs nobody
// but a transaction that has used that very partition, and then drops them. For
// that it needs the parent for itself: it asks for a moment, with nothing else in
// hand. Emptied ones cost nothing until it gets it.
func dropPartitions(ctx context.Context, db *pgxpool.Pool) error {
	rows, err := db.Query(ctx, expired)
	if err != nil {
		return fmt.Errorf("list old partitions: %w", err)
	}
	old, err := pgx.CollectRows(rows, pgx.RowToStructByPos[struct {
		Name string
		Full bool
	}])
	if err != nil {
		return fmt.Errorf("list old partitions: %w", err)
	}
	var errs []error
	for _, p := range old {
		if p.Full {
			errs = append(errs, change(ctx, db,
				"LOCK TABLE slipway."+p.Name+" IN ACCESS EXCLUSIVE MODE NOWAIT", "TRUNCATE slipway."+p.Name))
		}
		errs = append(errs, change(ctx, db,
			"LOCK TABLE ONLY slipway.inbox IN ACCESS EXCLUSIVE MODE",
			"LOCK TABLE slipway.inbox_default, slipway."+p.Name+" IN ACCESS EXCLUSIVE MODE NOWAIT",
			"DROP TABLE slipway."+p.Name))
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("drop old partitions: %w", err)
	}
	return nil
}

const takeTurns = "SELECT pg_advisory_xact_lock(hashtextextended('slipway.inbox.partitions', 0))"

// change executes the statements in one transaction. It waits for other replicas
// that do the same, with nothing in hand, so that a replica that comes back from
// here finds the partitions. It is no error when someone else needs the tables
// now, or has changed them already.
func change(ctx context.Context, db *pgxpool.Pool, statements ...string) error {
	err := postgres.InTx(ctx, db, readCommitted, func(tx pgx.Tx) error {
		for _, sql := range append([]string{takeTurns, "SET LOCAL lock_timeout = '20ms'"}, statements...) {
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
