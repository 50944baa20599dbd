package outbox

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/jackc/pgx/v5/pgconn"
)

// aheadPieces is how many pieces of a backlog the database is asked for before they are
// needed: it works while this process decodes.
const aheadPieces = 4

// ahead reads a target in ranges that hold no more ids than a batch has events: what
// is asked for next does not depend on what the range before held. The questions
// follow each other on the connection, each in a transaction of its own.
type ahead struct {
	pipeline *pgconn.Pipeline
	target   target
	done     string
	width    int64
	asked    int64   // up to this id
	ends     []int64 // of the ranges that were asked for and not read
	last     rowReader
}

// denseSQL reads the events of a window in a range of ids, in any order.
var denseSQL = union("SELECT " + rowColumns + " FROM $CHILD WHERE id + 0 > $1::bigint AND id + 0 <= $2::bigint" +
	" AND NOT pg_visible_in_snapshot(xid, $3::text::pg_snapshot) AND pg_visible_in_snapshot(xid, $4::text::pg_snapshot)")

const denseStatement = "slipway_outbox_dense"

// newAhead begins above the target's lo. The connection must have denseStatement.
func newAhead(ctx context.Context, conn *pgconn.PgConn, t target, done snapshot, width int64) *ahead {
	return &ahead{pipeline: conn.StartPipeline(ctx), target: t, done: done.text, width: width, asked: t.lo}
}

// next returns the events of the next range, sorted, and its end.
func (a *ahead) next() (events []stored, end int64, err error) {
	if err := a.ask(); err != nil {
		return nil, 0, err
	}
	end, a.ends = a.ends[0], a.ends[1:]
	results, err := a.pipeline.GetResults()
	if err != nil {
		return nil, 0, err
	}
	reader, ok := results.(*pgconn.ResultReader)
	if !ok {
		return nil, 0, fmt.Errorf("unexpected answer %T", results)
	}
	var rows rowReader
	rows.like(&a.last)
	for err == nil && reader.NextRow() {
		err = rows.add(reader.Values())
	}
	_, closed := reader.Close()
	if err := errors.Join(err, closed); err != nil {
		return nil, 0, err
	}
	a.last = rows
	if _, err := a.pipeline.GetResults(); err != nil { // that of the end of the transaction
		return nil, 0, err
	}
	events = rows.done()
	sortByID(events)
	return events, end, nil
}

// ask keeps the database busy.
func (a *ahead) ask() error {
	for len(a.ends) < aheadPieces && a.asked < a.target.high {
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
