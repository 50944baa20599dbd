package saga_test

import (
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/slipwayhq/slipway/platform/saga"
)

// participant is who a step calls, with a barrier: it does the work once for a key, undoes what was
// done, and refuses what comes after the undo.
type participant struct {
	happened, undone bool
	sealed           bool   // a verification has said for good that it has not happened
	calls            [3]int // by kind: of the owner, since an operator gave all attempts again
}

// effective tells whether the step's effect is there.
func (p *participant) effective() bool { return p.happened && !p.undone }

// runner is a process that runs the saga.
type runner struct {
	token  int64
	inst   saga.Instance
	known  saga.Instance // as it has stored or read it last
	dead   bool
	asleep time.Time          // stopped until then, and knows nothing of it
	amid   func()             // what it does next when it has stopped amid something
	wakes  int                // which of its alarms counts
	told   uint64             // stages whose signal it was told of
	flying [8][3]int          // calls on their way by stage and step
	failed [8][3][3]time.Time // when a call failed last, by stage, step and kind
}

// item is something that happens at a time, in a process or, without one, outside of all.
type item struct {
	at  time.Time
	who *runner
	do  func()
}

// schedule is one simulated life of a saga.
type schedule struct {
	rng     *rand.Rand
	plan    saga.Plan
	pivot   int // number of stages without one
	rates   rates
	now     time.Time
	queue   []item
	tracing bool
	trace   []string

	stored  saga.Instance
	token   int64
	owner   *runner
	parts   [8][3]participant
	signals uint64 // that have come, by stage
	lifted  bool   // an operator has given up the deadline
	skipped bool   // an operator has taken a step for done
	reached int    // the last stage that was begun
	events  int
	tally   tally
	broken  string // the first rule that did not hold
}

// rates says how bad the world is.
type rates struct {
	reject, retryable, unknown, lostReply, slow, crash, stall, handBack, operator float64
}

// tally counts what a schedule has seen, so that a simulation of nothing does not pass.
type tally struct {
	completed, compensated, operators, resolved, skipped                     int
	crashes, takeovers, refused, staleCalls, late, barred, verified, tooLate int
}

func (s *schedule) logf(format string, args ...any) {
	if s.tracing {
		s.trace = append(s.trace, s.now.Format("15:04:05.000 ")+fmt.Sprintf(format, args...))
	}
}

func (s *schedule) fail(format string, args ...any) {
	if s.broken == "" {
		s.broken = fmt.Sprintf(format, args...)
		s.logf("BROKEN: %s", s.broken)
	}
}

func (s *schedule) chance(p float64) bool { return p > 0 && s.rng.Float64() < p }

func (s *schedule) upTo(d time.Duration) time.Duration { return time.Duration(s.rng.Int64N(int64(d))) }

// after does something later.
func (s *schedule) after(d time.Duration, who *runner, do func()) {
	s.queue = append(s.queue, item{s.now.Add(max(d, 0)), who, do})
}

// run lets time pass until nothing is left to happen.
func (s *schedule) run() {
	for len(s.queue) > 0 && s.broken == "" {
		next := 0
		for n := range s.queue {
			if s.queue[n].at.Before(s.queue[next].at) {
				next = n
			}
		}
		it := s.queue[next]
		s.queue = append(s.queue[:next], s.queue[next+1:]...)
		s.now = it.at
		if it.who != nil && it.who.asleep.After(s.now) {
			it.at = it.who.asleep
			s.queue = append(s.queue, it)
			continue
		}
		if it.who != nil && it.who.amid != nil {
			first := it.who.amid
			it.who.amid = nil
			s.queue = append(s.queue, it)
			first()
			continue
		}
		if s.events++; s.events == calmAfter {
			s.logf("everything is mended")
			s.rates = rates{}
		}
		if s.events > endAfter {
			s.fail("it does not end")
		}
		if it.who == nil || !it.who.dead {
			it.do()
		}
	}
}

// claim lets another process take the saga over, or an operator's command.
func (s *schedule) claim(kind saga.EventKind) {
	if s.stored.Status.Final() {
		return
	}
	s.tally.takeovers++
	s.token++
	r := &runner{token: s.token, inst: s.stored}
	if err := r.inst.DecodeSteps(s.plan, s.stored.EncodeSteps()); err != nil {
		s.fail("stored progress is not read again: %v", err)
	}
	r.known, s.owner = r.inst, r
	s.logf("runner %d takes over", r.token)
	e := saga.Event{Kind: kind}
	if kind == saga.Lost || kind == saga.Resumed {
		if e.Signal = s.signaled(r.inst); e.Signal {
			r.told |= 1 << r.inst.Stage
		}
	}
	s.feed(r, e)
}

// claimLater lets another process take over unless somebody has by then.
func (s *schedule) claimLater(d time.Duration, kind saga.EventKind) {
	token := s.token
	s.after(d, nil, func() {
		if s.token == token && s.stored.Status != saga.NeedsOperator {
			s.claim(kind)
		}
	})
}

// feed tells the machine of an event, stores what comes of it, and makes the calls. The process may
// die or stop at each point between.
func (s *schedule) feed(r *runner, e saga.Event) {
	at := s.now
	inst, commands := s.plan.Next("id", r.inst, e, at)
	s.inspect(r, inst, commands)
	r.inst = inst
	s.interrupted(r, func() {
		if !s.record(r) {
			return
		}
		s.interrupted(r, func() {
			for _, c := range commands {
				if s.call(r, c, at); r.dead {
					return
				}
			}
			s.rest(r)
		})
	})
}

// record stores the instance, if somebody must be told and the runner still owns the saga.
func (s *schedule) record(r *runner) bool {
	if !r.inst.Differs(r.known) {
		return true
	}
	if r.token != s.token {
		s.tally.refused++
		s.logf("runner %d: its record is refused", r.token)
		r.dead = true
		return false
	}
	s.stored, r.known = r.inst, r.inst
	s.reached = max(s.reached, r.inst.Stage)
	if s.tracing {
		s.logf("runner %d stores %s backward=%t stage=%d %s reason=%q", r.token, r.inst.Status, r.inst.Backward, r.inst.Stage,
			r.inst.EncodeSteps(), r.inst.Reason)
	}
	return true
}

// interrupted goes on, unless the process dies or stops here.
func (s *schedule) interrupted(r *runner, do func()) {
	switch {
	case s.chance(s.rates.crash):
		s.tally.crashes++
		s.logf("runner %d dies", r.token)
		r.dead = true
		if r.token == s.token {
			s.claimLater(s.upTo(3*time.Second), saga.Lost)
		}
	case s.chance(s.rates.stall):
		s.logf("runner %d stops for a while", r.token)
		r.asleep = s.now.Add(s.upTo(20 * time.Second))
		if r.token == s.token {
			s.claimLater(s.upTo(3*time.Second), saga.Lost)
		}
		r.amid = do
		s.after(0, r, func() {})
	default:
		do()
	}
}

// rest says what is to happen if nothing else does.
func (s *schedule) rest(r *runner) {
	if r.inst.Status.Final() || r.inst.Status == saga.NeedsOperator {
		r.dead = true
		return
	}
	if stage := r.inst.Stage; r.told&(1<<stage) == 0 && s.signaled(r.inst) {
		r.told |= 1 << stage
		s.after(0, r, func() { s.feed(r, saga.Event{Kind: saga.Signaled}) })
	}
	r.wakes++
	alarm, wake := r.wakes, s.plan.Wake(r.inst)
	if wake.IsZero() {
		return
	}
	kind := saga.Elapsed
	if !r.inst.Busy() {
		if r.token == s.token && s.chance(s.rates.handBack) {
			s.logf("runner %d hands back", r.token)
			r.dead = true
			s.claimLater(wake.Sub(s.now)+s.upTo(time.Second), saga.Resumed)
			return
		}
		if s.chance(0.5) {
			kind = saga.Resumed
		}
	}
	s.after(wake.Sub(s.now), r, func() {
		if r.wakes == alarm {
			s.feed(r, saga.Event{Kind: kind})
		}
	})
}

// signaled tells whether what the saga waits for has come.
func (s *schedule) signaled(i saga.Instance) bool {
	return i.Waiting(s.plan) && s.plan.Stages[i.Stage].Steps[0].Kind == saga.KindWait && s.signals&(1<<i.Stage) != 0
}

// send lets a signal come.
func (s *schedule) send(stage int) {
	s.logf("signal for stage %d", stage)
	s.signals |= 1 << stage
	switch r := s.owner; {
	case !s.signaled(s.stored):
	case r.dead:
		s.claimLater(0, saga.Lost)
	case r.inst.Stage == stage && r.told&(1<<stage) == 0:
		r.told |= 1 << stage
		s.after(0, r, func() { s.feed(r, saga.Event{Kind: saga.Signaled}) })
	}
}

// call makes a call: the request takes its time, and so does the answer.
func (s *schedule) call(r *runner, c saga.Command, at time.Time) {
	s.inspectCall(r, c, at)
	timeout := s.plan.Stages[c.Stage].Steps[c.Step].CallTimeout()
	there, back := s.upTo(50*time.Millisecond), s.upTo(50*time.Millisecond)
	if s.chance(s.rates.slow) {
		there = s.upTo(8 * timeout)
	}
	if s.chance(s.rates.slow) {
		back = s.upTo(2 * timeout)
	}
	r.flying[c.Stage][c.Step]++
	s.logf("runner %d calls %s of %s, attempt %d", r.token, c.Kind, s.plan.StepName(c.Stage, c), c.Attempt)
	var res saga.Result
	s.after(there, nil, func() {
		res = s.deliver(c, r.token)
		s.logf("%s of %s arrives: %s %t", c.Kind, s.plan.StepName(c.Stage, c), res.Class, res.Happened)
	})
	if there+back >= timeout {
		s.tally.late++
		s.after(timeout, r, func() { s.reply(r, c, saga.Result{Class: saga.ClassUnknown, Err: errTimeout}) })
		return
	}
	s.after(there+back, r, func() { s.reply(r, c, res) })
	if s.chance(s.rates.crash) {
		s.interruptedAfterCall(r)
	}
}

func (s *schedule) interruptedAfterCall(r *runner) {
	s.tally.crashes++
	s.logf("runner %d dies", r.token)
	r.dead = true
	if r.token == s.token {
		s.claimLater(s.upTo(3*time.Second), saga.Lost)
	}
}

func (s *schedule) reply(r *runner, c saga.Command, res saga.Result) {
	r.flying[c.Stage][c.Step]--
	if res.Class != saga.ClassOK {
		r.failed[c.Stage][c.Step][c.Kind] = s.now
	}
	s.logf("runner %d hears of %s of %s: %s", r.token, c.Kind, s.plan.StepName(c.Stage, c), res.Class)
	s.feed(r, res.Event(c))
}
