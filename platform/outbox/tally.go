package outbox

import (
	"context"
	"fmt"
	"sync"

	"github.com/jackc/pgx/v5"
)

// tally counts the events that are committed and not settled. As long as the relay
// keeps up, reading counts them. A backlog is counted apart, each event once and in
// pieces, so that a count of millions costs no long statement. Safe for concurrent
// use.
type tally struct {
	mu     sync.Mutex
	unsent int64
	upto   position // everything visible in it is counted
}

func newTally(pos position) *tally { return &tally{upto: pos} }

// window counts what a complete window has brought.
func (t *tally) window(events []stored, after position) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for i := range events {
		if !t.upto.done.sees(events[i].xid) {
			t.unsent++
		}
	}
	t.upto = after
}

func (t *tally) settled(n int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.unsent -= int64(n)
}

// value is never negative: a backlog is worked off before it has been counted.
func (t *tally) value() float64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return float64(max(0, t.unsent))
}

func (t *tally) position() position {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.upto
}

// counted adds what was found from one position to another, unless the relay has
// read on meanwhile and counted itself.
func (t *tally) counted(from, to position, n int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.upto.done.text == from.done.text {
		t.unsent, t.upto = t.unsent+n, to
	}
}

// countWidth is how many ids one statement counts.
const countWidth = 50_000

var (
	countSQL = "SELECT sum(n)::bigint FROM (" +
		union("SELECT count(*) AS n FROM $CHILD WHERE id + 0 > $1 AND id + 0 <= $2 AND NOT pg_visible_in_snapshot(xid, $3) AND pg_visible_in_snapshot(xid, $4)") + ") AS c"
	countLateSQL = "SELECT sum(n)::bigint FROM (" +
		union("SELECT count(*) AS n FROM unnest($1::text[]) AS x(xid) JOIN LATERAL (SELECT FROM $CHILD WHERE xid = x.xid::xid8 AND id > $2 AND id <= $3) AS e ON true") + ") AS c"
)

// measure counts what has come since the last count.
func (t *tally) measure(ctx context.Context, conn *pgx.Conn, f fence) error {
	from := t.position()
	var text string
	var high int64
	if err := conn.QueryRow(ctx, "SELECT pg_current_snapshot()::text, last_value FROM slipway.outbox_id_seq").Scan(&text, &high); err != nil {
		return fmt.Errorf("count outbox backlog: %w", err)
	}
	end, err := parseSnapshot(text)
	if err != nil {
		return err
	}
	n, err := from.count(ctx, conn, target{end: end, high: high, lo: -1})
	if err != nil {
		return fmt.Errorf("count outbox backlog: %w", err)
	}
	t.counted(from, position{done: end, floor: f.floorFor(end, from.floor)}, n)
	return nil
}

// count counts the events between a position and the end of a window, with the plans
// for ranges of ids.
func (p position) count(ctx context.Context, db rower, window target) (n int64, err error) {
	if p.target == nil {
		return count(ctx, db, p, window)
	}
	rest, err := count(ctx, db, p, *p.target)
	if err != nil {
		return 0, err
	}
	n, err = count(ctx, db, p.target.after(), window)
	return n + rest, err
}

// count counts the events of one window that are above its lo.
func count(ctx context.Context, db rower, from position, window target) (total int64, err error) {
	var n int64
	if late := from.done.late(window.end); window.lo < from.floor && len(late) > 0 {
		if err := db.QueryRow(ctx, countLateSQL, late, window.lo, from.floor).Scan(&total); err != nil {
			return 0, err
		}
	}
	for lo := max(window.lo, from.floor); lo < window.high; lo += countWidth {
		err := db.QueryRow(ctx, countSQL, lo, min(lo+countWidth, window.high), from.done.text, window.end.text).Scan(&n)
		if err != nil {
			return 0, err
		}
		total += n
	}
	return total, nil
}
