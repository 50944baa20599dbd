package outbox

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// position is how far a sink has come. Everything that is visible in done is
// settled: published, or parked.
//
// The next window holds the events that are visible in some later snapshot and not
// in done, sorted by id. It is complete, and it keeps the order of each aggregate:
// if T1 committed before T2 added its event, every snapshot that sees T2 sees T1,
// so T1's event is in the same or in an earlier window; and T2 drew its id after
// T1's commit, so it is larger. (The idea is that of PgQ's ticks. Cutting at an
// xid instead, as in "xid < xmin", breaks the order: xids are drawn at the first
// write of a transaction, not when it locks the aggregate.)
type position struct {
	done snapshot
	// floor: every transaction from done.xmax on has drawn only ids above it.
	floor int64
	// target is the window that is being worked through in pieces, nil if there is
	// none: a window that does not fit into one batch.
	target *target
}

// target is a window by pieces: [position.done, end).
type target struct {
	end snapshot
	// high is not below any id that is visible in end.
	high int64
	// floor is that of the position after it.
	floor int64
	// lo: its events up to this id are settled.
	lo int64
}

// after returns the position when the target is worked through.
func (t *target) after() position { return position{done: t.end, floor: t.floor} }

// fence is a moment on the clock of ids: transactions from xid on draw only ids
// above id. A relay makes one with each of its own transactions, by reading the
// sequence before it draws its xid. It holds for a snapshot that sees xid.
type fence struct {
	xid uint64
	id  int64
}

// floorFor returns the floor that goes with a snapshot.
func (f fence) floorFor(s snapshot, old int64) int64 {
	if f.xid != 0 && s.xmax > f.xid {
		return max(old, f.id)
	}
	return old
}

// stepColumns are the position as the tables have it.
const stepColumns = "snapshot, floor, target, target_high, target_floor, target_done"

// step is a stored position: the how manieth it is, and when something was last
// published.
type step struct {
	position

	beat        int64
	publishedAt *time.Time
}

// readStep returns where a sink is.
func readStep(ctx context.Context, db rower, sink string) (s step, err error) {
	var done string
	var end *string
	var high, floor, lo *int64
	err = db.QueryRow(ctx, `SELECT snapshot::text, floor, target::text, target_high, target_floor, target_done, beat, published_at
		FROM slipway.outbox_position WHERE sink = $1`, sink).Scan(&done, &s.floor, &end, &high, &floor, &lo, &s.beat, &s.publishedAt)
	if err != nil {
		return s, fmt.Errorf("read position of sink %q: %w", sink, err)
	}
	if s.done, err = parseSnapshot(done); err != nil {
		return s, err
	}
	if end == nil || high == nil || floor == nil || lo == nil {
		return s, nil // half a target is none: the window is read again
	}
	s.target = &target{high: *high, floor: *floor, lo: *lo}
	s.target.end, err = parseSnapshot(*end)
	return s, err
}

// rower is a pool, a connection or a transaction.
type rower interface {
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}
