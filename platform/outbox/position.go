package outbox

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
