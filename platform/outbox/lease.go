package outbox

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/slipwayhq/slipway/platform/failpoint"
)

// errFenced ends the term of a replica whose lease another one has taken.
var errFenced = errors.New("the lease has been taken by another replica")

// ledger is the sink's position in the hands of the replica that holds the lease.
// Every write is fenced by the term: what a replica writes after it was taken for
// dead has no effect. Safe for concurrent use.
type ledger struct {
	trust

	mu   sync.Locker // one write at a time
	db   leases
	term int64
	at   step
	// folded is the beat of the step in outbox_sink.
	folded int64
	fence  atomic.Pointer[fence]
	fenced func()
}

// leases is the lease of a sink, and what its holder writes. What is written for a term
// that is not the last one has no effect and returns errFenced. Losing the last writes
// in a crash of the database means to publish some events again, which is allowed
// anyway; only take waits for the disk: no term is given twice.
type leases interface {
	sight(ctx context.Context) (sighting, error)
	// take begins a term, unless something has happened to the lease since it was seen.
	take(ctx context.Context, seen sighting) (t taken, ok bool, err error)
	// beat writes a step that is a sign of life.
	beat(ctx context.Context, term int64, next step) (state, fence, error)
	// save writes a step and, in the same transaction, what is parked. It returns when
	// something was last published.
	save(ctx context.Context, term int64, next step, published bool, p parking) (*time.Time, error)
	// parked returns which aggregates are parked.
	parked(ctx context.Context, term int64) ([]aggregate, error)
	redriven(ctx context.Context, term int64, r redriven) error
	// beginReplay makes the stored position the extent of a replay.
	beginReplay(ctx context.Context, term, replay int64) (extent, error)
	replayed(ctx context.Context, term int64, step repeated) error
	// fold empties the table of steps, if it can be had at once.
	fold(ctx context.Context) (done bool, err error)
	free(ctx context.Context, term int64) error
}

// state is what a beat brings back.
type state struct {
	paused, redrive, replay bool
}

// sighting is what a standby sees of the lease.
type sighting struct {
	term, beat int64
	free       bool
}

// taken is a new term: where the sink is, and a fence.
type taken struct {
	term   int64
	at     step
	folded int64
	fence  fence
}

// standBy takes the lease as soon as it is free: when its holder gave it back, or gave
// no sign of life for a whole lease on the clock of this replica. It looks after each
// pause.
func (l *ledger) standBy(ctx context.Context, pause func(ctx context.Context, d time.Duration) error) (position, error) {
	var seen sighting
	since := l.clock()
	for {
		now, err := l.db.sight(ctx)
		if err != nil {
			return position{}, fmt.Errorf("look at outbox lease: %w", err)
		}
		if now != seen {
			seen, since = now, l.clock()
		}
		if now.free || l.clock()-since > l.lease {
			pos, ok, err := l.take(ctx, now)
			if err != nil || ok {
				return pos, err
			}
		}
		if err := pause(ctx, l.lease/4); err != nil {
			return position{}, err
		}
	}
}

// take takes the lease if nothing has happened to it since it was seen.
func (l *ledger) take(ctx context.Context, seen sighting) (pos position, ok bool, err error) {
	asked := l.clock()
	t, ok, err := l.db.take(ctx, seen)
	if err != nil || !ok {
		return position{}, false, wrap("take outbox lease", err)
	}
	l.term, l.at, l.folded = t.term, t.at, t.folded
	l.alive(asked, t.fence)
	return l.at.position, true, nil
}

// beat gives a sign of life and returns what operators want.
func (l *ledger) beat(ctx context.Context) (state, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	asked := l.clock()
	s, f, err := l.db.beat(ctx, l.term, l.next(l.at.position))
	if err != nil {
		return s, l.refused("renew outbox lease", err)
	}
	l.alive(asked, f)
	return s, nil
}

// save stores the position and, in the same transaction, what is parked.
func (l *ledger) save(ctx context.Context, pos position, published bool, p parking) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	asked := l.clock()
	failpoint.At(failpoint.BeforeStep, "save")
	at, err := l.db.save(ctx, l.term, l.next(pos), published, p)
	if err != nil {
		return l.refused("store outbox position", err)
	}
	failpoint.At(failpoint.AfterStep, "save")
	l.at.position, l.at.publishedAt = pos, at
	l.renew(asked)
	return nil
}

// parked returns which aggregates are parked.
func (l *ledger) parked(ctx context.Context) ([]aggregate, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	all, err := l.db.parked(ctx, l.term)
	return all, l.refused("read parked aggregates", err)
}

// redriven stores what has become of parked events.
func (l *ledger) redriven(ctx context.Context, r redriven) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.refused("redrive parked aggregate", l.db.redriven(ctx, l.term, r))
}

// beginReplay makes the stored position the extent of a replay.
func (l *ledger) beginReplay(ctx context.Context, replay int64) (extent, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	e, err := l.db.beginReplay(ctx, l.term, replay)
	return e, l.refused("begin replay", err)
}

// replayed stores how far a replay has come.
func (l *ledger) replayed(ctx context.Context, step repeated) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.refused("store progress of replay", l.db.replayed(ctx, l.term, step))
}

// foldAfter is so few steps that their table stays in a few hundred pages.
const foldAfter = 10_000

// fold empties the table of steps when it has become large enough. It does not wait
// for whoever reads them: it will be asked again.
func (l *ledger) fold(ctx context.Context) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.at.beat-l.folded < foldAfter {
		return nil
	}
	done, err := l.db.fold(ctx)
	if done {
		l.folded = l.at.beat
	}
	return wrap("fold outbox steps", err)
}

// free gives the lease back, so that a standby need not wait.
func (l *ledger) free(ctx context.Context) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return wrap("give back outbox lease", l.db.free(ctx, l.term))
}

// next returns the next step.
func (l *ledger) next(pos position) step {
	l.at.beat++
	return step{position: pos, beat: l.at.beat, publishedAt: l.at.publishedAt}
}

// refused says of a write that had no effect that the term is over.
func (l *ledger) refused(what string, err error) error {
	if errors.Is(err, errFenced) {
		l.fenced()
		return errFenced
	}
	return wrap(what, err)
}

func wrap(what string, err error) error {
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}

func (l *ledger) alive(asked time.Duration, f fence) {
	l.renew(asked)
	l.fence.Store(&f)
}

// latest returns the latest fence.
func (l *ledger) latest() fence {
	if f := l.fence.Load(); f != nil {
		return *f
	}
	return fence{}
}
