package outbox

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

const children = 3

// windowTables is source on a connection of its own: the plans depend on the session's
// settings.
type windowTables struct {
	conn                               *pgx.Conn
	batch                              int
	nearSQL, pollSQL, lateSQL, partSQL string
	rows                               rowReader // of polls
}

// The plans are fixed: each query has one index that it must use, and the statistics
// of a table that is emptied all the time would suggest to read it whole. They are made
// once: a new one for each poll would cost the database three times what the poll does.
const session = `SET default_transaction_isolation = 'read committed'; SET enable_seqscan = off; SET jit = off; SET max_parallel_workers_per_gather = 0;
SET plan_cache_mode = force_generic_plan;
SET statement_timeout = '60s'; SET idle_in_transaction_session_timeout = '10s'`

func newWindowTables(ctx context.Context, conn *pgx.Conn, batch int) (*windowTables, error) {
	if _, err := conn.Exec(ctx, session, pgx.QueryExecModeSimpleProtocol); err != nil {
		return nil, fmt.Errorf("prepare session of outbox reader: %w", err)
	}
	if _, err := conn.Prepare(ctx, denseStatement, denseSQL); err != nil {
		return nil, fmt.Errorf("prepare outbox reader: %w", err)
	}
	return &windowTables{
		conn: conn, batch: batch, nearSQL: nearSQL(batch), pollSQL: pollSQL(batch), lateSQL: lateSQL(batch), partSQL: partSQL(batch),
	}, nil
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

// endSQL is the row that says where a window ends: with the snapshot of the statement.
const endSQL = "SELECT NULL::xid8, last_value, clock_timestamp(), 0::bigint, NULL::uuid, 0, '', '', '', NULL::bytea, pg_current_snapshot()::text, true" +
	" FROM slipway.outbox_id_seq UNION ALL "

// nearSQL reads a whole window if it fits into a batch: one row more from any child means
// that it does not. It passes what was over before as far back as the oldest transaction
// that was not: for a short way that costs less than to look each of them up. LIMIT is a
// literal: with a parameter the plan could be a sort of the backlog.
func nearSQL(batch int) string {
	return endSQL + union(fmt.Sprintf("SELECT %s FROM $CHILD WHERE xid >= $1::text::xid8 AND NOT pg_visible_in_snapshot(xid, $2) ORDER BY xid, id LIMIT %d",
		rowColumns, batch+1))
}

// pollSQL does the same when somebody has been at work for long: it looks up each
// transaction that was not over.
func pollSQL(batch int) string {
	return endSQL +
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

// denseSQL reads the events of a window in a range of ids, in any order.
var denseSQL = union("SELECT " + rowColumns + " FROM $CHILD WHERE id + 0 > $1::bigint AND id + 0 <= $2::bigint" +
	" AND NOT pg_visible_in_snapshot(xid, $3::pg_snapshot) AND pg_visible_in_snapshot(xid, $4::pg_snapshot)")

const denseStatement = "slipway_outbox_dense"

func (t *windowTables) poll(ctx context.Context, done snapshot) (w window, err error) {
	sql, args := t.pollSQL, []any{rowFormats, strconv.FormatUint(done.xmax, 10), done.runningText()}
	if done.xmax-done.xmin <= uint64(t.batch) {
		sql, args = t.nearSQL, []any{rowFormats, strconv.FormatUint(done.xmin, 10), done.text}
	}
	rows, err := t.conn.Query(ctx, sql, args...)
	if err != nil {
		return w, err
	}
	var text string
	w.events, err = t.rows.collect(rows, func(s *stored) { w.high, text, w.now = s.id, s.headers(), s.createdAt })
	if err != nil {
		return w, err
	}
	w.end, err = parseSnapshot(text)
	return w, err
}

func (t *windowTables) late(ctx context.Context, xids []string, lo, hi int64) ([]stored, error) {
	return t.query(ctx, t.lateSQL, xids, lo, hi)
}

func (t *windowTables) part(ctx context.Context, done, end snapshot, lo, hi int64) ([]stored, error) {
	return t.query(ctx, t.partSQL, lo, hi, done.text, end.text)
}

func (t *windowTables) query(ctx context.Context, sql string, args ...any) ([]stored, error) {
	rows, err := t.conn.Query(ctx, sql, append([]any{rowFormats}, args...)...)
	if err != nil {
		return nil, err
	}
	return collect(rows)
}

func (t *windowTables) summarize(ctx context.Context) error {
	for i := range children {
		if err := completeIndex(ctx, t.conn, i); err != nil {
			return err
		}
	}
	return nil
}

// completeIndex completes a child's index of ids, as far as autovacuum has not, but for the
// last range of pages: with that in it each new event changes the index, which costs who adds it
// about a tenth. A range that is missing is read whole. It needs a right that not everybody
// has: without it reading is only slower, and the error is one of the connection only.
func completeIndex(ctx context.Context, conn *pgx.Conn, child int) error {
	_, err := conn.Exec(ctx, fmt.Sprintf(`SELECT brin_summarize_new_values('slipway.outbox_%d_expr_created_at_idx'),
		brin_desummarize_range('slipway.outbox_%[1]d_expr_created_at_idx', greatest(pg_relation_size('slipway.outbox_%[1]d') / current_setting('block_size')::int - 1, 0))`, child))
	if err != nil && conn.IsClosed() {
		return err
	}
	return nil
}

func (t *windowTables) ahead(ctx context.Context, done, end snapshot) ranges {
	return &pipeline{pipeline: t.conn.PgConn().StartPipeline(ctx), done: []byte(done.text), end: []byte(end.text)}
}

// pipeline is ranges: the questions follow each other on the connection, each in a
// transaction of its own.
type pipeline struct {
	pipeline  *pgconn.Pipeline
	done, end []byte
	rows      rowReader
}

func (p *pipeline) ask(lo, hi int64) error {
	p.pipeline.SendQueryPrepared(denseStatement, [][]byte{strconv.AppendInt(nil, lo, 10), strconv.AppendInt(nil, hi, 10), p.done, p.end}, nil, rowFormats)
	return p.pipeline.Sync()
}

func (p *pipeline) answer() (events []stored, size int, err error) {
	results, err := p.pipeline.GetResults()
	if err != nil {
		return nil, 0, err
	}
	reader, ok := results.(*pgconn.ResultReader)
	if !ok {
		return nil, 0, fmt.Errorf("unexpected answer %T", results)
	}
	for err == nil && reader.NextRow() {
		err = p.rows.add(reader.Values())
	}
	_, closed := reader.Close()
	if err := errors.Join(err, closed); err != nil {
		return nil, 0, err
	}
	if _, err := p.pipeline.GetResults(); err != nil { // that of the end of the transaction
		return nil, 0, err
	}
	text, payload := len(p.rows.text), len(p.rows.payload)
	events = p.rows.done()
	return events, (text+payload)/max(1, len(events)) + 1, nil
}

func (p *pipeline) close() error { return p.pipeline.Close() }
