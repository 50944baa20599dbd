package saga

import (
	"cmp"
	"fmt"
	"slices"
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

// Command asks for a call of a step of the stage at hand.
type Command struct {
	Step    int
	Kind    CallKind
	Attempt int
}

// EventKind tells what has happened to a saga.
type EventKind uint8

// What can happen.
const (
	// Resumed: time has passed, or another process goes on.
	Resumed EventKind = iota
	// Lost: as Resumed, and calls may have been made whose results are lost.
	Lost
	// Returned: a call has come back.
	Returned
	// Signaled: what a wait waits for is there.
	Signaled
	// OperatorRetry: try again at once, with all attempts.
	OperatorRetry
	// OperatorCompensate: undo the saga, if its pivot has not begun.
	OperatorCompensate
	// OperatorSkip: take the steps at hand for done, or for undone.
	OperatorSkip
	// OperatorResolve: the saga is over, whatever its steps say.
	OperatorResolve
)

// Event is something that has happened. Step, Call, Class, Error, After and Happened are those of a
// call that has Returned, Reason is that of an operator.
type Event struct {
	Kind     EventKind
	Step     int
	Call     CallKind
	Class    Class
	Error    string
	After    time.Duration
	Happened bool
	Reason   string
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
func (p Plan) Next(id string, i Instance, e Event, now time.Time) (Instance, []Command) {
	i = i.clone()
	if i.Status.Final() {
		return i, nil
	}
	switch e.Kind {
	case Resumed:
		p.resume(&i)
	case Lost:
		p.lose(&i)
	case Returned:
		p.returned(id, &i, e, now)
	case Signaled:
		if i.Waiting(p) {
			i.Steps[0].signaled = true
		}
	case OperatorRetry:
		p.retry(&i, now)
	case OperatorCompensate:
		p.compensate(&i, cmp.Or(e.Reason, "asked for by an operator"))
	case OperatorSkip:
		p.skip(&i)
	case OperatorResolve:
		i.Status, i.Problem = Resolved, e.Reason
	}
	p.settle(&i, now)
	return i, p.commands(&i, now)
}

// Wake returns when the instance wants to be resumed if nothing else happens; zero for never, a time
// long past for at once.
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
		if !s.calling && (s.State == StepPending || s.State == StepVerifying || s.State == StepUndoing) {
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

// bounded tells whether the deadline applies: the saga can be undone.
func (p Plan) bounded(i Instance) bool {
	return !i.Deadline.IsZero() && p.CanCompensate(i)
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
		}
	}
}

func (p Plan) resume(i *Instance) {
	for n := range i.Steps {
		i.Steps[n].calling = false
	}
}

// lose counts the calls that may have been made: a step that ends its process each time must not be
// tried for ever.
func (p Plan) lose(i *Instance) {
	p.resume(i)
	for n := range i.Steps {
		s, plan := &i.Steps[n], p.Stages[i.Stage].Steps[n]
		if plan.Kind != KindStep && plan.Kind != KindPivot {
			continue
		}
		switch s.State {
		case StepPending:
			s.Attempts, s.Unknown = s.Attempts+1, true
			if plan.Retry.exhausted(s.Attempts) {
				p.giveUp(s, plan)
			}
		case StepVerifying, StepUndoing: // repeating them is bounded by who loses processes over them
			s.Attempts++
		}
	}
}

func (p Plan) returned(id string, i *Instance, e Event, now time.Time) {
	s, plan := &i.Steps[e.Step], p.Stages[i.Stage].Steps[e.Step]
	s.calling = false
	if e.Class == ClassOK {
		i.FailingSince, i.Problem = time.Time{}, ""
	} else {
		i.Problem = fmt.Sprintf("%s: %s", cmp.Or(plan.Name, plan.Undo), e.Error)
		if e.Call == CallUndo {
			i.Problem = fmt.Sprintf("%s: %s", plan.Undo, e.Error)
		}
		if i.FailingSince.IsZero() {
			i.FailingSince = now
		}
	}
	policy := plan.Retry
	switch {
	case e.Call == CallUndo && s.State == StepUndoing:
		if e.Class == ClassOK {
			s.State = StepUndone
			return
		}
		policy = plan.UndoRetry
		if e.Class == ClassRejected {
			s.Attempts = max(s.Attempts, policy.MaxAttempts-1)
		}
	case e.Call == CallVerify && s.State == StepVerifying:
		if e.Class == ClassOK {
			s.State = StepFailed
			if e.Happened {
				s.State = StepDone
			}
			return
		}
	case e.Call == CallAction && s.State == StepPending:
		switch e.Class {
		case ClassOK:
			s.State = StepDone
			return
		case ClassRejected:
			s.State = StepFailed
			return
		case ClassUnknown:
			s.Unknown = true
		}
	default: // what has become of the step meanwhile stands
		return
	}
	s.Attempts++
	s.NotBefore = now.Add(max(e.After, policy.pause(s.Attempts, id+plan.Name)))
	if !policy.exhausted(s.Attempts) && !(e.Call == CallUndo && e.Class == ClassRejected) {
		return
	}
	switch s.State {
	case StepPending:
		p.giveUp(s, plan)
	case StepVerifying:
		s.State = StepUncertain
	default:
		i.Status = NeedsOperator
	}
}

// giveUp ends the attempts at a step. What its outcome is may still have to be asked.
func (p Plan) giveUp(s *Progress, plan PlanStep) {
	switch {
	case !s.Unknown:
		s.State = StepFailed
	case plan.Verify:
		*s = Progress{State: StepVerifying, Unknown: true}
	default:
		s.State = StepUncertain
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
	in := func(states ...StepState) bool {
		return slices.ContainsFunc(i.Steps, func(s Progress) bool { return slices.Contains(states, s.State) })
	}
	switch {
	case in(StepFailed, StepUncertain):
		i.Reason = cmp.Or(i.Reason, i.Problem)
	case p.bounded(*i) && !now.Before(i.Deadline):
		i.Reason = cmp.Or(i.Reason, "deadline exceeded")
	}
	if i.Reason != "" {
		p.abandon(i)
	}
	switch {
	case in(StepPending, StepVerifying):
	case in(StepFailed, StepUncertain), i.Reason != "" && i.Stage < p.pivot():
		p.turn(i)
	default:
		p.advance(i, now)
	}
}

// advance goes to the next stage.
func (p Plan) advance(i *Instance, now time.Time) {
	i.Reason = ""
	if i.Stage == len(p.Stages)-1 {
		i.Status = Completed
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
		switch plan.Kind {
		case KindTimer:
			s.State = StepDone
		case KindWait:
			if s.Attempts == 0 {
				s.State = StepFailed
				i.Problem = plan.Name + ": nothing came in time"
			}
		}
	}
}

// abandon makes no further attempts at the stage at hand. Calls on their way are waited for.
func (p Plan) abandon(i *Instance) {
	for n := range i.Steps {
		if s := &i.Steps[n]; s.State == StepPending && !s.calling {
			p.giveUp(s, p.Stages[i.Stage].Steps[n])
		}
	}
}

// turn begins to undo the saga, if it can be undone.
func (p Plan) turn(i *Instance) {
	stage := p.Stages[i.Stage]
	uncertainPivot := stage.Steps[0].Kind == KindPivot && i.Steps[0].State == StepUncertain
	if i.Stage > p.pivot() || uncertainPivot {
		i.Status = NeedsOperator
		return
	}
	i.Status, i.Backward = Compensating, true
	i.FailingSince = time.Time{}
	for n := range i.Steps {
		state := StepUndone
		if s := i.Steps[n].State; stage.Steps[n].Undo != "" && (s == StepDone || s == StepUncertain) {
			state = StepUndoing
		}
		i.Steps[n] = Progress{State: state}
	}
}

func (p Plan) settleBackward(i *Instance) {
	if slices.ContainsFunc(i.Steps, func(s Progress) bool { return s.State != StepUndone }) {
		return
	}
	if i.Stage == 0 {
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

// retry gives every step of the stage at hand all its attempts again.
func (p Plan) retry(i *Instance, now time.Time) {
	i.proceed()
	for n := range i.Steps {
		s, plan := &i.Steps[n], p.Stages[i.Stage].Steps[n]
		switch s.State {
		case StepFailed, StepUncertain:
			*s = Progress{Unknown: s.State == StepUncertain || s.Unknown}
			if plan.Kind == KindWait {
				s.NotBefore = now.Add(plan.Timeout)
			}
		case StepPending, StepVerifying, StepUndoing:
			if plan.Kind == KindStep || plan.Kind == KindPivot || s.State == StepUndoing {
				s.Attempts, s.NotBefore = 0, time.Time{}
			}
		}
	}
}

// compensate takes the word of the operator for it that a pivot with an unknown outcome has not
// happened.
func (p Plan) compensate(i *Instance, reason string) {
	if !p.CanCompensate(*i) {
		return
	}
	if i.Status == NeedsOperator {
		i.proceed()
		for n := range i.Steps {
			if i.Steps[n].State == StepUncertain {
				i.Steps[n].State = StepFailed
			}
		}
	}
	i.Reason = reason
}

func (p Plan) skip(i *Instance) {
	i.proceed()
	done := StepDone
	if i.Backward {
		done = StepUndone
	}
	for n := range i.Steps {
		if i.Steps[n].State != done {
			i.Steps[n] = Progress{State: done}
		}
	}
}

// proceed goes on in the direction in which the saga was going.
func (i *Instance) proceed() {
	i.Status, i.FailingSince = Compensating, time.Time{}
	if !i.Backward {
		i.Status, i.Reason = Running, ""
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
		if s.calling {
			continue
		}
		due := !now.Before(s.NotBefore)
		var kind CallKind
		switch s.State {
		case StepPending:
			if plan.Kind == KindTimer || plan.Kind == KindWait && !s.signaled {
				continue
			}
			due = due || plan.Kind == KindWait && s.Attempts == 0
		case StepVerifying:
			kind = CallVerify
		case StepUndoing:
			kind = CallUndo
		default:
			continue
		}
		if due {
			s.calling = true
			commands = append(commands, Command{Step: n, Kind: kind, Attempt: s.Attempts + 1})
		}
	}
	return commands
}
