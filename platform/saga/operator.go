package saga

import "time"

// retry gives the steps of the stage at hand all their attempts again. What a decision to undo the saga
// has ended before stays so.
func (p Plan) retry(i *Instance, now time.Time) {
	stopped := i.Status == NeedsOperator
	if stopped {
		i.proceed()
	}
	if stopped && !i.Backward && !now.Before(i.Deadline) {
		i.Deadline = time.Time{}
	}
	i.FailingSince = time.Time{}
	for n := range i.Steps {
		s, plan := &i.Steps[n], p.Stages[i.Stage].Steps[n]
		switch s.State {
		case StepFailed, StepUncertain:
			*s = Progress{Unknown: s.Unknown || s.State == StepUncertain}
			s.again(plan, now)
		case StepUndoFailed:
			*s = Progress{State: StepUndoing}
		case StepPending, StepVerifying, StepUndoing:
			s.again(plan, now)
		case StepDone, StepUndone:
		}
	}
}

// again gives a step all its attempts, and a wait without one its time.
func (s *Progress) again(plan PlanStep, now time.Time) {
	waits := s.State == StepPending && (plan.Kind == KindWait || plan.Kind == KindTimer)
	if waits && s.Attempts == 0 && !s.NotBefore.IsZero() {
		return
	}
	s.Attempts, s.NotBefore = 0, time.Time{}
	if waits {
		s.NotBefore = now.Add(plan.Timeout)
	}
}

// compensate takes the word of the operator for it that a pivot with an unknown outcome has not
// happened and never will.
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
	if i.Status == NeedsOperator {
		i.proceed()
	}
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
