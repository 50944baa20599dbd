package outbox

import (
	"encoding/binary"
	"fmt"
	"iter"
	"math/rand/v2"
	"slices"
	"time"
)

// aggregates is how many there are.
const aggregates = 3

// task is something that goes on: a client, a loop of a replica, an operator. It runs until it pauses.
type task struct {
	who    *replica // nil outside of the replicas
	at     time.Duration
	resume func() (time.Duration, bool)
	stop   func()
	yield  func(time.Duration) bool
	idle   bool // others may end its pause
}

// world is one simulated life of an outbox, its clients, its replicas, and its broker.
type world struct {
	rng       *rand.Rand
	rates     rates
	now       time.Duration
	tasks     []*task
	current   *task
	steps     int
	tracing   bool
	trace     []string
	broken    string // the first rule that did not hold
	sum       witnessed
	metrics   *metrics
	batch     int
	snapshots int

	db        *database
	replicas  []*replica
	clients   int // that are not done
	restarted time.Duration
	away      time.Duration // until when the broker is
	inserted  []*row        // by serial number, from 1
	heard     map[int]int64 // the last version of each aggregate that has been delivered
	suspended bool          // a clock has stood still
	acks      map[int64]int // events of earlier terms that were published again, by term
}

// rates says how bad the world is.
type rates struct {
	rollback, savepoint, async, early, long float64 // of transactions
	connection, crash, stall, suspend, stop float64 // of replicas
	database                                float64
	refuse, lostAck, late, away, poison     float64 // of the broker
	operator                                float64
}

func randomRates(rng *rand.Rand) (r rates) {
	some := func(most float64) float64 {
		if rng.IntN(2) == 0 {
			return 0
		}
		return most * rng.Float64()
	}
	r = rates{
		rollback: some(0.5), savepoint: some(0.3), async: some(1), early: some(1), long: some(0.4),
		connection: some(0.02), crash: some(0.02), stall: some(0.02), stop: some(0.01), database: some(0.008),
		refuse: some(0.2), lostAck: some(0.2), late: some(0.2), away: some(0.05), poison: some(0.1), operator: some(0.02),
	}
	if rng.IntN(4) == 0 {
		r.suspend = some(0.02)
	}
	return r
}

// killed ends a task amid what it does.
var killed = new(int)

func (w *world) spawn(who *replica, do func()) *task {
	t := &task{who: who, at: w.now}
	t.resume, t.stop = iter.Pull(func(yield func(time.Duration) bool) {
		defer func() {
			if why := recover(); why != nil && why != killed {
				panic(why)
			}
		}()
		t.yield = yield
		do()
	})
	w.tasks = append(w.tasks, t)
	return t
}

// pause lets others go on.
func (w *world) pause(d time.Duration) {
	if !w.current.yield(d) {
		panic(killed)
	}
}

// kill ends a task where it is. If that is the current one, kill does not return.
func (w *world) kill(t *task) {
	if i := slices.Index(w.tasks, t); i >= 0 {
		w.tasks = slices.Delete(w.tasks, i, i+1)
	}
	if t == w.current {
		panic(killed)
	}
	t.stop()
}

// run lets time pass until done.
func (w *world) run(done func() bool) {
	for w.broken == "" && !done() {
		next := w.tasks[0]
		for _, t := range w.tasks[1:] {
			if t.at < next.at {
				next = t
			}
		}
		w.now = max(w.now, next.at)
		w.standsBy()
		if w.steps++; w.steps > endAfter {
			w.fail("it does not end")
		}
		w.current = next
		d, more := next.resume()
		w.current = nil
		if !more {
			w.tasks = slices.DeleteFunc(w.tasks, func(t *task) bool { return t == next })
			continue
		}
		next.at = w.now + d
	}
}

// over stops everything.
func (w *world) over() {
	for len(w.tasks) > 0 {
		w.kill(w.tasks[len(w.tasks)-1])
	}
}

func (w *world) logf(format string, args ...any) {
	if w.tracing {
		w.trace = append(w.trace, fmt.Sprintf("%8.1fms  ", float64(w.now)/1e6)+fmt.Sprintf(format, args...))
	}
}

func (w *world) fail(format string, args ...any) {
	if w.broken == "" {
		w.broken = fmt.Sprintf(format, args...)
		w.logf("BROKEN: %s", w.broken)
	}
}

func (w *world) chance(p float64) bool { return p > 0 && w.rng.Float64() < p }

func (w *world) upTo(d time.Duration) time.Duration { return time.Duration(w.rng.Int64N(int64(d))) }

func (w *world) row(payload []byte) *row { return w.inserted[binary.BigEndian.Uint64(payload)-1] }

// client does one transaction after the other.
func (w *world) client() {
	for range 2 + w.rng.IntN(4) {
		w.pause(w.upTo(300 * time.Millisecond))
		w.transact()
	}
	w.clients--
}

// transact locks an aggregate, adds its next events, and commits. Some transactions have written
// elsewhere before: their xid says nothing about the order in which they had the lock.
func (w *world) transact() {
	db, life := w.db, w.db.epoch
	var xid uint64
	if w.chance(w.rates.early) {
		xid = db.begin()
		w.pause(w.upTo(w.duration()))
	}
	agg := w.rng.IntN(aggregates)
	for life == db.epoch && db.locks[agg] {
		w.pause(w.upTo(100 * time.Millisecond))
	}
	if life != db.epoch {
		return
	}
	db.locks[agg] = true
	if xid == 0 {
		xid = db.begin()
	}
	async := w.chance(w.rates.async)
	var rows []*row
	version := db.versions[agg]
	for range 1 + w.rng.IntN(3) {
		version++
		rows = append(rows, db.insert(xid, agg, version, !async))
		if w.rng.IntN(4) == 0 {
			if w.pause(w.upTo(2 * time.Millisecond)); life != db.epoch {
				return
			}
		}
	}
	if w.chance(w.rates.savepoint) {
		for cut := w.rng.IntN(len(rows)); cut < len(rows); cut++ {
			rows[cut].gone = true
			version--
		}
	}
	if w.pause(w.upTo(w.duration())); life != db.epoch {
		return
	}
	if w.chance(w.rates.rollback) {
		w.logf("transaction %d is rolled back", xid)
		db.end(xid, aborted)
		delete(db.locks, agg)
		return
	}
	before := db.versions[agg]
	db.write(xid, func() {
		db.xids[xid] = aborted
		db.versions[agg] = before
	})
	if !async {
		if w.pause(w.upTo(3 * time.Millisecond)); life != db.epoch {
			return
		}
		db.flush()
	}
	w.logf("transaction %d is committed", xid)
	db.versions[agg] = version
	db.end(xid, committed)
	w.sum.committed++
	w.pause(w.upTo(time.Millisecond / 2)) // locks go after the transaction is over
	if life == db.epoch {
		delete(db.locks, agg)
	}
}

func (w *world) duration() time.Duration {
	if w.chance(w.rates.long) {
		return 2 * time.Second
	}
	return 5 * time.Millisecond
}

// weather is what happens to the database, the broker and the replicas from outside.
func (w *world) weather() {
	for {
		w.pause(w.upTo(100 * time.Millisecond))
		if w.rng.IntN(3) == 0 {
			w.db.flush()
		}
		if w.chance(w.rates.database) {
			w.db.crash()
		}
		if w.chance(w.rates.away) {
			w.away = w.now + w.upTo(time.Second)
			w.logf("the broker is away for %s", w.away-w.now)
		}
		if w.chance(w.rates.operator) {
			w.operate()
		}
		for _, r := range w.replicas {
			switch {
			case w.chance(w.rates.crash):
				w.sum.crashes++
				w.logf("%s dies", r)
				r.restart()
			case w.chance(w.rates.stall):
				w.sum.stalls++
				r.stall(w.upTo(3*lease), false)
			case w.chance(w.rates.suspend):
				w.sum.stalls++
				r.stall(w.upTo(3*lease), true)
			case w.chance(w.rates.stop):
				r.retire()
			}
		}
	}
}

// operate is an operator who does not know what goes on.
func (w *world) operate() {
	db := w.db
	switch w.rng.IntN(3) {
	case 0:
		db.paused = !db.paused
		w.logf("operator: paused %t", db.paused)
	case 1:
		w.redriveAll()
	default:
		for _, a := range db.shelvedAggregates() {
			p := db.parked[a]
			if len(p.events) == 0 {
				continue
			}
			w.logf("operator: discard %s", p.events[0])
			w.sum.discarded++
			p.events[0].discarded = true
			p.events = p.events[1:]
			p.attempts, p.redrives, p.next = 0, p.redrives+1, w.now
			db.shelve(a, p, true)
			db.flush()
			return
		}
	}
}

func (w *world) redriveAll() {
	w.logf("operator: redrive all")
	for _, a := range w.db.shelvedAggregates() {
		w.redrive(a, false)
	}
}

func (w *world) redrive(a aggregate, last bool) {
	p := w.db.parked[a]
	p.attempts, p.redrives, p.next, p.last = 0, p.redrives+1, w.now, last
	w.db.shelve(a, p, true)
	w.db.flush()
}

// mend removes the cause of everything. For what still needs an operator one command must do.
func (w *world) mend() {
	w.logf("everything is mended")
	w.rates, w.away, w.db.paused = rates{long: 0.1}, 0, false
	for _, r := range w.inserted {
		r.poisoned = false
	}
	w.spawn(nil, func() {
		for {
			w.pause(w.upTo(w.duration()))
			for _, a := range w.db.shelvedAggregates() {
				if !w.db.parked[a].last {
					w.logf("operator who has mended the cause: redrive %v", a)
					w.redrive(a, true)
				}
			}
		}
	})
}
