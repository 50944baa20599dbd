package migrate

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// createHistory is idempotent. Up runs it under the lock: two sessions that
// create the same schema at once would fail on each other.
const createHistory = `CREATE SCHEMA IF NOT EXISTS slipway;
CREATE TABLE IF NOT EXISTS slipway.schema_migrations (
    component          text        NOT NULL,
    version            text        NOT NULL,
    description        text        NOT NULL,
    hash               text        NOT NULL,
    applied_at         timestamptz NOT NULL DEFAULT clock_timestamp(),
    execution_ms       bigint      NOT NULL,
    applied_by         text        NOT NULL DEFAULT session_user,
    statements_total   int         NOT NULL,
    statements_applied int         NOT NULL,
    statements_hash    text        NOT NULL,
    error              text        NOT NULL DEFAULT '',
    PRIMARY KEY (component, version)
);`

const saveRow = `INSERT INTO slipway.schema_migrations AS m
    (component, version, description, hash, execution_ms, statements_total, statements_applied, statements_hash, error)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
ON CONFLICT (component, version) DO UPDATE SET
    hash = excluded.hash, applied_at = excluded.applied_at, applied_by = excluded.applied_by,
    execution_ms = m.execution_ms + excluded.execution_ms, statements_total = excluded.statements_total,
    statements_applied = excluded.statements_applied, statements_hash = excluded.statements_hash, error = excluded.error`

// row is what the database knows of a migration.
type row struct {
	component, version, description, hash string
	appliedAt                             time.Time
	execution                             time.Duration
	appliedBy                             string
	total, done                           int
	statementsHash, err                   string
}

func (r row) partial() bool { return r.done < r.total }

// execer is a connection or a transaction.
type execer interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
}

// historyExists looks before createHistory does: a role that may not create
// anything can still use what is there.
func historyExists(ctx context.Context, conn *pgx.Conn) (bool, error) {
	var exists bool
	err := conn.QueryRow(ctx, `SELECT to_regclass('slipway.schema_migrations') IS NOT NULL`).Scan(&exists)
	if err != nil {
		return false, fmt.Errorf("look for the migration history: %w", err)
	}
	return exists, nil
}

// history returns the applied migrations by component, in order. A database
// without a history has none.
func history(ctx context.Context, conn *pgx.Conn) (map[string][]row, error) {
	exists, err := historyExists(ctx, conn)
	if err != nil || !exists {
		return nil, err
	}
	rows, err := conn.Query(ctx, `SELECT component, version, description, hash, applied_at, execution_ms, applied_by,
    statements_total, statements_applied, statements_hash, error
FROM slipway.schema_migrations ORDER BY component, version COLLATE "C"`)
	if err != nil {
		return nil, fmt.Errorf("read migration history: %w", err)
	}
	all := map[string][]row{}
	var r row
	var ms int64
	fields := []any{
		&r.component, &r.version, &r.description, &r.hash, &r.appliedAt, &ms, &r.appliedBy,
		&r.total, &r.done, &r.statementsHash, &r.err,
	}
	_, err = pgx.ForEachRow(rows, fields, func() error {
		r.execution = time.Duration(ms) * time.Millisecond
		all[r.component] = append(all[r.component], r)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read migration history: %w", err)
	}
	return all, nil
}

// progress is what a run has to record of a file.
type progress struct {
	done int
	took time.Duration
	err  error
}

// save records the progress on a file, in the transaction that db is in.
func save(ctx context.Context, db execer, f file, p progress) error {
	message := ""
	if p.err != nil {
		message = p.err.Error()
	}
	rows, err := db.Query(ctx, saveRow, f.component, f.version, f.description, f.hash, p.took.Milliseconds(),
		len(f.stmts), p.done, f.statementsHash(p.done), message)
	if err == nil {
		rows.Close()
		err = rows.Err()
	}
	if err != nil {
		return fmt.Errorf("record %s/%s in the migration history: %w", f.component, f.name, err)
	}
	return nil
}
