package saga

import "time"

// StepState tells what is known of a step.
type StepState uint8

// The states of a step.
const (
	StepPending   StepState = iota
	StepVerifying           // out of attempts with an unknown outcome: its verification is asked
	StepDone
	StepFailed    // it has had no effect
	StepUncertain // it may have had its effect, now or later
	StepUndoing
	StepUndone
	StepUndoFailed // its undo is out of attempts
)

var stepNames = [...]string{"pending", "verifying", "done", "failed", "uncertain", "undoing", "undone", "undo_failed"}

// String returns the name in lower case, with underscores.
func (s StepState) String() string { return stepNames[s] }

// open tells whether there is something to call, or to wait for.
func (s StepState) open() bool { return s == StepPending || s == StepVerifying || s == StepUndoing }

// backward tells whether the state is one of a saga that is undone.
func (s StepState) backward() bool { return s >= StepUndoing }

// call returns what is called in an open state.
func (s StepState) call() CallKind {
	switch s {
	case StepVerifying:
		return CallVerify
	case StepUndoing:
		return CallUndo
	default:
		return CallAction
	}
}

// during returns the state in which the call is made.
func (k CallKind) during() StepState {
	switch k {
	case CallVerify:
		return StepVerifying
	case CallUndo:
		return StepUndoing
	default:
		return StepPending
	}
}

// Progress is how far a step is.
type Progress struct {
	State StepState `json:"state"`
	// Attempts counts the failed attempts at what the state says is to be done.
	Attempts int `json:"attempts,omitempty"`
	// Unknown says that an attempt may have had its effect, or may still have it.
	Unknown bool `json:"unknown,omitempty"`
	// NotBefore is when the next attempt may be made; for a wait, when it is over.
	NotBefore time.Time `json:"not_before,omitzero"`

	calling  bool // a call is on its way; known only to who makes it
	signaled bool // what a wait waits for is there
}

// due tells whether the step is to be called now.
func (s *Progress) due(plan PlanStep, now time.Time) bool {
	if s.State == StepPending && (plan.Kind == KindWait || plan.Kind == KindTimer) {
		return s.signaled && (s.Attempts == 0 || !now.Before(s.NotBefore))
	}
	return s.State.open() && !now.Before(s.NotBefore)
}

// succeed notes what a call has brought about. A verification answers for the attempts that it knows
// of; one that is still on its way must be kept from having its effect, which only the undo does.
func (s *Progress) succeed(plan PlanStep, e Event) {
	switch {
	case e.Call == CallUndo:
		s.State = StepUndone
	case e.Call == CallAction || e.Happened:
		s.State = StepDone
	case plan.Undo != "":
		s.State = StepUncertain
	default:
		s.State = StepFailed
	}
}

// fail counts an attempt without success. It may have been the last one: the policy says so, or the
// call's refusal is final.
func (s *Progress) fail(plan PlanStep, final bool) {
	s.Attempts++
	if !final && !plan.policy(s.State).exhausted(s.Attempts) {
		return
	}
	switch s.State {
	case StepPending:
		s.giveUp(plan)
	case StepVerifying:
		s.State = StepUncertain
	default:
		s.State = StepUndoFailed
	}
}

// giveUp ends the attempts at a step. If one of them may have had its effect, a refusal of another one
// says nothing: the outcome is asked for, or the step is undone as if it had happened.
func (s *Progress) giveUp(plan PlanStep) {
	switch {
	case !s.Unknown:
		s.State = StepFailed
	case plan.Verify:
		*s = Progress{State: StepVerifying, Unknown: true}
	default:
		s.State = StepUncertain
	}
}
