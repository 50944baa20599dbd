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
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"
)

// errFenced ends the term of a replica whose lease another one has taken.
var errFenced = errors.New("the lease has been taken by another replica")

// ledger is the sink's row in the hands of the replica that holds the lease. Every
// write is fenced by the term: what a replica writes after it was taken for dead
// has no effect. Its connection commits without waiting for the disk: losing the
// last position means to publish some events again, which is allowed anyway. Safe
// for concurrent use.
type ledger struct {
	mu    sync.Mutex
	conn  *pgx.Conn
	sink  string
	term  int64
	lease time.Duration
	// trusted is until when no other replica can hold the lease, in nanoseconds
	// after start. Both are of the monotonic clock: no clock is ever compared with
	// that of another machine.
	trusted atomic.Int64
	start   time.Time
	fence   atomic.Pointer[fence]
	fenced  func()
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
	sightSQL = "SELECT term, beat, holder IS NULL FROM slipway.outbox_sink WHERE sink = $1"

	// The sequence is read before the update draws the transaction's xid: see fence.
	// One that was never used says 1 and means that 1 is next.
	takeSQL = `WITH seq AS MATERIALIZED (SELECT last_value - (NOT is_called)::int AS last_value FROM slipway.outbox_id_seq)
UPDATE slipway.outbox_sink s SET term = s.term + 1, beat = s.beat + 1, holder = $4 FROM seq
WHERE s.sink = $1 AND s.term = $2 AND s.beat = $3
RETURNING s.term, seq.last_value, pg_current_xact_id()::text, s.snapshot::text, s.floor,
    s.target::text, s.target_high, s.target_floor, s.target_done`

	beatSQL = `WITH seq AS MATERIALIZED (SELECT last_value - (NOT is_called)::int AS last_value FROM slipway.outbox_id_seq)
UPDATE slipway.outbox_sink s SET beat = s.beat + 1 FROM seq WHERE s.sink = $1 AND s.term = $2
RETURNING seq.last_value, pg_current_xact_id()::text, s.paused_at IS NOT NULL,
    EXISTS (SELECT FROM slipway.outbox_parked_aggregate p WHERE p.sink = s.sink AND p.next_attempt_at <= clock_timestamp()),
    EXISTS (SELECT FROM slipway.outbox_replay r WHERE r.sink = s.sink AND r.finished_at IS NULL)`

	saveSQL = `UPDATE slipway.outbox_sink SET beat = beat + 1, snapshot = $3, floor = $4,
    target = $5, target_high = $6, target_floor = $7, target_done = $8,
    published_at = CASE WHEN $9 THEN clock_timestamp() ELSE published_at END
WHERE sink = $1 AND term = $2`

	freeSQL = "UPDATE slipway.outbox_sink SET holder = NULL, beat = beat + 1 WHERE sink = $1 AND term = $2"
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
	asked := time.Since(l.start)
	var last int64
	var xid, done string
	var target *string
	var high, floor, lo *int64
	err = pgx.BeginFunc(ctx, l.conn, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, "SET LOCAL synchronous_commit = on"); err != nil {
			return err
		}
		return tx.QueryRow(ctx, takeSQL, l.sink, seen.term, seen.beat, holder).
			Scan(&l.term, &last, &xid, &done, &pos.floor, &target, &high, &floor, &lo)
	})
	if errors.Is(err, pgx.ErrNoRows) {
		return pos, false, nil
	}
	if err != nil {
		return pos, false, fmt.Errorf("take outbox lease: %w", err)
	}
	if pos.done, err = parseSnapshot(done); err != nil {
		return pos, false, err
	}
	if target != nil {
		end, err := parseSnapshot(*target)
		if err != nil {
			return pos, false, err
		}
		pos.target = newTarget(end, high, floor, lo)
	}
	l.alive(asked, last, xid)
	return pos, true, nil
}

func newTarget(end snapshot, high, floor, lo *int64) *target {
	if high == nil || floor == nil || lo == nil {
		return nil // half a target is none: the window is read again
	}
	return &target{end: end, high: *high, floor: *floor, lo: *lo}
}

// beat gives a sign of life and returns what operators want.
func (l *ledger) beat(ctx context.Context) (s state, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	asked := time.Since(l.start)
	var last int64
	var xid string
	err = l.conn.QueryRow(ctx, beatSQL, l.sink, l.term).Scan(&last, &xid, &s.paused, &s.redrive, &s.replay)
	if errors.Is(err, pgx.ErrNoRows) {
		l.fenced()
		return s, errFenced
	}
	if err != nil {
		return s, fmt.Errorf("renew outbox lease: %w", err)
	}
	l.alive(asked, last, xid)
	return s, nil
}

// save stores the position and, in the same transaction, what also does.
func (l *ledger) save(ctx context.Context, pos position, published bool, also func(tx pgx.Tx) error) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	asked := time.Since(l.start)
	if also == nil {
		if err := l.write(ctx, l.conn, pos, published); err != nil {
			return err
		}
	} else if err := l.change(ctx, func(tx pgx.Tx) error {
		if err := l.write(ctx, tx, pos, published); err != nil {
			return err
		}
		return also(tx)
	}); err != nil {
		return err
	}
	l.trust(asked)
	return nil
}

// within runs fn in a transaction that holds the term: no other replica can take
// the lease before it ends.
func (l *ledger) within(ctx context.Context, fn func(tx pgx.Tx) error) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.change(ctx, func(tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, "UPDATE slipway.outbox_sink SET beat = beat + 1 WHERE sink = $1 AND term = $2", l.sink, l.term)
		if err != nil {
			return err
		}
		if tag.RowsAffected() == 0 {
			l.fenced()
			return errFenced
		}
		return fn(tx)
	})
}

func (l *ledger) change(ctx context.Context, fn func(tx pgx.Tx) error) error {
	if err := pgx.BeginFunc(ctx, l.conn, fn); err != nil {
		return fmt.Errorf("store outbox position: %w", err)
	}
	return nil
}

type execer interface {
	Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error)
}

func (l *ledger) write(ctx context.Context, db execer, pos position, published bool) error {
	var target pgtype.Text
	var high, floor, lo pgtype.Int8
	if t := pos.target; t != nil {
		target = pgtype.Text{String: t.end.text, Valid: true}
		high, floor, lo = pgtype.Int8{Int64: t.high, Valid: true}, pgtype.Int8{Int64: t.floor, Valid: true}, pgtype.Int8{Int64: t.lo, Valid: true}
	}
	tag, err := db.Exec(ctx, saveSQL, l.sink, l.term, pos.done.text, pos.floor, target, high, floor, lo, published)
	if err != nil {
		return fmt.Errorf("store outbox position: %w", err)
	}
	if tag.RowsAffected() == 0 {
		l.fenced()
		return errFenced
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

// holds tells whether no other replica can have taken the lease: a standby waits for
// a whole lease from the moment when it saw the last sign of life, which is after
// that was asked for.
func (l *ledger) holds() bool { return time.Since(l.start) < time.Duration(l.trusted.Load()) }

func (l *ledger) alive(asked time.Duration, last int64, xid string) {
	l.trust(asked)
	if n, err := strconv.ParseUint(xid, 10, 64); err == nil {
		l.fence.Store(&fence{xid: n, id: last})
	}
}

func (l *ledger) trust(asked time.Duration) { l.trusted.Store(int64(asked + l.lease)) }

// latest returns the latest fence.
func (l *ledger) latest() fence {
	if f := l.fence.Load(); f != nil {
		return *f
	}
	return fence{}
}
