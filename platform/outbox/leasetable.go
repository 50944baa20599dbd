package outbox

import (
	"context"
	"errors"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/slipwayhq/slipway/platform/postgres"
)

// leaseTable is leases on a connection of its own, which commits without waiting for
// the disk.
type leaseTable struct {
	conn         *pgx.Conn
	sink, holder string
	lease        time.Duration
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

	takeSQL = `UPDATE slipway.outbox_sink SET term = term + 1, holder = $2, lease = make_interval(secs => $3) WHERE sink = $1 RETURNING term, pg_current_xact_id()::text`

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

func (l *leaseTable) sight(ctx context.Context) (s sighting, err error) {
	err = l.conn.QueryRow(ctx, sightSQL, l.sink).Scan(&s.term, &s.beat, &s.free)
	return s, err
}

func (l *leaseTable) take(ctx context.Context, seen sighting) (t taken, ok bool, err error) {
	var xid string
	err = pgx.BeginFunc(ctx, l.conn, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, "SET LOCAL synchronous_commit = on"); err != nil {
			return err
		}
		var term int64
		if err := tx.QueryRow(ctx, lockSQL, l.sink).Scan(&t.fence.id, &term, &t.folded); err != nil {
			return err
		}
		// Another statement, and so another snapshot: it sees every step before the lock.
		if t.at, err = readStep(ctx, tx, l.sink); err != nil {
			return err
		}
		if ok = term == seen.term && t.at.beat == seen.beat; !ok {
			return nil
		}
		return tx.QueryRow(ctx, takeSQL, l.sink, l.holder, l.lease.Seconds()).Scan(&t.term, &xid)
	})
	if err != nil || !ok {
		return taken{}, false, err
	}
	t.fence.xid, err = strconv.ParseUint(xid, 10, 64)
	return t, err == nil, err
}

func (l *leaseTable) beat(ctx context.Context, term int64, next step) (s state, f fence, err error) {
	var xid string
	err = l.conn.QueryRow(ctx, beatSQL, l.args(term, next, false)...).Scan(&f.id, &xid, &s.paused, &s.redrive, &s.replay)
	if err != nil {
		return s, f, over(err)
	}
	f.xid, err = strconv.ParseUint(xid, 10, 64)
	return s, f, err
}

func (l *leaseTable) save(ctx context.Context, term int64, next step, published bool, p parking) (at *time.Time, err error) {
	args := l.args(term, next, published)
	if len(p) == 0 {
		return at, over(l.conn.QueryRow(ctx, saveSQL, args...).Scan(&at))
	}
	err = pgx.BeginFunc(ctx, l.conn, func(tx pgx.Tx) error {
		if err := tx.QueryRow(ctx, saveSQL, args...).Scan(&at); err != nil {
			return over(err)
		}
		return p.store(ctx, tx, l.sink)
	})
	return at, err
}

// args are those of a step.
func (l *leaseTable) args(term int64, s step, published bool) []any {
	var end pgtype.Text
	var high, floor, lo pgtype.Int8
	if t := s.target; t != nil {
		end = pgtype.Text{String: t.end.text, Valid: true}
		high, floor, lo = pgtype.Int8{Int64: t.high, Valid: true}, pgtype.Int8{Int64: t.floor, Valid: true}, pgtype.Int8{Int64: t.lo, Valid: true}
	}
	return []any{l.sink, term, s.beat, s.done.text, s.floor, end, high, floor, lo, published, s.publishedAt}
}

// within runs fn in a transaction that holds the term: no other replica can take
// the lease before it ends.
func (l *leaseTable) within(ctx context.Context, term int64, fn func(tx pgx.Tx) error) error {
	return pgx.BeginFunc(ctx, l.conn, func(tx pgx.Tx) error {
		if err := tx.QueryRow(ctx, mineSQL+"SELECT last_value FROM mine", l.sink, term).Scan(nil); err != nil {
			return over(err)
		}
		return fn(tx)
	})
}

// over says of a write that found no row that the term is over.
func over(err error) error {
	if errors.Is(err, pgx.ErrNoRows) {
		return errFenced
	}
	return err
}

// fold gives every sink its last step before the table is emptied.
func (l *leaseTable) fold(ctx context.Context) (done bool, err error) {
	err = pgx.BeginFunc(ctx, l.conn, func(tx pgx.Tx) error {
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
		return false, nil
	}
	return err == nil, err
}

func (l *leaseTable) free(ctx context.Context, term int64) error {
	_, err := l.conn.Exec(ctx, freeSQL, l.sink, term)
	return err
}

func (l *leaseTable) parked(ctx context.Context, term int64) (all []aggregate, err error) {
	err = l.within(ctx, term, func(tx pgx.Tx) error {
		rows, err := tx.Query(ctx, "SELECT aggregate_type, aggregate_id FROM slipway.outbox_parked_aggregate WHERE sink = $1", l.sink)
		if err != nil {
			return err
		}
		all, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (a aggregate, err error) {
			err = row.Scan(&a.kind, &a.id)
			return a, err
		})
		return err
	})
	return all, err
}

func (l *leaseTable) redriven(ctx context.Context, term int64, r redriven) error {
	return l.within(ctx, term, func(tx pgx.Tx) error { return r.store(ctx, tx, l.sink) })
}

func (l *leaseTable) beginReplay(ctx context.Context, term, replay int64) (e extent, err error) {
	err = l.within(ctx, term, func(tx pgx.Tx) error {
		return tx.QueryRow(ctx, `UPDATE slipway.outbox_replay r SET snapshot = p.snapshot, target = p.target, target_done = p.target_done,
			begun_at = clock_timestamp() FROM slipway.outbox_position p WHERE r.replay = $1 AND p.sink = r.sink
			RETURNING r.snapshot::text, r.target::text, r.target_done`, replay).Scan(&e.snapshot, &e.target, &e.targetDone)
	})
	return e, err
}

// replayed changes nothing when an operator has given the replay up.
func (l *leaseTable) replayed(ctx context.Context, term int64, step repeated) error {
	return l.within(ctx, term, func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, `UPDATE slipway.outbox_replay SET done = $2, published = published + $3, left_out = left_out + $4,
			finished_at = CASE WHEN $2 >= high THEN clock_timestamp() END WHERE replay = $1 AND finished_at IS NULL`,
			step.replay, step.upTo, step.published, step.leftOut)
		return err
	})
}
