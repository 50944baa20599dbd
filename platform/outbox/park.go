package outbox

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"go.uber.org/zap"
)

// parking collects the events of a chunk that cannot be published now, by aggregate.
type parking map[aggregate]*parked

// parked are events of one aggregate, in order. An aggregate that is parked already
// has no error.
type parked struct {
	err      error
	attempts int
	delay    time.Duration // never when only an operator can help
	events   []*stored
}

// never is the delay of an attempt that only an operator brings about.
const never = time.Duration(-1)

func (p parking) first(e *stored, err error, attempts int, delay time.Duration) {
	p[e.aggregate()] = &parked{err: err, attempts: attempts, delay: delay, events: []*stored{e}}
}

// behind adds an event to those that wait.
func (p parking) behind(e *stored) {
	a := e.aggregate()
	if p[a] == nil {
		p[a] = &parked{}
	}
	p[a].events = append(p[a].events, e)
}

// park takes over what has been stored as parked, with names of its own: those of an event
// are parts of a text that holds the words of thousands.
func (t *term) park(ctx context.Context, p parking) error {
	if len(p) == 0 {
		return nil
	}
	for a := range p {
		t.parked[aggregate{strings.Clone(a.kind), strings.Clone(a.id)}] = true
	}
	return t.countParked(ctx)
}

// loadParked reads which aggregates are parked.
func (t *term) loadParked(ctx context.Context) error {
	all, err := t.ledger.parked(ctx)
	if err != nil {
		return err
	}
	t.parked = make(map[aggregate]bool, len(all))
	for _, a := range all {
		t.parked[a] = true
	}
	return t.countParked(ctx)
}

func (t *term) countParked(ctx context.Context) error {
	t.m.parkedAggregates.Set(float64(len(t.parked)))
	if len(t.parked) == 0 {
		t.m.parkedEvents.Set(0)
		return nil
	}
	n, err := t.shelf.count(ctx)
	if err != nil {
		return fmt.Errorf("count parked events: %w", err)
	}
	t.m.parkedEvents.Set(float64(n))
	return nil
}

// shelf is where the parked events of a sink are looked for. Only the holder of the
// lease changes what is there, and operators.
type shelf interface {
	// due returns aggregates whose time has come, the first of them first.
	due(ctx context.Context) ([]due, error)
	// events returns up to limit events of an aggregate, in order.
	events(ctx context.Context, a aggregate, limit int) ([]stored, error)
	count(ctx context.Context) (int64, error)
}

// due is a parked aggregate whose time has come.
type due struct {
	aggregate
	attempts, redrives int
}

// redriven is what has become of parked events: those that were sent are gone. The
// aggregate too if it has no more; else, unless all were sent, it waits for its next
// attempt or for an operator. What an operator has asked for meanwhile is not undone.
type redriven struct {
	aggregate
	redrives int // how often an operator had asked when the attempt began
	sent     []int64
	empty    bool
	err      error // why the next one was not sent, nil if it was not tried
	attempts int
	delay    time.Duration // never when only an operator can help
}

// redrive tries the parked aggregates that are due. Meanwhile nothing else is
// published, so the events of an aggregate leave in their order: the parked ones
// first, then what is read next.
func (t *term) redrive(soft, hard context.Context) error {
	all, err := t.shelf.due(hard)
	if err != nil {
		return fmt.Errorf("read parked aggregates: %w", err)
	}
	for _, d := range all {
		for more := true; more && soft.Err() == nil; {
			if more, err = t.redriveOne(hard, d); err != nil {
				return err
			}
		}
	}
	if len(all) == 0 {
		return nil
	}
	return t.countParked(hard)
}

// redriveOne publishes the next parked events of an aggregate, and tells whether
// there are more that may follow at once.
func (t *term) redriveOne(ctx context.Context, d due) (more bool, err error) {
	events, err := t.shelf.events(ctx, d.aggregate, t.cfg.Batch)
	if err != nil {
		return false, fmt.Errorf("read parked events: %w", err)
	}
	b := newBatch(len(events))
	for i := range events {
		m, invalid := events[i].message()
		m.DedupID = m.ID + "/redrive-" + strconv.Itoa(d.redrives) + "-" + strconv.Itoa(d.attempts)
		b.add(&events[i], m, invalid)
	}
	if !t.ledger.holds() {
		return false, errDoubt
	}
	fates := t.send(ctx, b)
	r := redriven{aggregate: d.aggregate, redrives: d.redrives}
	now := t.m.dbNow()
	for len(r.sent) < len(fates) && fates[len(r.sent)] == nil {
		e := &events[len(r.sent)]
		t.acknowledged(e, now)
		r.sent = append(r.sent, e.id)
	}
	r.empty = len(events) < t.cfg.Batch && len(r.sent) == len(events)
	if len(r.sent) < len(fates) {
		r.err = fates[len(r.sent)]
		r.attempts, r.delay = t.nextAttempt(d, r.err, len(r.sent) > 0)
	}
	if err := t.ledger.redriven(ctx, r); err != nil {
		return false, err
	}
	if r.empty {
		delete(t.parked, d.aggregate)
		t.log.Info("published what was parked", zap.String("aggregate_type", d.kind), zap.String("aggregate_id", d.id))
	}
	return r.err == nil && !r.empty, nil
}

// nextAttempt says when a parked aggregate is tried again; never by itself once the
// broker has refused an event or it was tried often enough.
func (t *term) nextAttempt(d due, err error, progress bool) (attempts int, delay time.Duration) {
	class := classify(err)
	t.m.failures.WithLabelValues(class).Inc()
	attempts = d.attempts
	if progress {
		attempts = 0
	}
	if class != classUnavailable {
		attempts++
	}
	if class == classRefused || attempts >= t.cfg.MaxAttempts {
		return attempts, never
	}
	return attempts, min(t.cfg.MinBackoff<<min(attempts, 20), t.cfg.MaxBackoff)
}
