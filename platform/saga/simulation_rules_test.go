package saga_test

import (
	"time"

	"github.com/slipwayhq/slipway/platform/saga"
)

// inspect holds the rules that are true after each event.
func (s *schedule) inspect(r *runner, i saga.Instance, commands []saga.Command) {
	ended := i.Status.Final() || i.Status == saga.NeedsOperator
	wake := s.plan.Wake(i)
	switch {
	case !wake.IsZero() && !wake.After(s.now):
		s.fail("runner %d wants to be woken in the past", r.token)
	case ended && !wake.IsZero():
		s.fail("a saga that is %s wants to be woken", i.Status)
	case ended && len(commands) > 0:
		s.fail("a saga that is %s makes calls", i.Status)
	case !ended && wake.IsZero() && !i.Busy():
		s.fail("nothing will ever happen")
	case i.Backward && i.Reason == "":
		s.fail("it is undone for no reason")
	case r.inst.Backward && !i.Backward:
		s.fail("it turned back twice")
	case s.decided(r.inst) && i.Reason == "":
		s.fail("a decision to undo it is forgotten")
	case !i.Backward && i.Stage > s.pivot && i.Reason != "":
		s.fail("it is to be undone after the pivot")
	case i.Status == saga.NeedsOperator && i.Busy():
		s.fail("an operator is needed while calls are on their way")
	case i.Status == saga.Running && !i.Deadline.IsZero() && !s.now.Before(i.Deadline) && i.Stage <= s.pivot && i.Reason == "":
		s.fail("the deadline was missed")
	}
	if i.Backward && !r.inst.Backward && i.Reason == "deadline exceeded" {
		s.tally.tooLate++
	}
}

// decided tells whether a saga that goes forward is to be undone.
func (s *schedule) decided(i saga.Instance) bool {
	return i.Status == saga.Running && i.Stage < s.pivot && i.Reason != ""
}

// inspectCall holds the rules of calls. What a process does that another one has taken over from is not
// the machine's fault: the participant's barrier is there for that.
func (s *schedule) inspectCall(r *runner, c saga.Command, at time.Time) {
	name := s.plan.StepName(c.Stage, c)
	step, p := s.plan.Stages[c.Stage].Steps[c.Step], &s.parts[c.Stage][c.Step]
	if r.flying[c.Stage][c.Step] > 0 && !s.skipped {
		s.fail("%s is called while a call of it is on its way", name)
	}
	policy := step.Retry
	if c.Kind == saga.CallUndo {
		policy = step.UndoRetry
	}
	if failed := r.failed[c.Stage][c.Step][c.Kind]; !failed.IsZero() && at.Sub(failed) < policy.Initial/2 {
		s.fail("%s is called again without a pause", name)
	}
	if r.token != s.token {
		s.tally.staleCalls++
		return
	}
	p.calls[c.Kind]++
	switch {
	case policy.MaxAttempts > 0 && p.calls[c.Kind] > policy.MaxAttempts:
		s.fail("%s is called %d times", name, p.calls[c.Kind])
	case c.Kind != saga.CallUndo && p.undone:
		s.fail("%s is called after its undo", name)
	case c.Kind == saga.CallVerify && !step.Verify, c.Kind == saga.CallUndo && step.Undo == "":
		s.fail("%s has no %s", name, c.Kind)
	case c.Kind == saga.CallAction && c.Stage <= s.pivot && !s.lifted && !s.stored.Deadline.IsZero() && !at.Before(s.stored.Deadline):
		s.fail("%s is called after the deadline", name)
	}
}

// verdict holds the rules of a saga that is over, when the last message has arrived.
func (s *schedule) verdict() {
	undone := false
	for n := range s.plan.Stages {
		for m := range s.plan.Stages[n].Steps {
			undone = undone || s.parts[n][m].undone
		}
	}
	switch s.stored.Status {
	case saga.Resolved:
		s.tally.resolved++
	case saga.Completed:
		if s.skipped {
			s.tally.skipped++
			return
		}
		s.tally.completed++
		if undone {
			s.fail("it is completed, and something is undone")
		}
		s.eachStep(func(_ int, step saga.PlanStep, p *participant) {
			if (step.Kind == saga.KindStep || step.Kind == saga.KindPivot) && !p.happened {
				s.fail("it is completed without %s", step.Name)
			}
		})
	case saga.Compensated:
		if s.skipped {
			s.tally.skipped++
			return
		}
		s.tally.compensated++
		s.eachStep(s.compensated)
	default:
		s.fail("it ends %s", s.stored.Status)
	}
}

func (s *schedule) compensated(stage int, step saga.PlanStep, p *participant) {
	switch {
	case step.Kind == saga.KindPivot && p.happened:
		s.fail("it is compensated, and its pivot has happened")
	case step.Undo != "" && p.effective():
		s.fail("it is compensated, and %s has happened", step.Name)
	case step.Kind == saga.KindUndo && stage < s.reached && !p.undone:
		s.fail("it is compensated without %s", step.Undo)
	}
}

func (s *schedule) eachStep(do func(stage int, step saga.PlanStep, p *participant)) {
	for n := range s.plan.Stages {
		for m, step := range s.plan.Stages[n].Steps {
			do(n, step, &s.parts[n][m])
		}
	}
}

func (t *tally) add(o tally) {
	t.completed += o.completed
	t.compensated += o.compensated
	t.operators += o.operators
	t.resolved += o.resolved
	t.skipped += o.skipped
	t.crashes += o.crashes
	t.takeovers += o.takeovers
	t.refused += o.refused
	t.staleCalls += o.staleCalls
	t.late += o.late
	t.barred += o.barred
	t.verified += o.verified
	t.tooLate += o.tooLate
}
