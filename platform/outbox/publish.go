package outbox

import (
	"cmp"
	"context"
	"errors"
	"time"

	"go.uber.org/zap"

	"github.com/slipwayhq/slipway/platform/broker"
	"github.com/slipwayhq/slipway/platform/failpoint"
)

// patience is how often an event is tried in place when nothing shows that the
// broker is well, before it is parked.
const patience = 5

// publish settles one chunk after the other. Between them it does what operators
// asked for: being the only one that publishes, it keeps the order of each aggregate
// without a lock. No new work is begun when soft has ended; hard ends what is
// running.
func (t *term) publish(soft, hard context.Context) error {
	if err := t.loadParked(hard); err != nil {
		return quiet(hard, err)
	}
	for soft.Err() == nil {
		wanted := *t.wanted.Load()
		if wanted.paused {
			if err := t.hold(soft, hard); err != nil {
				return quiet(hard, err)
			}
			continue
		}
		busy, err := t.serve(soft, hard, wanted)
		if err != nil {
			return quiet(hard, err)
		}
		if err := t.turn(soft, hard, busy); err != nil {
			return quiet(hard, err)
		}
	}
	return quiet(hard, t.store(hard, nil))
}

// hold waits while the sink is paused. It looks at what is next, so that metrics tell
// how many events wait and for how long.
func (t *term) hold(soft, hard context.Context) error {
	if err := t.store(hard, nil); err != nil {
		return err
	}
	next := t.chunks
	if t.held != nil {
		next = nil
	}
	select {
	case c := <-next:
		if len(c.events) == 0 { // only a position
			return t.settle(soft, hard, c)
		}
		t.held = &c
		t.m.pending(c.events)
	case <-soft.Done():
	case <-t.control:
	}
	return nil
}

// turn settles the next chunk, or stores the position when that is due. If there is
// other work it does not wait.
func (t *term) turn(soft, hard context.Context, busy bool) error {
	if c := t.held; c != nil {
		t.held = nil
		return t.settle(soft, hard, *c)
	}
	var other <-chan struct{}
	if busy {
		other = closed
	}
	select {
	case c := <-t.chunks:
		return t.settle(soft, hard, c)
	case <-t.owed.due.C:
		return t.store(hard, nil)
	case <-soft.Done():
	case <-t.control:
	case <-other:
	}
	return nil
}

// closed is a channel that never makes anybody wait.
var closed = func() chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}()

// owed is what is settled and not stored: a position for each of many small batches
// would cost as much as reading them. After a crash it is published again.
type owed struct {
	after   position
	events  int
	pending bool
	due     *time.Timer
}

// storeWithin is for how long a position may be owed, as long as it is that of fewer
// events than a batch has.
const storeWithin = 50 * time.Millisecond

// owe notes what is settled.
func (t *term) owe(c chunk) {
	if !t.owed.pending {
		t.owed.due.Reset(storeWithin)
	}
	t.owed.after, t.owed.pending = c.after, true
	t.owed.events += len(c.events)
}

// store stores what is owed and, in the same transaction, what is parked.
func (t *term) store(ctx context.Context, p parking) error {
	if !t.owed.pending {
		return nil
	}
	t.owed.due.Stop()
	err := t.ledger.save(ctx, t.owed.after, t.owed.events > 0, p)
	t.owed.events, t.owed.pending = 0, false
	return err
}

// batch is the part of a chunk that is on its way.
type batch struct {
	events   []*stored
	messages []broker.Message
	invalid  []error // why an event cannot be a message
	tries    map[int64]int
}

func newBatch(n int) *batch {
	return &batch{events: make([]*stored, 0, n), messages: make([]broker.Message, 0, n), invalid: make([]error, 0, n), tries: map[int64]int{}}
}

func (b *batch) add(e *stored, m broker.Message, invalid error) {
	b.events, b.messages, b.invalid = append(b.events, e), append(b.messages, m), append(b.invalid, invalid)
}

// settle publishes or parks every event of the chunk. What is parked is stored at
// once, with the position.
// While the broker is away it tries on.
func (t *term) settle(soft, hard context.Context, c chunk) error {
	t.m.pending(c.events)
	defer t.m.pending(nil)
	parking := parking{}
	todo := newBatch(len(c.events))
	for i := range c.events {
		e := &c.events[i]
		if t.parked[e.aggregate()] {
			parking.behind(e)
			continue
		}
		m, err := e.message()
		todo.add(e, m, err)
	}
	pause := t.cfg.MinBackoff
	for first := true; ; first = false {
		var err error
		if todo, err = t.attempt(hard, todo, parking); len(todo.events) == 0 {
			break
		}
		if first {
			t.log.Warn("cannot publish, trying on", zap.Int("events", len(todo.events)), zap.Stringer("first_event_id", todo.events[0].eventID), zap.Error(err))
			if err := t.store(hard, nil); err != nil { // it may take long, and operators ask what was published before
				return err
			}
		}
		if t.sleep(soft, pause); soft.Err() != nil {
			return nil // what is not settled is read again in the next term
		}
		if !t.ledger.holds() {
			return errDoubt
		}
		pause = t.cfg.longer(pause)
	}
	t.owe(c)
	t.tally.settled(len(c.events))
	if len(parking) == 0 && 0 < t.owed.events && t.owed.events < t.cfg.Batch {
		return nil
	}
	if err := t.store(hard, parking); err != nil {
		return err
	}
	return t.park(hard, parking)
}

// attempt publishes once and returns what has to be tried again, and why.
func (t *term) attempt(ctx context.Context, b *batch, p parking) (again *batch, err error) {
	if !t.ledger.holds() {
		return b, errDoubt // the caller asks again
	}
	fates := t.send(ctx, b)
	return t.judge(b, fates, p), cmp.Or(fates...)
}

// send publishes what is a message and returns the fate of each event.
func (r *Relay) send(ctx context.Context, b *batch) []error {
	ctx, cancel := context.WithTimeout(ctx, r.cfg.PublishTimeout)
	defer cancel()
	good, index := b.messages, []int(nil)
	fates := make([]error, len(b.messages))
	for i, err := range b.invalid {
		if err != nil || index != nil {
			if index == nil {
				good, index = append([]broker.Message{}, b.messages[:i]...), upTo(i)
			}
			if fates[i] = err; err == nil {
				good, index = append(good, b.messages[i]), append(index, i)
			}
		}
	}
	if len(good) == 0 {
		return fates
	}
	failpoint.At(failpoint.BeforePublish, r.cfg.Sink)
	outcomes := broker.Outcomes(r.pub.Publish(ctx, good), len(good))
	failpoint.At(failpoint.AfterPublish, r.cfg.Sink)
	if index == nil {
		return outcomes
	}
	for i, at := range index {
		fates[at] = outcomes[i]
	}
	return fates
}

func upTo(n int) []int {
	all := make([]int, n, 2*n+1)
	for i := range all {
		all[i] = i
	}
	return all
}

// judge decides what becomes of each event. After one that was not acknowledged the
// later ones of its aggregate share its fate.
func (t *term) judge(b *batch, fates []error, p parking) *batch {
	again := newBatch(0)
	again.tries = b.tries
	held := map[aggregate]bool{} // whether those that follow are parked
	well := false
	for _, err := range fates {
		well = well || err == nil
	}
	now := t.m.dbNow()
	for i := range b.events {
		e, err := b.events[i], fates[i]
		if err == nil && len(held) == 0 {
			t.acknowledged(e, now)
			continue
		}
		a := e.aggregate()
		if parked, ok := held[a]; ok {
			if parked {
				p.behind(e)
			} else if err != nil {
				again.add(e, b.messages[i], b.invalid[i])
			}
			continue
		}
		if err == nil {
			t.acknowledged(e, now)
			continue
		}
		held[a] = t.failed(e, err, b.tries, well, p)
		if !held[a] {
			again.add(e, b.messages[i], b.invalid[i])
		}
	}
	return again
}

func (t *term) acknowledged(e *stored, now time.Time) {
	t.m.published.Inc()
	t.m.latency.Observe(max(0, now.Sub(e.createdAt).Seconds()))
}

// failed tells whether the event is to be parked, and notes that.
func (t *term) failed(e *stored, err error, tries map[int64]int, well bool, p parking) bool {
	class := classify(err)
	t.m.failures.WithLabelValues(class).Inc()
	tries[e.id]++
	switch {
	case class == classRefused:
		p.first(e, err, 1, never)
	case class == classOther && (well || tries[e.id] >= patience):
		p.first(e, err, tries[e.id], t.cfg.MinBackoff)
	default:
		return false
	}
	t.log.Error("cannot publish, parked the aggregate", zap.Stringer("event_id", e.eventID), zap.String("event_type", e.eventType()),
		zap.String("aggregate_type", e.aggregateType()), zap.String("aggregate_id", e.aggregateID()), zap.String("class", class), zap.Error(err))
	return true
}

// classify says what an error of the broker means for the event.
func classify(err error) string {
	switch {
	case errors.Is(err, broker.ErrUnavailable), errors.Is(err, broker.ErrSkipped), errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return classUnavailable
	case errors.Is(err, broker.ErrRefused):
		return classRefused
	default:
		return classOther
	}
}

// serve does a piece of what operators asked for, and tells whether there is more.
func (t *term) serve(soft, hard context.Context, wanted state) (busy bool, err error) {
	if wanted.redrive {
		if err := t.redrive(soft, hard); err != nil {
			return false, err
		}
	}
	if !wanted.replay {
		return false, nil
	}
	return t.replay(hard)
}
