package outbox

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"go.uber.org/zap"

	"github.com/slipwayhq/slipway/platform/broker"
)

const lease = time.Second

// replica is a process that runs a relay: the loops are those of Relay and term, without their channels;
// everything that they call is the relay's own. It is the database, the broker and the clock of that.
type replica struct {
	w      *world
	number int
	relay  *Relay
	offset time.Duration // of its clock
	awake  time.Duration // when it goes on after it was stopped
	stands bool          // by, since then without a break
	since  time.Duration
	tasks  []*task
	soft   context.Context
	cancel func()

	ledger *ledger
	term   *term  // nil on a standby
	handed *chunk // what has been read and not settled
	ended  bool   // the publishing loop has
	loops  []*task
	cut    bool // the connection of the ledger is broken
}

func newReplica(w *world, number int) *replica {
	r := &replica{w: w, number: number, offset: w.upTo(time.Hour)}
	r.start()
	return r
}

func (r *replica) String() string { return fmt.Sprintf("replica %d", r.number) }

// start is that of the process.
func (r *replica) start() {
	cfg := Config{
		Sink: "s", Batch: r.w.batch, Lease: lease, Poll: 200 * time.Millisecond, PublishTimeout: time.Hour,
		MinBackoff: 20 * time.Millisecond, MaxBackoff: 400 * time.Millisecond, MaxAttempts: 3,
	}
	r.relay = &Relay{
		pub: r, cfg: cfg, log: zap.NewNop(), m: r.w.metrics, shelf: r, wal: r, wake: make(chan struct{}, 1),
		sleep: func(_ context.Context, d time.Duration) { r.w.pause(d) },
	}
	r.spawn(r.persist)
}

func (r *replica) spawn(do func()) *task {
	t := r.w.spawn(r, do)
	r.tasks = append(r.tasks, t)
	return t
}

// rouse ends the pause of the replica's other loops, as a channel would.
func (r *replica) rouse() {
	for _, t := range r.loops {
		if t != r.w.current && t.idle {
			t.at = min(t.at, max(r.w.now, r.awake)+r.w.upTo(time.Millisecond))
		}
	}
}

// idle waits for another loop, or for the time to pass.
func (r *replica) idle(d time.Duration) {
	t := r.w.current
	t.idle = true
	r.w.pause(r.w.upTo(d))
	t.idle = false
}

// disconnect breaks the connections: what the process does ends.
func (r *replica) disconnect() {
	tasks := r.tasks
	r.tasks, r.term, r.handed, r.stands = nil, nil, nil, false
	mine := false
	for _, t := range tasks {
		if t == r.w.current {
			mine = true
			continue
		}
		r.w.kill(t)
	}
	r.spawn(func() {
		r.w.pause(r.w.upTo(100 * time.Millisecond))
		r.persist()
	})
	if mine {
		r.w.kill(r.w.current)
	}
}

// restart is a new process instead of one that died.
func (r *replica) restart() {
	for _, t := range r.tasks {
		r.w.kill(t)
	}
	r.tasks, r.term, r.handed, r.stands = nil, nil, nil, false
	r.offset, r.awake = r.w.upTo(time.Hour), 0
	r.start()
}

// retire tells the process to end.
func (r *replica) retire() {
	if r.term != nil && r.soft.Err() == nil {
		r.w.logf("%s is told to end", r)
		r.w.sum.stops++
		r.cancel()
	}
}

// stall stops the process for a while, in which its clock may stand still too.
func (r *replica) stall(d time.Duration, suspended bool) {
	r.w.logf("%s stops for %s", r, d)
	r.awake = max(r.awake, r.w.now) + d
	for _, t := range r.tasks {
		t.at = max(t.at, r.w.now) + d
	}
	if suspended {
		r.w.suspended = true
		r.offset -= d
	}
}

// ask is a question to the database, and its answer.
func (r *replica) ask(do func(db *database) error) error {
	r.w.pause(r.w.upTo(2 * time.Millisecond))
	if r.w.now < r.w.restarted || r.w.chance(r.w.rates.connection) {
		return errConnection
	}
	err := do(r.w.db)
	r.w.pause(r.w.upTo(2 * time.Millisecond))
	if r.w.chance(r.w.rates.connection) {
		return errConnection
	}
	return err
}

// write is a question on the connection of the ledger, which is gone once it is broken.
func (r *replica) write(do func(db *database) error) error {
	if r.cut {
		return errConnection
	}
	err := r.ask(do)
	r.cut = errors.Is(err, errConnection)
	return err
}

// persist campaigns again and again.
func (r *replica) persist() {
	for {
		r.soft, r.cancel = context.WithCancel(context.Background())
		r.cut = false
		r.ledger = r.relay.newLedger(r, &lock{w: r.w}, func() time.Duration { return r.w.now + r.offset })
		r.stands, r.since = true, r.w.now
		pos, err := r.ledger.standBy(r.soft, func(_ context.Context, d time.Duration) error {
			r.w.pause(d)
			return nil
		})
		r.stands = false
		if err == nil {
			err = r.lead(pos)
		}
		r.w.logf("%s stands by: %v", r, err)
		r.w.pause(r.relay.cfg.MinBackoff)
	}
}

// lead runs a term.
func (r *replica) lead(pos position) error {
	t := newTerm(r.relay, r.ledger, pos)
	r.term, r.handed, r.ended = t, nil, false
	r.w.logf("%s is active in term %d", r, r.ledger.term)
	var failed error
	first := len(r.tasks)
	r.loops = []*task{r.w.current}
	for _, loop := range []func(*term) error{r.read, r.publish, r.live} {
		r.loops = append(r.loops, r.spawn(func() {
			failed = cmp.Or(failed, loop(t))
			r.rouse()
		}))
	}
	for failed == nil && !r.ended {
		r.idle(time.Hour)
	}
	for _, t := range r.tasks[first:] {
		r.w.kill(t)
	}
	r.tasks = r.tasks[:first]
	r.term = nil
	if failed == nil {
		failed = r.ledger.free(r.soft)
	}
	return failed
}

// read is term.read.
func (r *replica) read(t *term) error {
	reader, err := newReader(r.soft, r, t.cfg.Batch, t.start, t.ledger.latest)
	for err == nil && r.soft.Err() == nil {
		var c chunk
		if c, err = reader.next(r.soft); err != nil {
			break
		}
		if reader.pos.target != nil {
			r.w.sum.targets++
		}
		if len(c.events) > 0 || r.w.rng.IntN(4) == 0 {
			if err = t.settleOnDisk(r.soft, c); err != nil {
				break
			}
			for r.handed != nil {
				r.idle(time.Second)
			}
			r.handed = &c
			r.rouse()
		}
		if reader.pos.target == nil {
			r.w.pause(r.w.upTo(t.cfg.Poll))
		}
	}
	return err
}

// publish is term.publish.
func (r *replica) publish(t *term) error {
	hard := context.Background()
	if err := t.loadParked(hard); err != nil {
		return err
	}
	for r.soft.Err() == nil {
		wanted := *t.wanted.Load()
		if !wanted.paused {
			if _, err := t.serve(r.soft, hard, wanted); err != nil {
				return err
			}
		}
		var err error
		switch {
		case wanted.paused:
			err = t.store(hard, nil)
		case r.handed != nil:
			c := *r.handed
			r.handed = nil
			r.rouse()
			err = t.settle(r.soft, hard, c)
		case r.w.rng.IntN(4) == 0:
			err = t.store(hard, nil)
		}
		if err != nil {
			return err
		}
		if r.handed == nil || wanted.paused {
			r.idle(100 * time.Millisecond)
		}
	}
	err := t.store(hard, nil)
	r.ended = err == nil
	return err
}

// live is term.live.
func (r *replica) live(t *term) error {
	for {
		now, err := t.ledger.beat(r.soft)
		if err != nil {
			return err
		}
		t.wanted.Store(&now)
		r.w.pause(9 * lease / 20)
	}
}

// lock is a mutex of tasks.
type lock struct {
	w    *world
	held bool
}

func (l *lock) Lock() {
	for l.held {
		l.w.pause(l.w.upTo(time.Millisecond))
	}
	l.held = true
}

func (l *lock) Unlock() { l.held = false }

var (
	errHiccup = errors.New("hiccup")
	errAway   = fmt.Errorf("simulated: %w", broker.ErrUnavailable)
	errPoison = fmt.Errorf("simulated: %w", broker.ErrRefused)
)

// Publish keeps the contract of a Publisher. A process that dies or stops amid it has sent a part.
func (r *replica) Publish(_ context.Context, messages []broker.Message) error {
	r.w.publishes(r)
	term := r.ledger.term
	fates := make([]error, len(messages))
	failed := map[string]bool{}
	for i, m := range messages {
		row := r.w.row(m.Payload)
		r.w.sends(row, term)
		r.w.pause(r.w.upTo(time.Millisecond))
		if failed[m.Key] {
			fates[i] = broker.ErrSkipped
			continue
		}
		fates[i] = r.w.deliver(row)
		failed[m.Key] = fates[i] != nil
	}
	r.w.pause(r.w.upTo(2 * time.Millisecond))
	for i, err := range fates {
		if row := r.w.row(messages[i].Payload); err == nil {
			row.acked = term
		}
	}
	return broker.Joined(fates)
}

// deliver is what the broker makes of a message.
func (w *world) deliver(row *row) error {
	switch {
	case w.now < w.away:
		return errAway
	case row.poisoned:
		return errPoison
	case w.chance(w.rates.refuse):
		return errHiccup
	case w.chance(w.rates.late):
		w.sum.lateMessages++
		w.spawn(nil, func() {
			w.pause(w.upTo(3 * time.Second))
			w.hear(row)
		})
		return context.DeadlineExceeded
	}
	w.hear(row)
	if w.chance(w.rates.lostAck) {
		if w.rng.IntN(2) == 0 {
			return errHiccup
		}
		return errAway
	}
	return nil
}
