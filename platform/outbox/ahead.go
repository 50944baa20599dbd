package outbox

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/jackc/pgx/v5/pgconn"
)

const (
	// aheadRanges is how many ranges of a backlog the database is asked for before they
	// are needed: it works while this process decodes.
	aheadRanges = 4
	// aheadBatches and aheadBytes bound a range: finding it costs the more the longer the
	// table is, so it holds many batches, as long as they are not large.
	aheadBatches = 16
	aheadBytes   = 8 << 20
)

// ahead reads a target in ranges of ids and gives it out in batches: what is asked for
// next does not depend on what the range before held. The questions follow each other
// on the connection, each in a transaction of its own.
type ahead struct {
	pipeline *pgconn.Pipeline
	target   target
	done     string
	batch    int
	width    int64
	asked    int64   // up to this id
	ends     []int64 // of the ranges that were asked for and not read
	last     rowReader
	rest     []stored // of the range that was read last
	end      int64    // of that range
	sparse   bool     // it held few events for its ids
}

// denseSQL reads the events of a window in a range of ids, in any order.
var denseSQL = union("SELECT " + rowColumns + " FROM $CHILD WHERE id + 0 > $1::bigint AND id + 0 <= $2::bigint" +
	" AND NOT pg_visible_in_snapshot(xid, $3::text::pg_snapshot) AND pg_visible_in_snapshot(xid, $4::text::pg_snapshot)")

const denseStatement = "slipway_outbox_dense"

// newAhead begins above the target's lo. The connection must have denseStatement.
func newAhead(ctx context.Context, conn *pgconn.PgConn, t target, done snapshot, batch int) *ahead {
	return &ahead{
		pipeline: conn.StartPipeline(ctx), target: t, done: done.text, batch: batch, width: int64(batch), asked: t.lo, end: t.lo,
	}
}

// next returns a batch of events, the lowest first, and the id up to which there are
// no others.
func (a *ahead) next() (events []stored, end int64, err error) {
	if len(a.rest) == 0 {
		if err := a.read(); err != nil {
			return nil, 0, err
		}
	}
	if len(a.rest) <= a.batch {
		events, a.rest = a.rest, nil
		return events, a.end, nil
	}
	events, a.rest = a.rest[:a.batch:a.batch], a.rest[a.batch:]
	return events, events[a.batch-1].id, nil
}

// read reads the next range.
func (a *ahead) read() error {
	if err := a.ask(); err != nil {
		return err
	}
	from := a.end
	a.end, a.ends = a.ends[0], a.ends[1:]
	results, err := a.pipeline.GetResults()
	if err != nil {
		return err
	}
	reader, ok := results.(*pgconn.ResultReader)
	if !ok {
		return fmt.Errorf("unexpected answer %T", results)
	}
	var rows rowReader
	rows.like(&a.last)
	for err == nil && reader.NextRow() {
		err = rows.add(reader.Values())
	}
	_, closed := reader.Close()
	if err := errors.Join(err, closed); err != nil {
		return err
	}
	if _, err := a.pipeline.GetResults(); err != nil { // that of the end of the transaction
		return err
	}
	a.last, a.rest = rows, rows.done()
	sortByID(a.rest)
	a.sparse = int64(len(a.rest)) <= (a.end-from)/4
	a.widen()
	return nil
}

// widen fits the ranges that are asked for from now on to the size of the events.
func (a *ahead) widen() {
	if n := len(a.last.events); n > 0 {
		size := (len(a.last.text)+len(a.last.payload))/n + 1
		a.width = int64(max(a.batch, min(aheadBytes/size, aheadBatches*a.batch)))
	}
}

// ask keeps the database busy.
func (a *ahead) ask() error {
	for len(a.ends) < aheadRanges && a.asked < a.target.high {
		from := a.asked
		a.asked = min(from+a.width, a.target.high)
		a.ends = append(a.ends, a.asked)
		a.pipeline.SendQueryPrepared(denseStatement, [][]byte{
			strconv.AppendInt(nil, from, 10), strconv.AppendInt(nil, a.asked, 10), []byte(a.done), []byte(a.target.end.text),
		}, nil, []int16{1})
		if err := a.pipeline.Sync(); err != nil {
			return err
		}
	}
	return nil
}

// close waits for what was asked for and gives the connection back.
func (a *ahead) close() error { return a.pipeline.Close() }
