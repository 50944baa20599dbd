package outbox

import (
	"fmt"
	"time"
)

func (r *row) String() string {
	return fmt.Sprintf("event %d of transaction %d, version %d of %s", r.id, r.xid, r.aggregateVersion, r.aggregateID())
}

// hear is a consumer: of each aggregate it gets every version once, in order, and may get those again
// that it had.
func (w *world) hear(r *row) {
	if w.db.xids[r.xid] != committed || r.gone {
		w.fail("%s is delivered, and is not committed", r)
	}
	if r.discarded { // too late: it was on its way
		return
	}
	agg := int(r.aggregateID()[0] - '0')
	if r.delivered++; r.delivered > 1 {
		w.sum.repeated++
		w.logf("%s is delivered again", r)
		return
	}
	w.logf("%s is delivered", r)
	w.sum.delivered++
	next := w.heard[agg] + 1
	for w.gaveUp(agg, next) {
		next++
	}
	if r.aggregateVersion != next {
		w.fail("%s is delivered, the next version is %d", r, next)
	}
	w.heard[agg] = r.aggregateVersion
}

// gaveUp tells whether an operator has discarded a version.
func (w *world) gaveUp(agg int, version int64) bool {
	for _, r := range w.db.rows {
		if r.discarded && r.delivered == 0 && r.aggregateVersion == version && int(r.aggregateID()[0]-'0') == agg {
			return true
		}
	}
	return false
}

// sends is a relay that publishes: what was acknowledged is published again only in another term, and
// then no more than what may be in hand: the batch that is published, what is owed, which is less than
// another, and one of parked events. A crash of the database may cost more. A relay on a machine that was
// suspended still believes in its term, and may find parked what it has published itself.
func (w *world) sends(r *row, term int64) {
	if r.acked == 0 || r.again == term {
		return
	}
	r.again = term
	if r.acked == term && (term == w.db.term || !w.suspended) {
		w.fail("%s is published again in the same term", r)
	}
	if w.acks[term]++; w.acks[term] > 3*w.batch && w.sum.databases == 0 {
		w.fail("%d events that had been acknowledged are published again in term %d", w.acks[term], term)
	}
}

// tookOver is a replica that has taken the lease: no other may believe that it has it.
func (w *world) tookOver(by *replica) {
	w.sum.terms++
	for _, r := range w.replicas {
		if r != by && r.term != nil && r.ledger.holds() && !r.ended && !w.suspended && w.sum.databases == 0 {
			w.fail("%s has taken the lease that %s believes to hold", by, r)
		}
	}
}

// takeover is how long a dead lease may stay with its holder when a standby looks on: until the look that sees the
// last sign of life, for a lease, and until the look after that. Two looks are a quarter of a lease apart, and the
// questions to the database take some milliseconds.
const takeover = lease + 2*lease/4 + 50*time.Millisecond

// standsBy says that no standby leaves a dead lease alone.
func (w *world) standsBy() {
	for _, r := range w.replicas {
		if began := max(w.db.signed, r.since, r.awake); r.stands && w.now-began > takeover {
			w.fail("%s stands by for %s, and there is no sign of life", r, w.now-began)
		}
	}
}

// publishes is a replica that is about to publish: it believes to hold the lease, and must be right.
func (w *world) publishes(r *replica) {
	if !r.ledger.holds() {
		w.fail("%s publishes, and does not believe to hold the lease", r)
	}
	if r.ledger.term != w.db.term && !w.suspended && w.sum.databases == 0 {
		w.fail("%s publishes in term %d and believes in it, in term %d", r, r.ledger.term, w.db.term)
	}
}

// fencedOff refuses what a stale replica writes.
func (r *replica) fencedOff(term int64) bool {
	if term == r.w.db.term {
		return false
	}
	r.w.sum.refused++
	r.w.logf("%s: its write is refused", r)
	return true
}

// inspect says of a stored position that it is not behind the one before it, that everything before it
// is settled, and that nothing can be added there.
func (w *world) inspect(old, pos position) {
	if old.done.xmax > pos.done.xmax || old.done.text == pos.done.text && old.target != nil && (pos.target == nil || pos.target.lo < old.target.lo) {
		w.fail("a position is stored that is behind the one before it")
	}
	for _, r := range w.db.rows {
		w.checkFloor(r, pos)
		if w.db.xids[r.xid] != committed || r.gone {
			continue
		}
		t := pos.target
		behind := pos.done.sees(r.xid) || t != nil && t.end.sees(r.xid) && r.id <= t.lo
		if behind && r.delivered == 0 && !r.discarded && !w.isParked(r) {
			w.fail("%s is before the stored position, and neither delivered nor parked", r)
		}
		if t != nil && t.end.sees(r.xid) && r.id > t.high {
			w.fail("%s is above the end of its window, %d", r, t.high)
		}
	}
}

func (w *world) isParked(r *row) bool {
	for _, e := range w.db.parked[r.aggregate()].events {
		if e == r {
			return true
		}
	}
	return false
}

// checkFloor says that the transactions after a position have drawn ids above its floor only.
func (w *world) checkFloor(r *row, pos position) {
	if r.xid >= pos.done.xmax && r.id <= pos.floor {
		w.fail("%s is not above the floor %d of a position that ends with %d", r, pos.floor, pos.done.xmax)
	}
	if t := pos.target; t != nil && r.xid >= t.end.xmax && r.id <= t.floor {
		w.fail("%s is not above the floor %d of a target that ends with %d", r, t.floor, t.end.xmax)
	}
}

// settled tells whether all that happened has been told.
func (w *world) settled() bool {
	if w.clients > 0 || len(w.db.parked) > 0 {
		return false
	}
	for _, r := range w.db.rows {
		if w.db.xids[r.xid] == committed && !r.gone && !r.discarded && r.delivered == 0 {
			return false
		}
	}
	return true
}

func (p position) String() string {
	text := fmt.Sprintf("done %d:%d:%v floor %d", p.done.xmin, p.done.xmax, p.done.running, p.floor)
	if t := p.target; t != nil {
		text += fmt.Sprintf(", until %d:%d:%v high %d floor %d lo %d", t.end.xmin, t.end.xmax, t.end.running, t.high, t.floor, t.lo)
	}
	return text
}
