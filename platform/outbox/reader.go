package outbox

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

const children = 3

// chunk is a piece of a window, sorted by id, with the position after it.
type chunk struct {
	events []stored
	after  position
	// end is the snapshot that its window ends with.
	end string
	// now is the database's clock at the time of reading.
	now time.Time
}

// reader reads one window after the other, from where the position is. It owns its
// connection: the plans depend on the session's settings.
type reader struct {
	conn    *pgx.Conn
	batch   int
	pos     position
	fence   func() fence
	pollSQL string
	lateSQL string
	partSQL string
	// width of the next range of ids to read of a target.
	width int64
	ahead *ahead // nil as long as ranges are wider than a batch
}

// The plans are fixed: each query has one index that it must use, and the statistics
// of a table that is emptied all the time would suggest to read it whole. They are made
// once: a new one for each poll would cost the database three times what the poll does.
const session = `SET default_transaction_isolation = 'read committed'; SET enable_seqscan = off; SET jit = off; SET max_parallel_workers_per_gather = 0;
SET plan_cache_mode = force_generic_plan;
SET statement_timeout = '60s'; SET idle_in_transaction_session_timeout = '10s'`

func newReader(ctx context.Context, conn *pgx.Conn, batch int, pos position, f func() fence) (*reader, error) {
	if _, err := conn.Exec(ctx, session, pgx.QueryExecModeSimpleProtocol); err != nil {
		return nil, fmt.Errorf("prepare session of outbox reader: %w", err)
	}
	if _, err := conn.Prepare(ctx, denseStatement, denseSQL); err != nil {
		return nil, fmt.Errorf("prepare outbox reader: %w", err)
	}
	r := &reader{
		conn: conn, batch: batch, pos: pos, fence: f,
		pollSQL: pollSQL(batch), lateSQL: lateSQL(batch), partSQL: partSQL(batch),
	}
	if pos.target == nil {
		return r, nil
	}
	return r, r.begin(ctx)
}

// union writes one query for each child: addressed directly, they keep the order of
// their index and a literal LIMIT, which a plan over the parent would not.
func union(query string) string {
	parts := make([]string, children)
	for i := range parts {
		parts[i] = "(" + strings.ReplaceAll(query, "$CHILD", fmt.Sprintf("slipway.outbox_%d", i)) + ")"
	}
	return strings.Join(parts, " UNION ALL ")
}

// pollSQL reads a whole window if it fits into a batch: the statement's own snapshot
// is the end of the window, and one row says which that is. One row more than the
// batch from any part means that it does not fit. LIMIT is a literal: with a
// parameter the plan could be a sort of the backlog.
func pollSQL(batch int) string {
	return "SELECT NULL::xid8, last_value, clock_timestamp(), 0::bigint, NULL::uuid, 0, '', '', '', NULL::bytea, pg_current_snapshot()::text, true" +
		" FROM slipway.outbox_id_seq UNION ALL " +
		union(fmt.Sprintf("SELECT %s FROM $CHILD WHERE xid >= $1::text::xid8 ORDER BY xid, id LIMIT %d", rowColumns, batch+1)) + " UNION ALL " +
		union(fmt.Sprintf("SELECT e.* FROM unnest($2::text[]) AS x(xid) CROSS JOIN LATERAL (SELECT %s FROM $CHILD WHERE xid = x.xid::xid8 ORDER BY id LIMIT %d) e",
			rowColumns, batch+1))
}

// lateSQL reads events of transactions that were running at the window's beginning,
// in a range of ids.
func lateSQL(batch int) string {
	return union(fmt.Sprintf("SELECT e.* FROM unnest($1::text[]) AS x(xid) CROSS JOIN LATERAL"+
		" (SELECT %s FROM $CHILD WHERE xid = x.xid::xid8 AND id > $2 AND id <= $3 ORDER BY id LIMIT %d) e", rowColumns, batch))
}

// partSQL reads the events of a window in a range of ids.
func partSQL(batch int) string {
	return union(fmt.Sprintf("SELECT %s FROM $CHILD WHERE id + 0 > $1 AND id + 0 <= $2 AND NOT pg_visible_in_snapshot(xid, $3)"+
		" AND pg_visible_in_snapshot(xid, $4) ORDER BY id LIMIT %d", rowColumns, batch))
}

// next returns the next piece. Without events it is all that there is: the position
// has moved on to now.
func (r *reader) next(ctx context.Context) (chunk, error) {
	if r.pos.target == nil {
		c, fits, err := r.poll(ctx)
		if err != nil || fits {
			return c, err
		}
	}
	return r.part(ctx)
}

// poll reads the window up to now if it fits into a batch. Otherwise it becomes the
// target.
func (r *reader) poll(ctx context.Context) (c chunk, fits bool, err error) {
	f := r.fence()
	rows, err := r.conn.Query(ctx, r.pollSQL, binaryFormat, fmt.Sprint(r.pos.done.xmax), r.pos.done.runningText())
	if err != nil {
		return c, false, fmt.Errorf("read outbox window: %w", err)
	}
	var high int64
	var text string
	c.events, err = collect(rows, func(s *stored) { high, text, c.now = s.id, s.headers, s.createdAt })
	if err != nil {
		return c, false, fmt.Errorf("read outbox window: %w", err)
	}
	end, err := parseSnapshot(text)
	if err != nil {
		return c, false, err
	}
	floor := f.floorFor(end, r.pos.floor)
	if len(c.events) > r.batch {
		r.pos.target = &target{end: end, high: high, floor: floor, lo: -1}
		return c, false, r.begin(ctx)
	}
	r.pos = position{done: end, floor: floor}
	sortByID(c.events)
	c.after, c.end = r.pos, end.text
	return c, true, nil
}

// begin prepares for a target. The index of ids is completed, as far as that has not
// been done by itself; without the right to do so reading is only slower.
func (r *reader) begin(ctx context.Context) error {
	r.width = int64(r.batch)
	for i := range children {
		_, err := r.conn.Exec(ctx, fmt.Sprintf("SELECT brin_summarize_new_values('slipway.outbox_%d_expr_created_at_idx')", i))
		if err != nil && r.conn.IsClosed() {
			return fmt.Errorf("summarize outbox index: %w", err)
		}
	}
	return nil
}

// part reads the next piece of the target that has events: first those of late
// transactions up to the floor, which are few and far between, then by ranges of
// ids. In both the pieces are ordered by id, and all ids of the first are below
// those of the second.
func (r *reader) part(ctx context.Context) (chunk, error) {
	for {
		c, err := r.step(ctx)
		if err != nil {
			return c, fmt.Errorf("read outbox backlog: %w", err)
		}
		if len(c.events) > 0 || r.pos.target == nil {
			return c, nil
		}
	}
}

func (r *reader) step(ctx context.Context) (chunk, error) {
	t := *r.pos.target
	var events []stored
	var err error
	end := r.pos.floor
	switch {
	case t.lo < r.pos.floor:
		events, end, err = r.query(ctx, end, r.lateSQL, r.pos.done.late(t.end), t.lo, end)
	case r.width <= int64(r.batch):
		if r.ahead == nil {
			r.ahead = newAhead(ctx, r.conn.PgConn(), t, r.pos.done, r.batch)
		}
		events, end, err = r.ahead.next()
	default:
		end = min(t.lo+r.width, t.high)
		events, end, err = r.query(ctx, end, r.partSQL, t.lo, end, r.pos.done.text, t.end.text)
	}
	if err != nil {
		return chunk{}, err
	}
	if t.lo = end; t.lo >= t.high {
		r.pos = t.after()
	} else {
		r.pos.target = &t
	}
	return chunk{events: events, after: r.pos, end: t.end.text}, r.adapt(len(events))
}

// query returns a batch of the events up to the id end, the lowest first, and the id up
// to which there are no others.
func (r *reader) query(ctx context.Context, end int64, sql string, args ...any) ([]stored, int64, error) {
	rows, err := r.conn.Query(ctx, sql, append([]any{binaryFormat}, args...)...)
	if err != nil {
		return nil, 0, err
	}
	events, err := collect(rows, nil)
	sortByID(events)
	if len(events) >= r.batch { // each child gave its lowest ids, so the lowest of all are complete
		events = events[:r.batch]
		end = events[r.batch-1].id
	}
	return events, end, err
}

// adapt widens the range over ids that were drawn and rolled back. Reading ahead ends
// with that, and with the target.
func (r *reader) adapt(found int) error {
	if r.ahead != nil && r.pos.target != nil && (len(r.ahead.rest) > 0 || !r.ahead.sparse) {
		return nil
	}
	r.width = min(2*r.width, 64*int64(r.batch))
	if found > r.batch/4 {
		r.width = int64(r.batch)
	}
	if r.ahead == nil {
		return nil
	}
	err := r.ahead.close()
	r.ahead = nil
	return err
}

func sortByID(events []stored) {
	slices.SortFunc(events, func(a, b stored) int { return cmp.Compare(a.id, b.id) })
}
