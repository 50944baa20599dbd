package saga

import (
	"encoding/json"
	"fmt"
	"slices"
	"time"
)

// Status tells where a saga is in its life.
type Status uint8

// The states of a saga; see the package comment. The last three are final.
const (
	Running Status = iota
	Compensating
	NeedsOperator
	Completed
	Compensated
	Resolved
)

var statusNames = [...]string{"running", "compensating", "needs_operator", "completed", "compensated", "resolved"}

// String returns the name in lower case, with underscores.
func (s Status) String() string { return statusNames[s] }

// Final tells whether nothing happens any more.
func (s Status) Final() bool { return s >= Completed }

// StatusOf returns the status of a name, and false for an unknown one.
func StatusOf(name string) (Status, bool) {
	i := slices.Index(statusNames[:], name)
	return Status(max(i, 0)), i >= 0
}

// StepState tells what is known of a step.
type StepState uint8

// The states of a step.
const (
	StepPending   StepState = iota
	StepVerifying           // out of attempts with an unknown outcome: its verification is asked
	StepDone
	StepFailed    // it has had no effect
	StepUncertain // it may have had its effect
	StepUndoing
	StepUndone
)

var stepNames = [...]string{"pending", "verifying", "done", "failed", "uncertain", "undoing", "undone"}

// String returns the name in lower case.
func (s StepState) String() string { return stepNames[s] }

// Progress is how far a step is.
type Progress struct {
	State StepState `json:"state"`
	// Attempts counts the failed attempts at what the state says is to be done.
	Attempts int `json:"attempts,omitempty"`
	// Unknown says that an attempt may have had its effect.
	Unknown bool `json:"unknown,omitempty"`
	// NotBefore is when the next attempt may be made; for a wait, when it is over.
	NotBefore time.Time `json:"not_before,omitzero"`

	calling  bool // a call is on its way; known only to who makes it
	signaled bool // what a wait waits for is there
}

// Instance is one saga, without its data. The zero value has not begun: see [Plan.Start].
type Instance struct {
	Status Status
	// Backward tells that the saga is undone; with NeedsOperator, which way it was going.
	Backward bool
	// Stage is the index of the stage at hand, Steps how far its steps are.
	Stage int
	Steps []Progress
	// Reason is why the saga is undone, Problem what went wrong last.
	Reason  string
	Problem string
	// Deadline is when what is not done is undone; zero for never.
	Deadline time.Time
	// FailingSince is when the first attempt failed of those that are not yet made up for.
	FailingSince time.Time
}

// Fresh tells whether no attempt was made at the stage at hand.
func (i Instance) Fresh() bool {
	return !slices.ContainsFunc(i.Steps, func(s Progress) bool { return s != Progress{} })
}

// Busy tells whether a call is on its way.
func (i Instance) Busy() bool {
	return slices.ContainsFunc(i.Steps, func(s Progress) bool { return s.calling })
}

// WithoutCalls returns the instance with no call on its way: what was asked for was not done.
func (i Instance) WithoutCalls() Instance {
	i = i.clone()
	for n := range i.Steps {
		i.Steps[n].calling = false
	}
	return i
}

// Waiting tells whether the saga waits for a signal or for time to pass.
func (i Instance) Waiting(p Plan) bool {
	if i.Status != Running || i.Backward {
		return false
	}
	kind := p.Stages[i.Stage].Steps[0].Kind
	return (kind == KindWait || kind == KindTimer) && i.Steps[0].State == StepPending
}

// Current returns the names of the steps at hand: those of their undos, if the saga is undone.
func (i Instance) Current(p Plan) []string {
	if i.Status.Final() {
		return nil
	}
	var names []string
	for n, s := range p.Stages[i.Stage].Steps {
		switch {
		case i.Steps[n].State == StepUndone || i.Steps[n].State == StepDone:
		case i.Backward:
			names = append(names, s.Undo)
		default:
			names = append(names, s.Name)
		}
	}
	return names
}

func (i Instance) clone() Instance {
	i.Steps = slices.Clone(i.Steps)
	return i
}

// EncodeSteps returns the progress of the stage at hand for a store; nil if there is none.
func (i Instance) EncodeSteps() []byte {
	stored := i.clone().Steps
	none := true
	for n := range stored {
		stored[n].calling, stored[n].signaled = false, false
		none = none && stored[n] == Progress{}
	}
	if none {
		return nil
	}
	text, _ := json.Marshal(stored) // numbers, flags and times
	return text
}

// DecodeSteps sets the progress that EncodeSteps returned. It fails if it does not belong to the plan.
func (i *Instance) DecodeSteps(p Plan, text []byte) error {
	if i.Stage < 0 || i.Stage >= len(p.Stages) {
		return fmt.Errorf("decode progress: saga %s has no stage %d", p.Name, i.Stage)
	}
	n := len(p.Stages[i.Stage].Steps)
	i.Steps = make([]Progress, n)
	if len(text) == 0 {
		return nil
	}
	if err := json.Unmarshal(text, &i.Steps); err != nil {
		return fmt.Errorf("decode progress: %w", err)
	}
	if len(i.Steps) != n {
		return fmt.Errorf("decode progress: %d steps are stored of %d", len(i.Steps), n)
	}
	return nil
}
