package outbox

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/slipwayhq/slipway/platform/postgres"
)

// errFenced ends the term of a replica whose lease another one has taken.
var errFenced = errors.New("the lease has been taken by another replica")

// ledger is the sink's position in the hands of the replica that holds the lease.
// Every write is fenced by the term: what a replica writes after it was taken for
// dead has no effect. Its connection commits without waiting for the disk: losing the
// last position means to publish some events again, which is allowed anyway. Safe
// for concurrent use.
type ledger struct {
	trust

	mu   sync.Mutex
	conn *pgx.Conn
	sink string
	term int64
	at   step
	// folded is the beat of the step in outbox_sink.
	folded int64
	fence  atomic.Pointer[fence]
	fenced func()
}

// state is what a beat brings back.
type state struct {
	paused, redrive, replay bool
}

// sighting is what a standby sees of the lease.
type sighting struct {
	term, beat int64
	free       bool
}

const (
	sightSQL = "SELECT term, beat, holder IS NULL FROM slipway.outbox_position WHERE sink = $1"

	// The sequence is read before the lock on the row draws the transaction's xid: see
	// fence. One that was never used says 1 and means that 1 is next.
	seqSQL  = "WITH seq AS MATERIALIZED (SELECT last_value - (NOT is_called)::int AS last_value FROM slipway.outbox_id_seq)"
	lockSQL = seqSQL + " SELECT seq.last_value, s.term, s.beat FROM seq, slipway.outbox_sink s WHERE s.sink = $1 FOR UPDATE OF s"

	// mine is the row, locked against whoever wants to take the lease, if the term is
	// still the one in $2. Unlike an UPDATE the lock leaves no dead row.
	mineSQL = seqSQL + `, mine AS (SELECT seq.last_value, s.paused_at FROM seq, slipway.outbox_sink s
    WHERE s.sink = $1 AND s.term = $2 FOR SHARE OF s) `

	takeSQL = `UPDATE slipway.outbox_sink SET term = term + 1, holder = $2 WHERE sink = $1 RETURNING term, pg_current_xact_id()::text`

	stepSQL = `INSERT INTO slipway.outbox_step (sink, beat, ` + stepColumns + `, published_at)
SELECT $1, $3, $4, $5, $6, $7, $8, $9, CASE WHEN $10 THEN clock_timestamp() ELSE $11 END FROM mine RETURNING published_at`

	saveSQL = mineSQL + stepSQL

	beatSQL = mineSQL + `, step AS (` + stepSQL + `)
SELECT mine.last_value, pg_current_xact_id()::text, mine.paused_at IS NOT NULL,
    EXISTS (SELECT FROM slipway.outbox_parked_aggregate p WHERE p.sink = $1 AND p.next_attempt_at <= clock_timestamp()),
    EXISTS (SELECT FROM slipway.outbox_replay r WHERE r.sink = $1 AND r.finished_at IS NULL)
FROM mine`

	foldSQL = `UPDATE slipway.outbox_sink s SET (beat, ` + stepColumns + `, published_at) =
    (p.beat, p.snapshot, p.floor, p.target, p.target_high, p.target_floor, p.target_done, p.published_at)
FROM slipway.outbox_position p WHERE p.sink = s.sink AND p.beat > s.beat`

	freeSQL = "UPDATE slipway.outbox_sink SET holder = NULL WHERE sink = $1 AND term = $2"
)

// sight looks at the lease.
func sight(ctx context.Context, conn *pgx.Conn, sink string) (s sighting, err error) {
	err = conn.QueryRow(ctx, sightSQL, sink).Scan(&s.term, &s.beat, &s.free)
	if err != nil {
		err = fmt.Errorf("look at outbox lease: %w", err)
	}
	return s, err
}

// take takes the lease if nothing has happened to it since it was seen. Unlike all
// that follows it waits for the disk: no term is given twice.
func (l *ledger) take(ctx context.Context, seen sighting, holder string) (pos position, ok bool, err error) {
	asked := l.asking()
	var last int64
	var xid string
	err = pgx.BeginFunc(ctx, l.conn, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, "SET LOCAL synchronous_commit = on"); err != nil {
			return err
		}
		var term, folded int64
		if err := tx.QueryRow(ctx, lockSQL, l.sink).Scan(&last, &term, &folded); err != nil {
			return err
		}
		// Another statement, and so another snapshot: it sees every step before the lock.
		if l.at, err = readStep(ctx, tx, l.sink); err != nil {
			return err
		}
		if ok = term == seen.term && l.at.beat == seen.beat; !ok {
			return nil
		}
		l.folded = folded
		return tx.QueryRow(ctx, takeSQL, l.sink, holder).Scan(&l.term, &xid)
	})
	if err != nil || !ok {
		return position{}, false, wrap("take outbox lease", err)
	}
	l.alive(asked, last, xid)
	return l.at.position, true, nil
}

// beat gives a sign of life and returns what operators want.
func (l *ledger) beat(ctx context.Context) (s state, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	asked := l.asking()
	var last int64
	var xid string
	err = l.conn.QueryRow(ctx, beatSQL, l.next(l.at.position, false)...).Scan(&last, &xid, &s.paused, &s.redrive, &s.replay)
	if err != nil {
		return s, l.refused("renew outbox lease", err)
	}
	l.alive(asked, last, xid)
	return s, nil
}

// save stores the position and, in the same transaction, what also does.
func (l *ledger) save(ctx context.Context, pos position, published bool, also func(tx pgx.Tx) error) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	asked := l.asking()
	next := l.next(pos, published)
	var err error
	if also == nil {
		err = l.conn.QueryRow(ctx, saveSQL, next...).Scan(&l.at.publishedAt)
	} else {
		err = pgx.BeginFunc(ctx, l.conn, func(tx pgx.Tx) error {
			if err := tx.QueryRow(ctx, saveSQL, next...).Scan(&l.at.publishedAt); err != nil {
				return err
			}
			return also(tx)
		})
	}
	if err != nil {
		return l.refused("store outbox position", err)
	}
	l.at.position = pos
	l.renew(asked)
	return nil
}

// within runs fn in a transaction that holds the term: no other replica can take
// the lease before it ends.
func (l *ledger) within(ctx context.Context, fn func(tx pgx.Tx) error) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	err := pgx.BeginFunc(ctx, l.conn, func(tx pgx.Tx) error {
		if err := tx.QueryRow(ctx, mineSQL+"SELECT last_value FROM mine", l.sink, l.term).Scan(nil); err != nil {
			return err
		}
		return fn(tx)
	})
	return l.refused("hold outbox lease", err)
}

// fold empties the table of steps when it has become large enough, after every sink
// has got its last one. It does not wait for whoever reads the steps: it will be
// asked again.
func (l *ledger) fold(ctx context.Context) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.at.beat-l.folded < foldAfter {
		return nil
	}
	err := pgx.BeginFunc(ctx, l.conn, func(tx pgx.Tx) error {
		for _, sql := range []string{
			"SET LOCAL lock_timeout = '200ms'", "LOCK TABLE slipway.outbox_step IN ACCESS EXCLUSIVE MODE NOWAIT", foldSQL, "TRUNCATE slipway.outbox_step",
		} {
			if _, err := tx.Exec(ctx, sql); err != nil {
				return err
			}
		}
		return nil
	})
	if postgres.SQLState(err) == lockNotAvailable {
		return nil
	}
	if err == nil {
		l.folded = l.at.beat
	}
	return wrap("fold outbox steps", err)
}

// foldAfter is so few steps that the table stays in a few hundred pages.
const foldAfter = 10_000

// next returns the arguments of the next step.
func (l *ledger) next(pos position, published bool) []any {
	var end pgtype.Text
	var high, floor, lo pgtype.Int8
	if t := pos.target; t != nil {
		end = pgtype.Text{String: t.end.text, Valid: true}
		high, floor, lo = pgtype.Int8{Int64: t.high, Valid: true}, pgtype.Int8{Int64: t.floor, Valid: true}, pgtype.Int8{Int64: t.lo, Valid: true}
	}
	l.at.beat++
	return []any{l.sink, l.term, l.at.beat, pos.done.text, pos.floor, end, high, floor, lo, published, l.at.publishedAt}
}

// refused says of a write that found no row that the term is over.
func (l *ledger) refused(what string, err error) error {
	if errors.Is(err, pgx.ErrNoRows) {
		l.fenced()
		return errFenced
	}
	return wrap(what, err)
}

func wrap(what string, err error) error {
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}

// free gives the lease back, so that a standby need not wait.
func (l *ledger) free(ctx context.Context) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, err := l.conn.Exec(ctx, freeSQL, l.sink, l.term); err != nil {
		return fmt.Errorf("give back outbox lease: %w", err)
	}
	return nil
}

func (l *ledger) alive(asked time.Duration, last int64, xid string) {
	l.renew(asked)
	if n, err := strconv.ParseUint(xid, 10, 64); err == nil {
		l.fence.Store(&fence{xid: n, id: last})
	}
}

// latest returns the latest fence.
func (l *ledger) latest() fence {
	if f := l.fence.Load(); f != nil {
		return *f
	}
	return fence{}
}
