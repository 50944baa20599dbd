package sagatest

import (
	"context"
	"encoding/json"
	"testing"
	"time"

	"github.com/slipwayhq/slipway/platform/saga"
)

// ID is the id of the sagas.
const ID = "00000000-0000-7000-8000-000000000001"

// endless is how many calls a saga may make before its run fails.
const endless = 10_000

// epoch is when runs begin.
var epoch = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// Call is a call that a saga has made.
type Call struct {
	Step    string // the name of the step, or of its undo
	Kind    saga.CallKind
	Attempt int
	Class   saga.Class // what the saga has heard of it
	Err     error
	At      time.Duration // since the beginning
}

// Result is a saga that was run.
type Result[S any] struct {
	Status   saga.Status
	State    S
	Calls    []Call // in the order in which they were made
	Instance saga.Instance
	Elapsed  time.Duration // how long it would have taken

	tb       testing.TB
	def      *saga.Definition[S]
	plan     saga.Plan
	faults   *faults
	data     []byte
	token    int64
	now      time.Time
	commands []saga.Command
	flying   []*call
}

// call is one that is on its way.
type call struct {
	command saga.Command
	before  []byte
	back    time.Time
	crash   bool
	result  saga.Result
}

// Run runs a saga from its beginning. It fails the test if the definition is wrong, if an option names a
// step that there is not, or if the saga does not end.
func Run[S any](tb testing.TB, d *saga.Definition[S], state S, options ...Option) *Result[S] {
	tb.Helper()
	plan, err := d.Plan()
	if err != nil {
		tb.Fatalf("run saga: %v", err)
	}
	data, err := json.Marshal(state)
	if err != nil {
		tb.Fatalf("run saga: encode state: %v", err)
	}
	r := &Result[S]{tb: tb, def: d, plan: plan, faults: collect(options), data: data, token: 1, now: epoch}
	r.check()
	r.Instance, r.commands = plan.Start(ID, r.now)
	r.run()
	return r
}

// Operate gives an operator's command to a saga that needs one, and runs it on. What was injected before
// is over: the options say what goes wrong from now on.
func (r *Result[S]) Operate(kind saga.EventKind, options ...Option) {
	r.tb.Helper()
	signals := r.faults.signals
	r.faults = collect(options)
	r.check()
	for name, s := range signals {
		if _, again := r.faults.signals[name]; !again {
			r.faults.signals[name] = s
		}
	}
	r.next(saga.Event{Kind: kind, Reason: "the test's operator"})
	r.run()
}

// Steps returns the names of the steps and undos in the order of their calls, without verifications.
func (r *Result[S]) Steps() []string {
	names := []string{}
	for _, c := range r.Calls {
		if c.Kind != saga.CallVerify {
			names = append(names, c.Step)
		}
	}
	return names
}

// Attempts returns how often a step or an undo was called.
func (r *Result[S]) Attempts(name string) int {
	n := 0
	for _, step := range r.Steps() {
		if step == name {
			n++
		}
	}
	return n
}

func (r *Result[S]) check() {
	r.tb.Helper()
	if name := r.faults.unknown(r.plan); name != "" {
		r.tb.Fatalf("run saga: %s has no step %q", r.plan.Name, name)
	}
}

func (r *Result[S]) next(e saga.Event) {
	r.Instance, r.commands = r.plan.Next(ID, r.Instance, e, r.now)
}

// run goes on until the saga is over, or nothing happens any more.
func (r *Result[S]) run() {
	r.tb.Helper()
	for r.goOn() {
		if len(r.Calls) > endless {
			r.tb.Fatalf("run saga: %s does not end: %s", r.plan.Name, r.Instance.Problem)
		}
	}
	r.Status, r.Elapsed = r.Instance.Status, r.now.Sub(epoch)
	var state S
	if err := json.Unmarshal(r.data, &state); err != nil {
		r.tb.Fatalf("run saga: decode state: %v", err)
	}
	r.State = state
}

// goOn makes the calls that are asked for, and lets time pass until something happens.
func (r *Result[S]) goOn() bool {
	if r.Instance.Status.Final() || r.Instance.Status == saga.NeedsOperator {
		return false
	}
	for _, c := range r.commands {
		r.call(c)
	}
	r.commands = nil
	at, event := r.soonest()
	if event == nil {
		return false
	}
	if at.After(r.now) {
		r.now = at
	}
	event()
	return true
}

// soonest returns what happens next, and when.
func (r *Result[S]) soonest() (at time.Time, event func()) {
	sooner := func(t time.Time, e func()) {
		if event == nil || t.Before(at) {
			at, event = t, e
		}
	}
	for n, o := range r.faults.orders {
		sooner(epoch.Add(o.after), func() {
			r.faults.orders = append(r.faults.orders[:n:n], r.faults.orders[n+1:]...)
			r.next(saga.Event{Kind: o.kind, Reason: "the test's operator"})
		})
	}
	for n, c := range r.flying {
		sooner(c.back, func() { r.returned(n) })
	}
	if s, ok := r.arrival(); ok && !r.Instance.Busy() {
		sooner(epoch.Add(s.after), func() { r.next(saga.Event{Kind: saga.Signaled}) })
	}
	if wake := r.plan.Wake(r.Instance); !wake.IsZero() {
		sooner(wake, func() { r.next(saga.Event{Kind: saga.Elapsed}) })
	}
	return at, event
}

// arrival returns the signal that the saga waits for, if it has come or will come. A wait that has failed
// its attempt knows of its signal already.
func (r *Result[S]) arrival() (arrival, bool) {
	if !r.Instance.Waiting(r.plan) || r.Instance.Steps[0].Attempts > 0 {
		return arrival{}, false
	}
	s, ok := r.faults.signals[r.plan.Stages[r.Instance.Stage].Steps[0].Name]
	return s, ok
}

// call makes a call. Its effect is there at once, its result when it has taken its time.
func (r *Result[S]) call(c saga.Command) {
	step := r.plan.Stages[c.Stage].Steps[c.Step]
	name := r.plan.StepName(c.Stage, c)
	fly := &call{command: c, before: r.data, back: r.now.Add(r.faults.takes[name])}
	rule := r.faults.next(name, c.Kind)
	if rule == nil || rule.effect {
		fly.result = r.def.Invoke(context.Background(), saga.Invocation{
			Command: c, ID: ID, Stage: c.Stage, Data: r.data, Reason: r.Instance.Reason, Token: r.token,
			Signal: r.faults.signals[step.Name].payload,
		})
	}
	if rule != nil && rule.err != nil {
		fly.result = saga.ResultOf(rule.err)
	}
	fly.crash = rule != nil && rule.err == nil
	if timeout := step.CallTimeout(); r.faults.takes[name] >= timeout {
		fly.result, fly.back = saga.ResultOf(context.DeadlineExceeded), r.now.Add(timeout)
	}
	r.flying = append(r.flying, fly)
	r.Calls = append(r.Calls, Call{
		Step: name, Kind: c.Kind, Attempt: c.Attempt, Class: fly.result.Class, Err: fly.result.Err, At: r.now.Sub(epoch),
	})
}

// returned is a call that has come back, or the end of its process.
func (r *Result[S]) returned(n int) {
	c := r.flying[n]
	r.flying = append(r.flying[:n:n], r.flying[n+1:]...)
	if c.crash {
		r.crash()
		return
	}
	data, err := saga.Merge(r.data, c.before, c.result.Data)
	if err != nil {
		c.result = saga.ResultOf(err)
	} else {
		r.data = data
	}
	r.next(c.result.Event(c.command))
}

// crash lets another process go on from what is stored; what is on its way is lost.
func (r *Result[S]) crash() {
	r.flying, r.token = nil, r.token+1
	stored := r.Instance
	if err := stored.DecodeSteps(r.plan, r.Instance.EncodeSteps()); err != nil {
		r.tb.Fatalf("run saga: %v", err)
	}
	r.Instance = stored
	s, ok := r.arrival()
	r.next(saga.Event{Kind: saga.Lost, Signal: ok && !epoch.Add(s.after).After(r.now)})
}
