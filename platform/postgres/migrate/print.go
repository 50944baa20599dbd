package migrate

import (
	"context"
	"fmt"
	"io"
	"strings"
)

// Print writes the SQL that Up would execute on the database, with the records
// that it would make, for somebody who applies it by hand with psql. It changes
// nothing. Without a database URL it writes all files.
func Print(ctx context.Context, w io.Writer, databaseURL string, comps ...Component) error {
	files, err := read(comps)
	if err != nil {
		return fmt.Errorf("read migrations: %w", err)
	}
	rows := map[string][]row{}
	if databaseURL != "" {
		conn, err := connect(ctx, databaseURL, 0)
		if err != nil {
			return fmt.Errorf("print migrations: %w", err)
		}
		defer disconnect(ctx, conn)
		if rows, err = history(ctx, conn); err != nil {
			return fmt.Errorf("print migrations: %w", err)
		}
	}
	var quiet Config
	quiet.SetDefaults()
	todo, err := quiet.pending(statesOf(comps, files, rows), files)
	if err != nil {
		return fmt.Errorf("print migrations: %w", err)
	}
	if len(todo) == 0 {
		_, err := fmt.Fprintln(w, "-- Nothing to apply.")
		return err
	}
	text := new(strings.Builder)
	fmt.Fprintf(text, "\\set ON_ERROR_STOP on\nSELECT pg_advisory_lock(%d);\nSET lock_timeout = '%dms';\n%s\n",
		int64(lockKey), quiet.LockTimeout.Milliseconds(), createHistory)
	for _, f := range todo {
		done := 0
		for _, r := range rows[f.component] {
			if r.version == f.version {
				done = r.done
			}
		}
		f.print(text, done)
	}
	fmt.Fprintf(text, "\nSELECT pg_advisory_unlock(%d);\n", int64(lockKey))
	_, err = io.WriteString(w, text.String())
	return err
}

// print writes the statements that follow the first done ones.
func (f file) print(w *strings.Builder, done int) {
	fmt.Fprintf(w, "\n-- %s/%s\n", f.component, f.name)
	if !f.txNone {
		w.WriteString("BEGIN;\n")
	}
	for _, stmt := range f.stmts[done:] {
		text := strings.TrimSpace(stmt.Text)
		w.WriteString(strings.TrimSuffix(text, ";") + ";\n")
	}
	fmt.Fprintf(w, `INSERT INTO slipway.schema_migrations AS m
    (component, version, description, hash, execution_ms, statements_total, statements_applied, statements_hash)
VALUES (%s, %s, %s, %s, 0, %d, %d, %s)
ON CONFLICT (component, version) DO UPDATE SET
    hash = excluded.hash, applied_at = excluded.applied_at, statements_total = excluded.statements_total,
    statements_applied = excluded.statements_applied, statements_hash = excluded.statements_hash, error = '';
`, quote(f.component), quote(f.version), quote(f.description), quote(f.hash),
		len(f.stmts), len(f.stmts), quote(f.statementsHash(len(f.stmts))))
	if !f.txNone {
		w.WriteString("COMMIT;\n")
	}
}

func quote(s string) string { return "'" + strings.ReplaceAll(s, "'", "''") + "'" }
