package saga

import (
	"cmp"
	"fmt"
	"time"
)

// CallKind tells which function of a step is called.
type CallKind uint8

// What is called.
const (
	CallAction CallKind = iota
	CallVerify
	CallUndo
)

var callNames = [...]string{"action", "verify", "undo"}

// String returns "action", "verify" or "undo".
func (k CallKind) String() string { return callNames[k] }

// Command asks for a call of a step.
type Command struct {
	Stage   int
	Step    int
	Kind    CallKind
	Attempt int
}

// EventKind tells what has happened to a saga.
type EventKind uint8

// What can happen.
const (
	// Resumed: this process or another one goes on, and no call is on its way: none was made since the
	// instance was stored, or all have come back and that was stored.
	Resumed EventKind = iota
	// Lost: as Resumed, and calls may have been made whose results are lost.
	Lost
	// Returned: a call has come back.
	Returned
	// Signaled: what a wait waits for is there.
	Signaled
	// OperatorRetry: try again at once, with all attempts. What an operator was needed for is also tried
	// again after the deadline, which no longer applies.
	OperatorRetry
	// OperatorCompensate: undo the saga, if its pivot has not happened.
	OperatorCompensate
	// OperatorSkip: take the steps at hand for done, or for undone.
	OperatorSkip
	// OperatorResolve: the saga is over, whatever its steps say.
	OperatorResolve
	// Elapsed: time has passed; calls may be on their way.
	Elapsed
)

// Event is something that has happened. Stage, Step, Call, Class, Error, After and Happened are those
// of a call that has Returned, Reason is that of an operator.
type Event struct {
	Kind     EventKind
	Stage    int
	Step     int
	Call     CallKind
	Class    Class
	Error    string
	After    time.Duration
	Happened bool
	Reason   string
	// Signal says with Resumed and Lost that what the step at hand waits for is there.
	Signal bool
}

// Start returns a new instance and what is to be done first. id makes the pauses of different sagas
// different.
func (p Plan) Start(id string, now time.Time) (Instance, []Command) {
	i := Instance{Status: Running}
	if p.Timeout > 0 {
		i.Deadline = now.Add(p.Timeout)
	}
	p.enter(&i, now)
	return p.Next(id, i, Event{Kind: Resumed}, now)
}

// Next is the state machine: it returns the instance after an event, and the calls that are to be made
// now. It depends on nothing but its arguments and changes none of them. A call is asked for once; a
// process that takes an instance from a store begins with Resumed or Lost.
//
// An instance that [Instance.Differs] must be stored before its calls are made, or another process could
// go on in another direction: undo what this one builds on, or build on what this one undoes.
func (p Plan) Next(id string, i Instance, e Event, now time.Time) (Instance, []Command) {
	i = i.clone()
	if i.Status.Final() {
		return i, nil
	}
	if e.Signal || e.Kind == Signaled {
		p.signal(&i)
	}
	switch e.Kind {
	case Resumed:
		i = i.WithoutCalls()
	case Lost:
		p.lose(&i)
	case Returned:
		p.returned(id, &i, e, now)
	case OperatorRetry:
		p.retry(&i, now)
	case OperatorCompensate:
		p.compensate(&i, cmp.Or(e.Reason, "asked for by an operator"))
	case OperatorSkip:
		p.skip(&i)
	case OperatorResolve:
		i.Status, i.Problem = Resolved, e.Reason
	case Signaled, Elapsed:
	}
	p.settle(&i, now)
	return i, p.commands(&i, now)
}

// Wake returns when the instance wants to know that time has passed, if nothing else happens; zero for
// never, a time long past for at once. Calls on their way are not waited for.
func (p Plan) Wake(i Instance) time.Time {
	if i.Status.Final() || i.Status == NeedsOperator {
		return time.Time{}
	}
	var wake time.Time
	sooner := func(t time.Time) {
		if t.IsZero() {
			t = time.Unix(0, 0)
		}
		if wake.IsZero() || t.Before(wake) {
			wake = t
		}
	}
	for _, s := range i.Steps {
		if !s.calling && s.State.open() {
			sooner(s.NotBefore)
		}
	}
	if p.bounded(i) && !wake.IsZero() {
		sooner(i.Deadline)
	}
	return wake
}

// CanCompensate tells whether the saga can still be undone.
func (p Plan) CanCompensate(i Instance) bool {
	return !i.Status.Final() && !i.Backward && i.Stage <= p.pivot()
}

// bounded tells whether the deadline is still to come into force: the saga can be undone, and nobody
// has decided that yet.
func (p Plan) bounded(i Instance) bool {
	return !i.Deadline.IsZero() && i.Reason == "" && p.CanCompensate(i)
}

// enter begins with the stage at hand.
func (p Plan) enter(i *Instance, now time.Time) {
	i.Steps = make([]Progress, len(p.Stages[i.Stage].Steps))
	for n, s := range p.Stages[i.Stage].Steps {
		switch s.Kind {
		case KindUndo:
			i.Steps[n].State = StepDone
		case KindWait, KindTimer:
			i.Steps[n].NotBefore = now.Add(s.Timeout)
		case KindStep, KindPivot:
		}
	}
}

// signal notes that what the wait at hand waits for is there.
func (p Plan) signal(i *Instance) {
	if i.Waiting(p) && p.Stages[i.Stage].Steps[0].Kind == KindWait {
		i.Steps[0].signaled = true
	}
}

// lose counts the calls that may have been made: a step that ends its process each time must not be
// tried for ever. A wait may have been called if its signal is there; in doubt only its outcome is.
func (p Plan) lose(i *Instance) {
	for n := range i.Steps {
		s, plan := &i.Steps[n], p.Stages[i.Stage].Steps[n]
		s.calling = false
		if !s.State.open() || plan.Kind == KindTimer && s.State == StepPending {
			continue
		}
		s.Unknown = s.Unknown || s.State == StepPending
		if plan.Kind == KindWait && s.State == StepPending {
			if !s.signaled {
				continue
			}
			s.NotBefore = time.Time{}
		}
		i.Problem = cmp.Or(i.Problem, plan.nameOf(s.State)+": the result of an attempt is lost")
		s.fail(plan, false)
	}
}

func (p Plan) returned(id string, i *Instance, e Event, now time.Time) {
	if e.Stage != i.Stage || e.Step >= len(i.Steps) || i.Steps[e.Step].State != e.Call.during() {
		return // what has become of the step meanwhile stands
	}
	s, plan := &i.Steps[e.Step], p.Stages[i.Stage].Steps[e.Step]
	s.calling = false
	if e.Class == ClassOK {
		i.FailingSince = time.Time{}
		if e.Call != CallVerify || e.Happened {
			i.Problem = ""
		}
		s.succeed(plan, e)
		return
	}
	i.Problem = fmt.Sprintf("%s: %s", plan.nameOf(s.State), e.Error)
	if i.FailingSince.IsZero() {
		i.FailingSince = now
	}
	if e.Call == CallAction && e.Class == ClassUnknown {
		s.Unknown = true
	}
	s.fail(plan, e.Class == ClassRejected && e.Call != CallVerify)
	if s.State == e.Call.during() {
		s.NotBefore = now.Add(max(e.After, plan.policy(s.State).pause(s.Attempts, id+plan.Name)))
	}
}

// settle moves on as far as it goes without a call.
func (p Plan) settle(i *Instance, now time.Time) {
	for !i.Status.Final() && i.Status != NeedsOperator {
		before, stage := i.Backward, i.Stage
		if i.Backward {
			p.settleBackward(i)
		} else {
			p.settleForward(i, now)
		}
		if i.Backward == before && i.Stage == stage {
			return
		}
	}
}

func (p Plan) settleForward(i *Instance, now time.Time) {
	p.passTime(i, now)
	if i.Stage <= p.pivot() {
		p.decide(i, now)
	}
	switch {
	case i.has(StepPending, StepVerifying):
	case i.has(StepFailed, StepUncertain), i.Reason != "" && i.Stage < p.pivot():
		p.turn(i)
	default:
		p.advance(i, now)
	}
}

// decide ends a stage that can be undone when one of its steps has failed, or the saga is out of time:
// no further attempts are made. Calls on their way are waited for.
func (p Plan) decide(i *Instance, now time.Time) {
	switch {
	case i.has(StepFailed, StepUncertain):
		i.Reason = cmp.Or(i.Reason, i.Problem, "a step has failed")
	case p.bounded(*i) && !now.Before(i.Deadline):
		i.Reason = "deadline exceeded"
	}
	for n := range i.Steps {
		if s := &i.Steps[n]; i.Reason != "" && s.State == StepPending && !s.calling {
			s.giveUp(p.Stages[i.Stage].Steps[n])
		}
	}
}

// advance goes to the next stage.
func (p Plan) advance(i *Instance, now time.Time) {
	i.Reason = ""
	if i.Stage == len(p.Stages)-1 {
		i.Status, i.Problem = Completed, ""
		return
	}
	i.Stage++
	p.enter(i, now)
}

// passTime ends timers, and waits that nothing came for.
func (p Plan) passTime(i *Instance, now time.Time) {
	for n := range i.Steps {
		s, plan := &i.Steps[n], p.Stages[i.Stage].Steps[n]
		if s.State != StepPending || s.signaled || now.Before(s.NotBefore) {
			continue
		}
		switch {
		case plan.Kind == KindTimer:
			s.State = StepDone
		case plan.Kind == KindWait && s.Attempts > 0: // the signal has gone
			s.Attempts, s.NotBefore = 0, now.Add(plan.Timeout)
		case plan.Kind == KindWait:
			i.Problem = plan.Name + ": nothing came in time"
			s.giveUp(plan)
		}
	}
}

// turn begins to undo the saga, if it can be undone.
func (p Plan) turn(i *Instance) {
	if i.Stage > p.pivot() || i.Stage == p.pivot() && i.has(StepUncertain) {
		i.Status = NeedsOperator
		return
	}
	i.Status, i.Backward = Compensating, true
	i.FailingSince = time.Time{}
	for n := range i.Steps {
		state := StepUndone
		if s := i.Steps[n].State; p.Stages[i.Stage].Steps[n].Undo != "" && (s == StepDone || s == StepUncertain) {
			state = StepUndoing
		}
		i.Steps[n] = Progress{State: state}
	}
}

func (p Plan) settleBackward(i *Instance) {
	switch {
	case i.has(StepUndoing):
		return
	case i.has(StepUndoFailed):
		i.Status = NeedsOperator
		return
	case i.Stage == 0:
		i.Status, i.Problem = Compensated, ""
		return
	}
	i.Stage--
	i.Steps = make([]Progress, len(p.Stages[i.Stage].Steps))
	for n, s := range p.Stages[i.Stage].Steps {
		i.Steps[n].State = StepUndone
		if s.Undo != "" {
			i.Steps[n].State = StepUndoing
		}
	}
}

// commands asks for the calls that are due.
func (p Plan) commands(i *Instance, now time.Time) []Command {
	if i.Status.Final() || i.Status == NeedsOperator {
		return nil
	}
	var commands []Command
	for n := range i.Steps {
		s, plan := &i.Steps[n], p.Stages[i.Stage].Steps[n]
		if s.calling || !s.due(plan, now) {
			continue
		}
		s.calling = true
		commands = append(commands, Command{Stage: i.Stage, Step: n, Kind: s.State.call(), Attempt: s.Attempts + 1})
	}
	return commands
}
