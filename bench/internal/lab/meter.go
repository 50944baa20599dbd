package lab

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// Meter counts the statements of a database and the bytes that the server's log has
// grown by. Nothing else may write on the server meanwhile.
type Meter struct {
	database *Database
	from     Reading
}

// Reading is what a meter shows.
type Reading struct {
	Statements, WAL int64
}

// Meter makes the server count the database's statements, for connections that are
// opened from now on.
func (d *Database) Meter(ctx context.Context) (*Meter, error) {
	if err := Exec(ctx, d.URL, "ALTER DATABASE "+d.Name+" SET pg_stat_statements.track = 'top'"); err != nil {
		return nil, fmt.Errorf("prepare counters: %w", err)
	}
	m := &Meter{database: d}
	return m, m.Reset(ctx)
}

// Reset begins to count from here.
func (m *Meter) Reset(ctx context.Context) error {
	var err error
	m.from = Reading{}
	m.from, err = m.Read(ctx)
	return err
}

// Read returns what has been counted since the last Reset. It looks from another
// database, so that it does not count itself.
func (m *Meter) Read(ctx context.Context) (Reading, error) {
	var r Reading
	err := m.database.server.admin.QueryRow(ctx, `SELECT
		(SELECT coalesce(sum(calls), 0)::bigint FROM pg_stat_statements s JOIN pg_database d ON d.oid = s.dbid WHERE d.datname = $1),
		(pg_current_wal_insert_lsn() - '0/0')::bigint`, m.database.Name).Scan(&r.Statements, &r.WAL)
	if err != nil {
		return r, fmt.Errorf("read counters: %w", err)
	}
	return Reading{r.Statements - m.from.Statements, r.WAL - m.from.WAL}, nil
}

// DeadRows returns how many dead rows the tables have, given by their names with
// schema. The statistics that say so are up to a second old.
func (d *Database) DeadRows(ctx context.Context, tables []string) (int, error) {
	conn, err := pgx.Connect(ctx, d.URL)
	if err != nil {
		return 0, fmt.Errorf("connect to database: %w", err)
	}
	defer conn.Close(context.WithoutCancel(ctx))
	var n int
	err = conn.QueryRow(ctx, `SELECT coalesce(sum(n_dead_tup), 0)::bigint FROM pg_stat_all_tables
		WHERE schemaname || '.' || relname = ANY ($1)`, tables).Scan(&n)
	if err != nil {
		return 0, fmt.Errorf("count dead rows: %w", err)
	}
	return n, nil
}
