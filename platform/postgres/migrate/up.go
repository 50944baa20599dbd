package migrate

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"regexp"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// Applied is a migration that a run has applied.
type Applied struct {
	Component, Version, Description string
	Statements                      int
	Took                            time.Duration
}

// Up applies what is missing with the zero Config. See Config.Up.
func Up(ctx context.Context, databaseURL string, comps ...Component) ([]Applied, error) {
	return Config{}.Up(ctx, databaseURL, comps...)
}

// Up applies the files that the database does not have, component by component
// in the order in which they are given, and returns those that it applied, also
// when a later one fails. It refuses before it changes anything when a folder
// does not match its atlas.sum, when an applied file was edited or is gone, or
// when a file would come before an applied one. ctx bounds the whole run.
func (c Config) Up(ctx context.Context, databaseURL string, comps ...Component) ([]Applied, error) {
	c.SetDefaults()
	files, err := read(comps)
	if err != nil {
		return nil, fmt.Errorf("read migrations: %w", err)
	}
	conn, err := connect(ctx, databaseURL, c.LockTimeout)
	if err != nil {
		return nil, fmt.Errorf("apply migrations: %w", err)
	}
	defer disconnect(ctx, conn)
	if err := c.lock(ctx, conn); err != nil {
		return nil, fmt.Errorf("apply migrations: %w", err)
	}
	if err := prepareHistory(ctx, conn); err != nil {
		return nil, fmt.Errorf("apply migrations: %w", err)
	}
	rows, err := history(ctx, conn)
	if err != nil {
		return nil, fmt.Errorf("apply migrations: %w", err)
	}
	todo, err := c.pending(statesOf(comps, files, rows), files)
	if err != nil {
		return nil, fmt.Errorf("apply migrations: %w", err)
	}
	var applied []Applied
	for _, f := range todo {
		one, err := c.apply(ctx, conn, f, rows[f.component])
		if err != nil {
			return applied, fmt.Errorf("apply migrations: %w", err)
		}
		applied = append(applied, one)
	}
	return applied, nil
}

func prepareHistory(ctx context.Context, conn *pgx.Conn) error {
	exists, err := historyExists(ctx, conn)
	if err != nil || exists {
		return err
	}
	if err := execute(ctx, conn, createHistory); err != nil {
		return fmt.Errorf("create the migration history: %w", err)
	}
	return nil
}

// apply executes one file and takes back what it has set on the session.
func (c Config) apply(ctx context.Context, conn *pgx.Conn, f file, rows []row) (Applied, error) {
	begin := time.Now()
	var err error
	if f.txNone {
		err = c.applyPlain(ctx, conn, f, rows)
	} else {
		err = c.retry(ctx, f.component+"/"+f.name, func() error { return applyInTx(ctx, conn, f) })
	}
	if err != nil {
		return Applied{}, err
	}
	if err := execute(ctx, conn, "RESET ALL; RESET ROLE"); err != nil {
		return Applied{}, fmt.Errorf("reset session: %w", err)
	}
	return Applied{
		Component: f.component, Version: f.version, Description: f.description,
		Statements: len(f.stmts), Took: time.Since(begin),
	}, nil
}

// applyInTx executes the file and records it, both or neither.
func applyInTx(ctx context.Context, conn *pgx.Conn, f file) error {
	begin := time.Now()
	return pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		for i, stmt := range f.stmts {
			if err := execute(ctx, conn, stmt.Text); err != nil {
				return fmt.Errorf("%s: %w", f.at(i), err)
			}
			if conn.PgConn().TxStatus() != 'T' {
				return fmt.Errorf("%s: ends the transaction of its file, which may be half applied: remove it, or put -- atlas:txmode none at the top", f.at(i))
			}
		}
		return save(ctx, tx, f, progress{done: len(f.stmts), took: time.Since(begin)})
	})
}

// applyPlain executes the statements that are not recorded as done, each with a
// record of its own.
func (c Config) applyPlain(ctx context.Context, conn *pgx.Conn, f file, rows []row) error {
	done := 0
	for _, r := range rows {
		if r.version == f.version {
			done = r.done
			c.notice("%s/%s: going on after statement %d of %d", f.component, f.name, done, len(f.stmts))
		}
	}
	for ; done < len(f.stmts); done++ {
		begin := time.Now()
		text := f.stmts[done].Text
		err := c.retry(ctx, f.at(done), func() error { return executePlain(ctx, conn, text) })
		p := progress{done: done + 1, took: time.Since(begin)}
		if err != nil {
			p.done, p.err = done, err
		}
		record, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		errSave := save(record, conn, f, p)
		cancel()
		if err != nil {
			return errors.Join(fmt.Errorf("%s: %w", f.at(done), err), errSave)
		}
		if errSave != nil {
			return errSave
		}
	}
	return nil
}

var concurrently = regexp.MustCompile(`(?i)\bconcurrently\b`)

// executePlain lets CONCURRENTLY wait as long as it must: cut short, it leaves
// an invalid index behind, and it holds up nobody while it waits.
func executePlain(ctx context.Context, conn *pgx.Conn, text string) error {
	if !concurrently.MatchString(text) {
		return execute(ctx, conn, text)
	}
	if err := execute(ctx, conn, "SET lock_timeout = 0"); err != nil {
		return err
	}
	return errors.Join(execute(ctx, conn, text), execute(ctx, conn, "RESET lock_timeout"))
}

// execute runs SQL by the simple protocol, which prepares nothing.
func execute(ctx context.Context, conn *pgx.Conn, text string) error {
	_, err := conn.PgConn().Exec(ctx, text).ReadAll()
	return err
}

const (
	lockNotAvailable = "55P03"
	deadlockDetected = "40P01"
)

// retry repeats what ran into a lock that others hold, with growing pauses in
// which those who queued up behind it get on.
func (c Config) retry(ctx context.Context, what string, do func() error) error {
	for attempt := 1; ; attempt++ {
		err := do()
		var pg *pgconn.PgError
		if !errors.As(err, &pg) || pg.Code != lockNotAvailable && pg.Code != deadlockDetected {
			return err
		}
		if attempt >= c.Attempts {
			return fmt.Errorf("gave up after %d attempts: %w", attempt, err)
		}
		c.notice("%s: %s; attempt %d of %d follows", what, pg.Message, attempt+1, c.Attempts)
		if err := pause(ctx, jitter(min(time.Duration(attempt)*c.LockTimeout/2, 10*time.Second))); err != nil {
			return fmt.Errorf("%s: %w", what, err)
		}
	}
}

func jitter(d time.Duration) time.Duration {
	return d/2 + rand.N(d/2+1)
}

func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// lockKey is the advisory lock of a run: "slipmigr" in ASCII.
const lockKey = 0x736c69706d696772

// lock takes the advisory lock for the session. It asks again and again instead
// of waiting in the server: a statement that waits is a transaction that CREATE
// INDEX CONCURRENTLY of the other run would wait for in turn.
func (c Config) lock(ctx context.Context, conn *pgx.Conn) error {
	deadline := time.Now().Add(c.LockWait)
	told := false
	for {
		var taken bool
		if err := conn.QueryRow(ctx, "SELECT pg_try_advisory_lock($1)", int64(lockKey)).Scan(&taken); err != nil {
			return fmt.Errorf("take the migration lock: %w", err)
		}
		if taken {
			return nil
		}
		holder := lockHolder(ctx, conn)
		if time.Now().After(deadline) {
			return fmt.Errorf("take the migration lock: another run still holds it after %s: %s", c.LockWait, holder)
		}
		if !told {
			c.notice("waiting for another migration run: %s", holder)
			told = true
		}
		if err := pause(ctx, jitter(200*time.Millisecond)); err != nil {
			return fmt.Errorf("take the migration lock, held by %s: %w", holder, err)
		}
	}
}

// lockHolder describes the session that has the lock.
func lockHolder(ctx context.Context, conn *pgx.Conn) string {
	var holder string
	err := conn.QueryRow(ctx, `SELECT format('process %s, user %s, application %s, from %s, since %s',
    a.pid, a.usename, a.application_name, coalesce(a.client_addr::text, 'a local socket'), a.backend_start)
FROM pg_locks l JOIN pg_stat_activity a USING (pid)
WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1
  AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
  AND (l.classid::bigint << 32 | l.objid::bigint) = $1`, int64(lockKey)).Scan(&holder)
	if err != nil {
		return "a session that has just ended"
	}
	return strings.TrimSpace(holder)
}
