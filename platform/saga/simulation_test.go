package saga_test

import (
	"flag"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/slipwayhq/slipway/platform/internal/schedules"
	"github.com/slipwayhq/slipway/platform/saga"
)

var (
	onlySeed = flag.Uint64("saga.seed", 0, "simulate this schedule alone, with a trace")
	howMany  = flag.Uint64("saga.schedules", 0, "how many schedules to simulate; 0 for a million, fewer with -short or -race")
)

const (
	calmAfter = 150  // events, then nothing goes wrong any more
	endAfter  = 1000 // events: a saga that is not over then goes in circles
)

var simulated = time.Date(2026, 1, 2, 0, 0, 0, 0, time.UTC)

// TestSimulation lets random sagas live through random schedules of failures, delays, crashes, processes
// that stop and go on as if they still owned the saga, and operators; the rules are in inspect,
// inspectCall, undo and verdict. A schedule is its seed: -saga.seed=N replays it with a trace.
//
// The simulation can fail. It was run against each of these machines, and found all of them out:
//
//   - a step of uncertain outcome is not undone; an unknown outcome is taken for none
//   - a verification that says yes is ignored, or taken for yes when it says no; its no is trusted while
//     an attempt is still on its way
//   - a refusal is trusted after an attempt of unknown outcome
//   - what was lost is not counted, or not of unknown outcome; the store forgets attempts, or doubts
//   - a pivot in doubt, or a failure after the pivot, turns the saga back
//   - the deadline is ignored, wakes after the pivot, or wakes for ever once it has passed
//   - a parallel step is dropped while its call is on its way, or given up on; time that passes repeats it
//   - an undo is tried for ever, or one out of attempts leaves those beside it on their way
//   - a stage is undone before the one after it, or an undo without a step is left out
//   - a decision to undo is forgotten by a step that succeeds, or by an operator who tries again
//   - an operator's word does not end the doubt of a pivot, or trying again runs into the deadline at once
//   - the result of a skipped step is taken for that of the next one
//   - a timer that gets a signal, or a wait that gets none, never ends; attempts follow without a pause
//   - a runner makes calls before it has stored why
func TestSimulation(t *testing.T) {
	t.Parallel()
	if *onlySeed != 0 {
		s := simulate(*onlySeed, true)
		t.Log("\n" + strings.Join(s.trace, "\n"))
		require.Empty(t, s.broken)
		return
	}
	number := *howMany
	switch {
	case number > 0:
	case testing.Short() || raced:
		number = 20_000
	default:
		number = 1_000_000
	}
	began := time.Now()
	sum, bad := schedules.Run(number, func(seed uint64, sum *tally) bool {
		s := simulate(seed, false)
		sum.add(s.tally)
		return s.broken == ""
	}, (*tally).add)
	t.Logf("%d schedules, %s; %+v", number, time.Since(began).Round(time.Millisecond), sum)
	if bad != 0 {
		s := simulate(bad, true)
		t.Fatalf("schedule %d: %s\nreplay it with: go test ./platform/saga -run TestSimulation -saga.seed=%d\n%s",
			bad, s.broken, bad, strings.Join(s.trace, "\n"))
	}
	for what, seen := range map[string]int{
		"completed": sum.completed, "compensated": sum.compensated, "operators": sum.operators, "resolved": sum.resolved,
		"skipped": sum.skipped, "crashes": sum.crashes, "takeovers": sum.takeovers, "refused records": sum.refused,
		"calls of stale runners": sum.staleCalls, "late answers": sum.late, "barred calls": sum.barred,
		"verifications": sum.verified, "missed deadlines": sum.tooLate,
	} {
		require.Positive(t, seen, "the schedules never came to this: %s", what)
	}
}

// simulate runs one schedule to its end, with an operator if one is needed.
func simulate(seed uint64, tracing bool) *schedule {
	rng := rand.New(rand.NewPCG(seed, 1))
	s := &schedule{rng: rng, now: simulated, tracing: tracing, rates: randomRates(rng)}
	s.plan, s.pivot = randomPlan(rng)
	s.logf("%s, pivot %d, timeout %s, %+v", s.plan, s.pivot, s.plan.Timeout, s.rates)
	s.begin()
	s.run()
	if s.stored.Status == saga.NeedsOperator && s.broken == "" {
		s.mend()
		s.run()
	}
	if s.broken == "" {
		s.verdict()
	}
	return s
}

// begin starts the saga, and what comes from outside: signals and operators.
func (s *schedule) begin() {
	for n, stage := range s.plan.Stages {
		if stage.Steps[0].Kind == saga.KindWait && s.chance(0.85) {
			s.after(s.upTo(8*time.Second), nil, func() { s.send(n) })
		}
	}
	for _, kind := range []saga.EventKind{saga.OperatorRetry, saga.OperatorRetry, saga.OperatorCompensate} {
		if s.chance(s.rates.operator) {
			s.after(s.upTo(10*time.Second), nil, func() { s.operate(kind) })
		}
	}
	for _, kind := range []saga.EventKind{saga.OperatorSkip, saga.OperatorResolve} {
		if s.chance(s.rates.operator / 4) {
			s.after(s.upTo(10*time.Second), nil, func() { s.operate(kind) })
		}
	}
	if s.chance(s.rates.operator) {
		s.after(s.upTo(10*time.Second), nil, s.stray)
	}
	first, commands := s.plan.Start("id", s.now)
	s.token = 1
	r := &runner{token: 1, inst: first}
	s.owner = r
	s.stored = saga.Instance{Steps: make([]saga.Progress, len(s.plan.Stages[0].Steps)), Deadline: first.Deadline}
	r.known = s.stored
	s.inspect(r, first, commands)
	s.record(r)
	for _, c := range commands {
		s.call(r, c, s.now)
	}
	s.rest(r)
}

// stray is a signal that nothing waits for.
func (s *schedule) stray() {
	r := s.owner
	if r.dead || r.asleep.After(s.now) || s.plan.Stages[r.inst.Stage].Steps[0].Kind == saga.KindWait {
		return
	}
	s.logf("stray signal")
	s.feed(r, saga.Event{Kind: saga.Signaled})
}

// operate is an operator who does not know what goes on.
func (s *schedule) operate(kind saga.EventKind) {
	waiting := s.stored.Status == saga.NeedsOperator
	if s.stored.Status.Final() || waiting && kind == saga.OperatorCompensate { // would need the truth
		return
	}
	if !waiting && (s.owner.dead || s.owner.asleep.After(s.now)) {
		return
	}
	s.logf("operator: %s", operatorNames[kind])
	s.command(kind)
}

var operatorNames = map[saga.EventKind]string{
	saga.OperatorRetry: "retry", saga.OperatorCompensate: "compensate", saga.OperatorSkip: "skip", saga.OperatorResolve: "resolve",
}

func (s *schedule) command(kind saga.EventKind) {
	s.skipped = s.skipped || kind == saga.OperatorSkip
	s.lifted = s.lifted || kind == saga.OperatorRetry && s.stored.Status == saga.NeedsOperator
	if kind == saga.OperatorRetry {
		for n := range s.parts {
			for m := range s.parts[n] {
				s.parts[n][m].calls = [3]int{}
			}
		}
		s.owner.told, s.owner.failed = 0, [8][3][3]time.Time{}
	}
	if s.stored.Status == saga.NeedsOperator {
		s.claim(kind)
	} else {
		s.feed(s.owner, saga.Event{Kind: kind, Reason: "asked for"})
	}
}

// mend is an operator who has removed the cause and knows what has happened: one command must do.
func (s *schedule) mend() {
	s.tally.operators++
	s.rates = rates{}
	s.events = 0
	for n := range s.plan.Stages {
		s.signals |= 1 << n
	}
	kind := saga.OperatorRetry
	if pivot := &s.parts[s.stored.Stage][0]; !s.stored.Backward && s.stored.Stage == s.pivot && !pivot.happened && s.chance(0.5) {
		pivot.sealed = true
		kind = saga.OperatorCompensate
	}
	s.logf("operator who has mended the cause: %s", operatorNames[kind])
	s.command(kind)
}
