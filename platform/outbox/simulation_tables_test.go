package outbox

import (
	"context"
	"slices"
	"strconv"
	"time"
)

// The questions of a reader.

func (r *replica) poll(_ context.Context, done snapshot) (w window, err error) {
	err = r.ask(func(db *database) error {
		w.end = db.snapshot()
		r.w.pause(r.w.upTo(time.Millisecond)) // the sequence is read later than the snapshot is taken
		for _, row := range db.rows {
			if db.visible(row, done, w.end) {
				w.events = append(w.events, row.stored)
			}
		}
		w.high = db.seq
		r.shuffle(w.events)
		return nil
	})
	return w, err
}

func (r *replica) late(_ context.Context, xids []string, lo, hi int64) (events []stored, err error) {
	err = r.ask(func(db *database) error {
		events = r.lowest(func(row *row) bool {
			return db.xids[row.xid] == committed && row.id > lo && row.id <= hi && slices.Contains(xids, strconv.FormatUint(row.xid, 10))
		})
		return nil
	})
	if len(events) > 0 {
		r.w.sum.late++
	}
	return events, err
}

func (r *replica) part(_ context.Context, done, end snapshot, lo, hi int64) (events []stored, err error) {
	err = r.ask(func(db *database) error {
		events = r.lowest(func(row *row) bool { return row.id > lo && row.id <= hi && db.visible(row, done, end) })
		return nil
	})
	return events, err
}

// lowest returns a batch of each child, the lowest ids.
func (r *replica) lowest(which func(*row) bool) (events []stored) {
	var taken [children]int
	for _, row := range r.w.db.rows {
		if !row.gone && taken[row.child] < r.relay.cfg.Batch && which(row) {
			taken[row.child]++
			events = append(events, row.stored)
		}
	}
	r.shuffle(events)
	return events
}

func (r *replica) shuffle(events []stored) {
	r.w.rng.Shuffle(len(events), func(i, j int) { events[i], events[j] = events[j], events[i] })
}

func (r *replica) summarize(context.Context) error {
	return r.ask(func(*database) error { return nil })
}

func (r *replica) ahead(_ context.Context, done, end snapshot) ranges {
	r.w.sum.ahead++
	return &asked{r: r, done: done, from: end}
}

// asked is ranges that were asked for.
type asked struct {
	r          *replica
	done, from snapshot
	open       [][2]int64
}

func (a *asked) ask(lo, hi int64) error {
	a.open = append(a.open, [2]int64{lo, hi})
	return nil
}

func (a *asked) answer() (events []stored, size int, err error) {
	span := a.open[0]
	a.open = a.open[1:]
	err = a.r.ask(func(db *database) error {
		for _, row := range db.rows {
			if row.id > span[0] && row.id <= span[1] && db.visible(row, a.done, a.from) {
				events = append(events, row.stored)
			}
		}
		a.r.shuffle(events)
		return nil
	})
	return events, aheadBytes / (1 + a.r.w.rng.IntN(8)), err
}

func (a *asked) close() error { return nil }

// The lease, and what its holder writes.

func (r *replica) sight(context.Context) (s sighting, err error) {
	err = r.write(func(db *database) error {
		s = sighting{term: db.term, beat: db.at.beat, free: db.free}
		return nil
	})
	return s, err
}

func (r *replica) take(_ context.Context, seen sighting) (t taken, ok bool, err error) {
	err = r.write(func(db *database) error {
		last := db.seq
		if ok = db.term == seen.term && db.at.beat == seen.beat; !ok {
			return nil
		}
		xid := db.begin()
		db.term++
		db.free, db.signed = false, r.w.now
		db.end(xid, committed)
		db.write(xid, func() {})
		db.flush()
		t = taken{term: db.term, at: db.at, fence: fence{xid: xid, id: last}}
		r.w.tookOver(r)
		return nil
	})
	return t, ok, err
}

func (r *replica) beat(_ context.Context, term int64, next step) (s state, f fence, err error) {
	err = r.write(func(db *database) error {
		f.id = db.seq
		r.w.pause(r.w.upTo(time.Millisecond)) // others draw ids meanwhile
		if r.fencedOff(term) {
			return errFenced
		}
		xid := db.begin()
		f.xid = xid
		db.store(xid, next)
		s.paused = db.paused
		for _, p := range db.parked {
			s.redrive = s.redrive || p.next != never && p.next <= r.w.now
		}
		return nil
	})
	return s, f, err
}

func (r *replica) save(_ context.Context, term int64, next step, _ bool, p parking) (*time.Time, error) {
	return nil, r.write(func(db *database) error {
		if r.fencedOff(term) {
			return errFenced
		}
		for a, parked := range p {
			db.park(a, parked)
		}
		db.store(db.begin(), next)
		return nil
	})
}

func (r *replica) parked(_ context.Context, term int64) (all []aggregate, err error) {
	err = r.write(func(db *database) error {
		if r.fencedOff(term) {
			return errFenced
		}
		all = db.shelvedAggregates()
		return nil
	})
	return all, err
}

func (r *replica) redriven(_ context.Context, term int64, done redriven) error {
	return r.write(func(db *database) error {
		if r.fencedOff(term) {
			return errFenced
		}
		old, ok := db.parked[done.aggregate]
		if !ok {
			return nil
		}
		now := old
		now.events = slices.DeleteFunc(slices.Clone(old.events), func(row *row) bool { return slices.Contains(done.sent, row.id) })
		if done.err != nil && done.redrives == old.redrives {
			now.attempts, now.next = done.attempts, db.dueIn(done.delay)
		}
		r.w.sum.redriven += len(done.sent)
		r.w.logf("%v: %d parked events were sent, empty %t, attempts %d, next at %s: %v", done.aggregate, len(done.sent), done.empty, now.attempts, now.next, done.err)
		if done.empty && len(now.events) > 0 {
			r.w.fail("%v is taken for empty, and has parked events", done.aggregate)
		}
		db.shelve(done.aggregate, now, !done.empty)
		return nil
	})
}

func (r *replica) beginReplay(context.Context, int64, int64) (extent, error) { return extent{}, nil }

func (r *replica) replayed(context.Context, int64, repeated) error { return nil }

func (r *replica) fold(context.Context) (bool, error) { return false, nil }

func (r *replica) free(_ context.Context, term int64) error {
	return r.write(func(db *database) error {
		if db.term == term {
			db.free, db.signed = true, r.w.now
			db.write(0, func() { db.free = false })
		}
		return nil
	})
}

// What a holder of the lease looks at.

func (r *replica) due(context.Context) (all []due, err error) {
	err = r.ask(func(db *database) error {
		for _, a := range db.shelvedAggregates() {
			if p := db.parked[a]; p.next != never && p.next <= r.w.now {
				all = append(all, due{a, p.attempts, p.redrives})
			}
		}
		return nil
	})
	return all, err
}

func (r *replica) events(_ context.Context, a aggregate, limit int) (events []stored, err error) {
	err = r.ask(func(db *database) error {
		for _, row := range db.parked[a].events {
			if len(events) < limit {
				events = append(events, row.stored)
			}
		}
		return nil
	})
	return events, err
}

func (r *replica) count(context.Context) (int64, error) {
	return 0, r.ask(func(*database) error { return nil })
}

func (r *replica) end(context.Context) (lsn string, err error) {
	err = r.ask(func(db *database) error {
		lsn = strconv.Itoa(db.flushed + len(db.log))
		return nil
	})
	return lsn, err
}

func (r *replica) flushed(_ context.Context, lsn string) (safe bool, err error) {
	err = r.ask(func(db *database) error {
		at, err := strconv.Atoi(lsn)
		safe = db.flushed >= at
		return err
	})
	return safe, err
}
