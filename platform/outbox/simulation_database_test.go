package outbox

import (
	"encoding/binary"
	"errors"
	"slices"
	"strconv"
	"time"
)

// errConnection is what a relay hears when its connection breaks, or the database crashes.
var errConnection = errors.New("connection lost")

// prefetch is how many numbers of a sequence PostgreSQL logs ahead.
const prefetch = 32

// fate of a transaction.
type fate byte

const (
	running fate = iota
	committed
	aborted
)

// row is an event in the table.
type row struct {
	stored

	child     int
	gone      bool // rolled back to a savepoint
	delivered int
	acked     int64 // the term in which the broker acknowledged it last
	again     int64 // the last term in which it was published although it had been acknowledged
	poisoned  bool  // the broker refuses it
	discarded bool
}

// database is what the relay depends on of PostgreSQL: transactions, snapshots and a sequence, of which
// a crash takes what is not yet on the disk; and the relay's own tables.
type database struct {
	w     *world
	epoch int // how often it has crashed

	xids     []fate   // by xid
	active   []uint64 // those that run, ascending
	complete uint64   // the highest that is over
	durable  uint64   // the highest that is on the disk
	seq      int64
	logged   int64 // up to where the log has the sequence
	rows     []*row
	locks    map[int]bool
	versions map[int]int64 // of the aggregates, committed

	// log holds what takes back each change that is not on the disk.
	log     []change
	flushed int // changes before log[0]

	term   int64
	free   bool
	at     step
	signed time.Duration // when standbys were last given something new to see
	paused bool
	parked map[aggregate]shelved
}

type change struct {
	xid  uint64
	undo func()
}

// shelved is a parked aggregate.
type shelved struct {
	attempts, redrives int
	next               time.Duration // never when only an operator can help
	last               bool          // an operator has given the last command that should be needed
	events             []*row
}

func newDatabase(w *world) *database {
	db := &database{
		w: w, xids: make([]fate, 1, 80), locks: map[int]bool{}, versions: map[int]int64{},
		free: true, parked: map[aggregate]shelved{},
	}
	db.at.done = db.snapshot()
	return db
}

// snapshot is that of now. Like PostgreSQL's it ends with the last transaction that is over, not with
// the last that has begun.
func (db *database) snapshot() snapshot {
	s := snapshot{xmin: db.complete + 1, xmax: db.complete + 1}
	for _, xid := range db.active {
		if xid < s.xmax {
			s.running = append(s.running, xid)
		}
	}
	if len(s.running) > 0 {
		s.xmin = s.running[0]
	}
	db.w.snapshots++
	s.text = strconv.Itoa(db.w.snapshots)
	return s
}

func (db *database) begin() uint64 {
	xid := uint64(len(db.xids))
	db.xids, db.active = append(db.xids, running), append(db.active, xid)
	return xid
}

func (db *database) end(xid uint64, how fate) {
	db.xids[xid] = how
	db.complete = max(db.complete, xid)
	db.active = slices.DeleteFunc(db.active, func(x uint64) bool { return x == xid })
}

func (db *database) write(xid uint64, undo func()) {
	db.log = append(db.log, change{xid, undo})
}

// flush brings everything to the disk.
func (db *database) flush() {
	for _, c := range db.log {
		db.durable = max(db.durable, c.xid)
	}
	db.flushed += len(db.log)
	db.log = db.log[:0]
}

func (db *database) nextval() int64 {
	if db.seq++; db.seq > db.logged {
		old := db.logged
		db.logged = db.seq + prefetch
		db.write(0, func() { db.logged = old })
	}
	return db.seq
}

// crash loses what is not on the disk: the numbers of lost transactions are given again.
func (db *database) crash() {
	db.w.logf("the database crashes, %d changes are lost", len(db.log))
	db.w.sum.databases++
	db.epoch++
	db.signed = db.w.now
	for i := len(db.log) - 1; i >= 0; i-- {
		db.log[i].undo()
	}
	db.log, db.active = db.log[:0], nil
	db.rows = slices.DeleteFunc(db.rows, func(r *row) bool {
		lost := db.xids[r.xid] != committed
		if lost && r.delivered > 0 {
			db.w.fail("%s was delivered, and is lost in a crash", r)
		}
		return lost
	})
	for xid := range db.xids {
		if db.xids[xid] == running {
			db.xids[xid] = aborted
		}
	}
	db.xids = db.xids[:db.durable+1]
	db.complete, db.seq = db.durable, db.logged
	clear(db.locks)
	db.w.restarted = db.w.now + db.w.upTo(300*time.Millisecond)
	for _, r := range db.w.replicas {
		r.disconnect()
	}
}

// insert stores an event. The xid is drawn before the id, as in the table's defaults.
func (db *database) insert(xid uint64, agg int, version int64, durable bool) *row {
	id, serial := db.nextval(), uint64(len(db.w.inserted)+1)
	name := strconv.Itoa(agg)
	db.w.logf("transaction %d adds %d: version %d of %s", xid, id, version, name)
	r := &row{child: db.w.rng.IntN(2), poisoned: db.w.chance(db.w.rates.poison)}
	r.stored = stored{
		xid: xid, id: id, createdAt: then, aggregateVersion: version, eventVersion: 1, durable: durable,
		payload: binary.BigEndian.AppendUint64(nil, serial),
	}
	binary.BigEndian.PutUint64(r.eventID[8:], serial)
	r.words.text = string(r.appendWords(nil, []byte("order"), []byte(name), []byte("order.placed"), []byte("{}")))
	db.w.inserted = append(db.w.inserted, r)
	db.rows = append(db.rows, r)
	db.w.checkFloor(r, db.at.position)
	return r
}

var then = time.Date(2026, 1, 2, 0, 0, 0, 0, time.UTC)

// visible tells whether a row is in the window between two snapshots.
func (db *database) visible(r *row, done, end snapshot) bool {
	return db.xids[r.xid] == committed && !r.gone && !done.sees(r.xid) && end.sees(r.xid)
}

// store commits a step without waiting for the disk.
func (db *database) store(xid uint64, next step) {
	old := db.at
	db.at, db.signed = next, db.w.now
	db.end(xid, committed)
	db.write(xid, func() { db.at = old })
	db.w.logf("stored: %s", next.position)
	db.w.inspect(old.position, next.position)
}

func (db *database) park(a aggregate, p *parked) {
	old, was := db.parked[a]
	now := old
	now.events = slices.Clone(old.events)
	if !was {
		if p.err == nil {
			db.w.fail("events of %v are parked behind none", a)
		}
		now.attempts, now.next = p.attempts, db.dueIn(p.delay)
	}
	for _, e := range p.events {
		if row := db.w.row(e.payload); !slices.Contains(now.events, row) {
			now.events = append(now.events, row)
		}
	}
	slices.SortFunc(now.events, func(a, b *row) int { return int(a.id - b.id) })
	db.w.sum.parked++
	db.w.logf("%v is parked: %d events, attempts %d, next at %s: %v", a, len(now.events), now.attempts, now.next, p.err)
	db.shelve(a, now, true)
}

// shelve replaces what is parked of an aggregate.
func (db *database) shelve(a aggregate, now shelved, keep bool) {
	old, was := db.parked[a]
	if db.parked[a] = now; !keep {
		delete(db.parked, a)
	}
	db.write(0, func() {
		if db.parked[a] = old; !was {
			delete(db.parked, a)
		}
	})
}

func (db *database) dueIn(d time.Duration) time.Duration {
	if d == never {
		return never
	}
	return db.w.now + d
}

func (db *database) shelvedAggregates() (all []aggregate) {
	for i := range aggregates {
		if a := (aggregate{"order", strconv.Itoa(i)}); db.isParked(a) {
			all = append(all, a)
		}
	}
	return all
}

func (db *database) isParked(a aggregate) bool {
	_, ok := db.parked[a]
	return ok
}
