package outbox

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"
)

// chunk is a piece of a window, sorted by id, with the position after it.
type chunk struct {
	events []stored
	after  position
	// end is the snapshot that its window ends with.
	end string
	// now is the database's clock at the time of reading.
	now time.Time
}

// window is what one question brings: the events up to a snapshot.
type window struct {
	events []stored
	end    snapshot
	// high is not below any id that is visible in end.
	high int64
	// now is the database's clock.
	now time.Time
}

// source is what a reader asks the database. A question has a snapshot of its own.
// Not safe for concurrent use.
type source interface {
	// poll returns a window that begins at done, if it fits into a batch; otherwise more
	// than a batch of its events.
	poll(ctx context.Context, done snapshot) (window, error)
	// late returns the events of transactions in a range of ids: the lowest, up to a
	// batch and at least that from each part, if there are so many.
	late(ctx context.Context, xids []string, lo, hi int64) ([]stored, error)
	// part returns the events of a window in a range of ids, as late does.
	part(ctx context.Context, done, end snapshot, lo, hi int64) ([]stored, error)
	// ahead begins to ask for whole ranges of a window. Until they are closed nothing
	// else can be asked.
	ahead(ctx context.Context, done, end snapshot) ranges
	// summarize completes the index of ids for what has been there for long.
	summarize(ctx context.Context) error
}

// reader reads one window after the other, from where the position is.
type reader struct {
	db    source
	batch int
	pos   position
	fence func() fence
	// width of the next range of ids to read of a target.
	width int64
	ahead *ahead // nil as long as ranges are wider than a batch
}

func newReader(ctx context.Context, db source, batch int, pos position, f func() fence) (*reader, error) {
	r := &reader{db: db, batch: batch, pos: pos, fence: f}
	if pos.target == nil {
		return r, nil
	}
	return r, r.begin(ctx)
}

// next returns the next piece. Without events it is all that there is: the position
// has moved on to now.
func (r *reader) next(ctx context.Context) (chunk, error) {
	if r.pos.target == nil {
		c, fits, err := r.poll(ctx)
		if err != nil || fits {
			return c, err
		}
	}
	return r.part(ctx)
}

// poll reads the window up to now if it fits into a batch. Otherwise it becomes the
// target.
func (r *reader) poll(ctx context.Context) (c chunk, fits bool, err error) {
	f := r.fence()
	w, err := r.db.poll(ctx, r.pos.done)
	if err != nil {
		return c, false, fmt.Errorf("read outbox window: %w", err)
	}
	c.now = w.now
	floor := f.floorFor(w.end, r.pos.floor)
	if len(w.events) > r.batch {
		r.pos.target = &target{end: w.end, high: w.high, floor: floor, lo: -1}
		return c, false, r.begin(ctx)
	}
	r.pos = position{done: w.end, floor: floor}
	sortByID(w.events)
	c.events, c.after, c.end = w.events, r.pos, w.end.text
	return c, true, nil
}

// begin prepares for a target. The index of ids is completed, as far as that has not
// been done by itself.
func (r *reader) begin(ctx context.Context) error {
	r.width = int64(r.batch)
	if err := r.db.summarize(ctx); err != nil {
		return fmt.Errorf("summarize outbox index: %w", err)
	}
	return nil
}

// part reads the next piece of the target that has events: first those of late
// transactions up to the floor, which are few and far between, then by ranges of
// ids. In both the pieces are ordered by id, and all ids of the first are below
// those of the second.
func (r *reader) part(ctx context.Context) (chunk, error) {
	for {
		c, err := r.step(ctx)
		if err != nil {
			return c, fmt.Errorf("read outbox backlog: %w", err)
		}
		if len(c.events) > 0 || r.pos.target == nil {
			return c, nil
		}
	}
}

func (r *reader) step(ctx context.Context) (chunk, error) {
	t := *r.pos.target
	var events []stored
	var err error
	end := r.pos.floor
	switch {
	case t.lo < r.pos.floor:
		events, err = r.db.late(ctx, r.pos.done.late(t.end), t.lo, end)
		events, end = r.lowest(events, end)
	case r.width <= int64(r.batch):
		if r.ahead == nil {
			r.ahead = newAhead(r.db.ahead(ctx, r.pos.done, t.end), t, r.batch)
		}
		events, end, err = r.ahead.next()
	default:
		end = min(t.lo+r.width, t.high)
		events, err = r.db.part(ctx, r.pos.done, t.end, t.lo, end)
		events, end = r.lowest(events, end)
	}
	if err != nil {
		return chunk{}, err
	}
	if t.lo = end; t.lo >= t.high {
		r.pos = t.after()
	} else {
		r.pos.target = &t
	}
	return chunk{events: events, after: r.pos, end: t.end.text}, r.adapt(len(events))
}

// lowest returns a batch of the events up to the id end, the lowest first, and the id
// up to which there are no others.
func (r *reader) lowest(events []stored, end int64) ([]stored, int64) {
	sortByID(events)
	if len(events) >= r.batch { // each part gave its lowest ids, so the lowest of all are complete
		events = events[:r.batch]
		end = events[r.batch-1].id
	}
	return events, end
}

// adapt widens the range over ids that were drawn and rolled back. Reading ahead ends
// with that, and with the target.
func (r *reader) adapt(found int) error {
	if r.ahead != nil && r.pos.target != nil && (len(r.ahead.rest) > 0 || !r.ahead.sparse) {
		return nil
	}
	r.width = min(2*r.width, 64*int64(r.batch))
	if found > r.batch/4 {
		r.width = int64(r.batch)
	}
	if r.ahead == nil {
		return nil
	}
	err := r.ahead.close()
	r.ahead = nil
	return err
}

func sortByID(events []stored) {
	slices.SortFunc(events, func(a, b stored) int { return cmp.Compare(a.id, b.id) })
}
