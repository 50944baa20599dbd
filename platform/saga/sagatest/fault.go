package sagatest

import (
	"cmp"
	"errors"
	"math"
	"time"

	"github.com/slipwayhq/slipway/platform/saga"
)

// ErrAnswerLost is the error of a call whose answer is lost. Its outcome is unknown.
var ErrAnswerLost = errors.New("the answer is lost")

// Option is something that happens to a saga. Names are those of steps, or of undos.
type Option func(*faults)

// faults is what is still to go wrong.
type faults struct {
	names   []string // that must be steps of the saga
	rules   []*rule
	takes   map[string]time.Duration
	signals map[string]arrival
	orders  []order
}

// rule says what becomes of the next calls of a step.
type rule struct {
	name   string
	verify bool
	left   int
	err    error // nil for a crash
	effect bool  // the step is called nevertheless
}

type arrival struct {
	after   time.Duration
	payload []byte
}

type order struct {
	after time.Duration
	kind  saga.EventKind
}

func (f *faults) add(r rule) {
	f.names = append(f.names, r.name)
	f.rules = append(f.rules, &r)
}

// next uses up the first rule for a call.
func (f *faults) next(name string, kind saga.CallKind) *rule {
	for _, r := range f.rules {
		if r.name == name && r.verify == (kind == saga.CallVerify) && r.left > 0 {
			r.left--
			return r
		}
	}
	return nil
}

// Fail fails every call of a step with err, without effect: the step is not called. What err is to the
// saga depends on its mark; see [saga.Rejected], [saga.Retryable].
func Fail(name string, err error) Option { return FailTimes(name, math.MaxInt, err) }

// FailTimes fails the next calls of a step with err, without effect.
func FailTimes(name string, times int, err error) Option {
	return func(f *faults) { f.add(rule{name: name, left: times, err: err}) }
}

// FailVerify fails the next questions whether a step has happened.
func FailVerify(name string, times int, err error) Option {
	return func(f *faults) { f.add(rule{name: name, verify: true, left: times, err: err}) }
}

// AnswerLost lets the next calls of a step have their effect, and the saga get [ErrAnswerLost].
func AnswerLost(name string, times int) Option {
	return func(f *faults) { f.add(rule{name: name, left: times, err: ErrAnswerLost, effect: true}) }
}

// Crash ends the process that runs the saga after a call of each of the steps, before its result is
// stored; another one goes on. A name may be given more than once.
func Crash(names ...string) Option {
	return func(f *faults) {
		for _, name := range names {
			f.add(rule{name: name, left: 1, effect: true})
		}
	}
}

// Takes lets each call of a step take some time. One that takes as long as its timeout or longer has its
// effect, but the saga does not hear of it.
func Takes(name string, d time.Duration) Option {
	return func(f *faults) {
		f.names = append(f.names, name)
		f.takes[name] = d
	}
}

// Signal sends a signal before the saga begins: it is kept until the saga waits for it.
func Signal(name string, payload []byte) Option { return SignalAfter(0, name, payload) }

// SignalAfter sends a signal when the saga has run for some time.
func SignalAfter(d time.Duration, name string, payload []byte) Option {
	return func(f *faults) {
		f.names = append(f.names, name)
		f.signals[name] = arrival{d, payload}
	}
}

// OperateAfter gives an operator's command when the saga has run for some time.
func OperateAfter(d time.Duration, kind saga.EventKind) Option {
	return func(f *faults) { f.orders = append(f.orders, order{d, kind}) }
}

func collect(options []Option) *faults {
	f := &faults{takes: map[string]time.Duration{}, signals: map[string]arrival{}}
	for _, o := range options {
		o(f)
	}
	return f
}

// unknown returns a name that is none of the plan's, or nothing.
func (f *faults) unknown(p saga.Plan) string {
	known := map[string]bool{}
	for _, stage := range p.Stages {
		for _, s := range stage.Steps {
			known[s.Name], known[cmp.Or(s.Undo, s.Name)] = true, true
		}
	}
	for _, name := range f.names {
		if !known[name] {
			return name
		}
	}
	return ""
}
