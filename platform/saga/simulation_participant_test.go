package saga_test

import (
	"errors"

	"github.com/slipwayhq/slipway/platform/saga"
)

var errTimeout, errFault = errors.New("timeout"), errors.New("fault")

func outcome(class saga.Class) saga.Result {
	if class == saga.ClassOK {
		return saga.Result{Class: class}
	}
	return saga.Result{Class: class, Err: errFault}
}

// deliver is a call at its participant.
func (s *schedule) deliver(c saga.Command, token int64) saga.Result {
	p := &s.parts[c.Stage][c.Step]
	switch {
	case c.Kind == saga.CallVerify:
		return s.verify(c, p)
	case s.chance(s.rates.reject): // before it looks at what it knows of the key
		return outcome(saga.ClassRejected)
	case s.chance(s.rates.retryable):
		return outcome(saga.ClassRetryable)
	case s.chance(s.rates.unknown):
		return outcome(saga.ClassUnknown)
	case c.Kind == saga.CallUndo:
		s.undo(c, p)
	case p.undone || p.sealed:
		s.tally.barred++
		return outcome(saga.ClassRejected)
	case c.Stage == s.pivot && token != s.token: // a local transaction, guarded by the token
		s.tally.barred++
		return outcome(saga.ClassUnknown)
	default:
		p.happened = true
	}
	if s.chance(s.rates.lostReply) {
		return outcome(saga.ClassUnknown)
	}
	return outcome(saga.ClassOK)
}

func (s *schedule) undo(c saga.Command, p *participant) {
	if s.pivot < len(s.plan.Stages) && s.parts[s.pivot][0].happened {
		s.fail("%s is undone after the pivot", s.plan.StepName(c.Stage, c))
	}
	for stage := c.Stage + 1; stage < len(s.plan.Stages); stage++ {
		for n, step := range s.plan.Stages[stage].Steps {
			if step.Undo != "" && s.parts[stage][n].effective() && !s.skipped {
				s.fail("%s is undone before %s", s.plan.StepName(c.Stage, c), step.Name)
			}
		}
	}
	p.undone = true
}

// verify looks at what there is. Where nobody would undo a late effect, it also rules that out.
func (s *schedule) verify(c saga.Command, p *participant) saga.Result {
	if s.chance(s.rates.unknown + s.rates.retryable) {
		return outcome(saga.ClassUnknown)
	}
	if s.plan.Stages[c.Stage].Steps[c.Step].Undo == "" && c.Stage <= s.pivot && !p.happened {
		p.sealed = true
	}
	s.tally.verified++
	return saga.Result{Class: saga.ClassOK, Happened: p.effective()}
}
