package saga

import (
	"cmp"
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

// Differs tells whether a store must be told: anything but calls on their way and signals has changed.
func (i Instance) Differs(from Instance) bool {
	same := i.Status == from.Status && i.Backward == from.Backward && i.Stage == from.Stage &&
		i.Reason == from.Reason && i.Problem == from.Problem &&
		i.Deadline.Equal(from.Deadline) && i.FailingSince.Equal(from.FailingSince)
	return !same || !slices.EqualFunc(i.Steps, from.Steps, func(s, t Progress) bool {
		return s.State == t.State && s.Attempts == t.Attempts && s.Unknown == t.Unknown && s.NotBefore.Equal(t.NotBefore)
	})
}

// has tells whether a step of the stage at hand is in one of the states.
func (i Instance) has(states ...StepState) bool {
	return slices.ContainsFunc(i.Steps, func(s Progress) bool { return slices.Contains(states, s.State) })
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

// DecodeSteps sets the progress that EncodeSteps returned; Stage and Backward must be set before. It
// fails if the progress does not belong to the plan, and then sets nothing.
func (i *Instance) DecodeSteps(p Plan, text []byte) error {
	if i.Stage < 0 || i.Stage >= len(p.Stages) {
		return fmt.Errorf("decode progress: saga %s has no stage %d", p.Name, i.Stage)
	}
	steps := make([]Progress, len(p.Stages[i.Stage].Steps))
	if len(text) > 0 {
		steps = nil
		if err := json.Unmarshal(text, &steps); err != nil {
			return fmt.Errorf("decode progress: %w", err)
		}
	}
	if n := len(p.Stages[i.Stage].Steps); len(steps) != n {
		return fmt.Errorf("decode progress: %d steps are stored of %d", len(steps), n)
	}
	for n, s := range steps {
		name := cmp.Or(p.Stages[i.Stage].Steps[n].Name, p.Stages[i.Stage].Steps[n].Undo)
		switch {
		case s.State > StepUndoFailed || s.Attempts < 0:
			return fmt.Errorf("decode progress: step %s is in no state that there is", name)
		case s.State.backward() != i.Backward:
			return fmt.Errorf("decode progress: step %s is %s, against the direction of the saga", name, s.State)
		}
	}
	i.Steps = steps
	return nil
}
