package outbox

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
	db     ranges
	target target
	batch  int
	width  int64
	asked  int64    // up to this id
	ends   []int64  // of the ranges that were asked for and not read
	rest   []stored // of the range that was read last
	end    int64    // of that range
	sparse bool     // it held few events for its ids
}

// ranges asks for the events of a window by ranges of ids, before they are needed.
type ranges interface {
	ask(lo, hi int64) error
	// answer returns the events of the range that was asked for first, in any order, and
	// about how many bytes one of them has.
	answer() (events []stored, size int, err error)
	// close waits for what was asked for.
	close() error
}

// newAhead begins above the target's lo.
func newAhead(db ranges, t target, batch int) *ahead {
	return &ahead{db: db, target: t, batch: batch, width: int64(batch), asked: t.lo, end: t.lo}
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
	events, size, err := a.db.answer()
	if err != nil {
		return err
	}
	from := a.end
	a.end, a.ends = a.ends[0], a.ends[1:]
	a.rest = events
	sortByID(a.rest)
	a.sparse = int64(len(a.rest)) <= (a.end-from)/4
	if len(events) > 0 { // from now on ranges fit the size of the events
		a.width = int64(max(a.batch, min(aheadBytes/size, aheadBatches*a.batch)))
	}
	return nil
}

// ask keeps the database busy.
func (a *ahead) ask() error {
	for len(a.ends) < aheadRanges && a.asked < a.target.high {
		from := a.asked
		a.asked = min(from+a.width, a.target.high)
		a.ends = append(a.ends, a.asked)
		if err := a.db.ask(from, a.asked); err != nil {
			return err
		}
	}
	return nil
}

// close waits for what was asked for and gives the connection back.
func (a *ahead) close() error { return a.db.close() }
