package outbox

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/slipwayhq/slipway/platform/postgres"
)

// maintain looks after everything that has time: the size of the backlog, the
// rotation, and who holds things up.
func (t *term) maintain(ctx context.Context) error {
	conn, done, err := t.own(ctx, session)
	if err != nil {
		return quiet(ctx, err)
	}
	defer done()
	ticker := time.NewTicker(t.cfg.Maintenance)
	defer ticker.Stop()
	gauge := time.NewTicker(min(t.cfg.Maintenance, 250*time.Millisecond))
	defer gauge.Stop()
	var backlog <-chan time.Time
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-gauge.C:
			t.m.unsent.Set(t.tally.value())
			continue
		case <-t.measure: // counting reads everything once more: many a backlog is gone before
			backlog = time.After(time.Second)
			continue
		case <-backlog:
			err = t.tally.measure(ctx, conn, t.ledger.latest())
		case <-ticker.C:
			err = t.chores(ctx, conn)
		}
		if err != nil {
			return quiet(ctx, err)
		}
		t.m.unsent.Set(t.tally.value())
	}
}

func (t *term) chores(ctx context.Context, conn *pgx.Conn) error {
	if t.m.head.Load() != 0 { // something is not settled: reading may have stopped
		if err := t.tally.measure(ctx, conn, t.ledger.latest()); err != nil {
			return err
		}
	}
	if err := t.oldestWriter(ctx, conn); err != nil {
		return err
	}
	if err := t.ledger.fold(ctx); err != nil {
		return err
	}
	done, err := rotate(ctx, conn, t.cfg.Retention)
	if err != nil {
		return err
	}
	for _, what := range done {
		t.log.Info(what)
	}
	return nil
}

// oldestWriter measures how long the oldest transaction has been open that has
// written: until it ends, its events are not there, and the children that it has
// written to cannot be emptied.
func (t *term) oldestWriter(ctx context.Context, conn *pgx.Conn) error {
	var age float64
	err := conn.QueryRow(ctx, `SELECT coalesce(extract(epoch FROM max(clock_timestamp() - xact_start)), 0)::float8
		FROM pg_stat_activity WHERE backend_xid IS NOT NULL AND datname = current_database()`).Scan(&age)
	if err != nil {
		return fmt.Errorf("look for open transactions: %w", err)
	}
	t.m.oldestWriter.Set(max(0, age))
	return nil
}

// slot is one child in the rotation.
type slot struct {
	slot                   int16
	current, empty         bool
	openedFor, passedSince *float64 // seconds
	beforeSinks            bool
}

const slotsSQL = `SELECT slot, current, NOT current AND closed_at IS NULL, extract(epoch FROM clock_timestamp() - opened_at)::float8,
    extract(epoch FROM clock_timestamp() - passed_at)::float8,
    coalesce(closed_xid < (SELECT min(pg_snapshot_xmin(snapshot)) FROM slipway.outbox_position), false)
FROM slipway.outbox_rotation ORDER BY slot`

// rotate notes which children every sink is past, empties those that have been kept
// for long enough since, and opens an empty one when the current one has taken events for half of that time. It waits
// for no lock: what cannot be had now is tried again at the next call. It returns
// what it did.
func rotate(ctx context.Context, conn *pgx.Conn, retention time.Duration) (done []string, err error) {
	rows, err := conn.Query(ctx, slotsSQL)
	if err != nil {
		return nil, fmt.Errorf("read outbox rotation: %w", err)
	}
	slots, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (s slot, err error) {
		err = row.Scan(&s.slot, &s.current, &s.empty, &s.openedFor, &s.passedSince, &s.beforeSinks)
		return s, err
	})
	if err != nil {
		return nil, fmt.Errorf("read outbox rotation: %w", err)
	}
	for i, s := range slots {
		if s.passedSince == nil && s.beforeSinks {
			if err := pass(ctx, conn, s.slot); err != nil {
				return done, err
			}
		}
		if s.passedSince == nil || *s.passedSince < retention.Seconds() {
			continue
		}
		emptied, err := truncate(ctx, conn, s.slot)
		if err != nil {
			return done, err
		}
		if slots[i].empty = emptied; emptied {
			done = append(done, fmt.Sprintf("emptied outbox_%d", s.slot))
		}
	}
	for _, s := range slots {
		next := slots[(int(s.slot)+1)%len(slots)]
		if !s.current || s.openedFor == nil || *s.openedFor < retention.Seconds()/2 || !next.empty {
			continue
		}
		flipped, err := flip(ctx, conn, s.slot, next.slot)
		if err != nil {
			return done, err
		}
		if flipped {
			done = append(done, fmt.Sprintf("opened outbox_%d", next.slot))
		}
	}
	return done, nil
}

// flip closes the current child and opens an empty one. A current child without
// events stays.
func flip(ctx context.Context, conn *pgx.Conn, from, to int16) (done bool, err error) {
	err = pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, fmt.Sprintf(`WITH mine AS (SELECT slot FROM slipway.outbox_rotation WHERE slot = $1 AND current FOR UPDATE SKIP LOCKED)
			UPDATE slipway.outbox_rotation r SET current = false, closed_at = clock_timestamp(), closed_xid = pg_current_xact_id(),
				passed_at = NULL, passed = NULL
			FROM mine WHERE r.slot = mine.slot AND EXISTS (SELECT FROM slipway.outbox_%d)`, from), from)
		if err != nil || tag.RowsAffected() == 0 {
			return err
		}
		done = true
		_, err = tx.Exec(ctx, `UPDATE slipway.outbox_rotation SET current = true, opened_at = clock_timestamp(), closed_at = NULL, closed_xid = NULL
			WHERE slot = $1`, to)
		return err
	})
	if err != nil {
		return false, fmt.Errorf("rotate outbox: %w", err)
	}
	return done, nil
}

// neededSQL tells whether some sink has not settled some event of a child.
func neededSQL(child int16) string {
	return fmt.Sprintf(`EXISTS (SELECT FROM slipway.outbox_position s WHERE EXISTS (SELECT FROM slipway.outbox_%d e
		WHERE e.xid >= pg_snapshot_xmin(s.snapshot) AND NOT pg_visible_in_snapshot(e.xid, s.snapshot)))`, child)
}

// pass notes since when every sink has settled what is in a closed child, as far as
// it is committed. The retention counts from there.
func pass(ctx context.Context, conn *pgx.Conn, child int16) error {
	_, err := conn.Exec(ctx, `UPDATE slipway.outbox_rotation SET passed_at = clock_timestamp(), passed = pg_current_snapshot()
		WHERE slot = $1 AND closed_at IS NOT NULL AND passed_at IS NULL AND NOT `+neededSQL(child), child)
	if err != nil {
		return fmt.Errorf("look whether outbox_%d is published: %w", child, err)
	}
	return nil
}

const lockNotAvailable = "55P03"

// truncate empties a closed child if every sink has settled every event in it since
// it was passed. That the sinks' snapshots are younger than the rotation does not
// prove it: a transaction that chose the child before may have drawn its xid after.
// Holding the child's lock does: whoever has a row in it holds a lock until it ends, so
// every row is committed or dead, and can be looked for. If there is one that came
// later, the retention begins anew.
func truncate(ctx context.Context, conn *pgx.Conn, child int16) (done bool, err error) {
	table := fmt.Sprintf("slipway.outbox_%d", child)
	err = pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		var mine bool
		if err := tx.QueryRow(ctx, `SELECT EXISTS (SELECT FROM (SELECT FROM slipway.outbox_rotation
			WHERE slot = $1 AND NOT current AND passed_at IS NOT NULL FOR UPDATE SKIP LOCKED) AS s)`, child).Scan(&mine); err != nil || !mine {
			return err
		}
		if _, err := tx.Exec(ctx, "LOCK TABLE "+table+" IN ACCESS EXCLUSIVE MODE NOWAIT"); err != nil {
			return err
		}
		var late, replays bool
		err := tx.QueryRow(ctx, "SELECT "+neededSQL(child)+` OR EXISTS (SELECT FROM slipway.outbox_rotation r WHERE r.slot = $1 AND EXISTS (SELECT FROM `+table+` e
				WHERE e.xid >= pg_snapshot_xmin(r.passed) AND NOT pg_visible_in_snapshot(e.xid, r.passed))),
			EXISTS (SELECT FROM slipway.outbox_replay WHERE finished_at IS NULL)`, child).Scan(&late, &replays)
		if err != nil || replays {
			return err
		}
		if late {
			_, err = tx.Exec(ctx, "UPDATE slipway.outbox_rotation SET passed_at = NULL, passed = NULL WHERE slot = $1", child)
			return err
		}
		if _, err := tx.Exec(ctx, "TRUNCATE "+table); err != nil {
			return err
		}
		done = true
		_, err = tx.Exec(ctx, `UPDATE slipway.outbox_rotation SET opened_at = NULL, closed_at = NULL, closed_xid = NULL, passed_at = NULL, passed = NULL
			WHERE slot = $1`, child)
		return err
	})
	if postgres.SQLState(err) == lockNotAvailable {
		return false, nil
	}
	if err == nil && done {
		err = completeIndex(ctx, conn, int(child)) // a new index has its first range
	}
	if err != nil {
		return false, fmt.Errorf("empty %s: %w", table, err)
	}
	return done, nil
}
