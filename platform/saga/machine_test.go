package saga_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/slipwayhq/slipway/platform/saga"
)

// life drives the machine by hand.
type life struct {
	t    *testing.T
	plan saga.Plan
	now  time.Time
	saga.Instance
	due []saga.Command
}

var tries = saga.Policy{MaxAttempts: 2, Initial: time.Second, Max: time.Minute}

func step(name string) saga.PlanStep {
	return saga.PlanStep{Name: name, Kind: saga.KindStep, Undo: "undo-" + name, Timeout: time.Second, Retry: tries, UndoRetry: tries}
}

func final(name string) saga.PlanStep {
	s := step(name)
	s.Undo = ""
	return s
}

func pivot(verify bool) saga.PlanStep {
	s := final("pivot")
	s.Kind, s.Verify = saga.KindPivot, verify
	return s
}

func wait(d time.Duration) saga.PlanStep {
	s := step("wait")
	s.Kind, s.Timeout = saga.KindWait, d
	return s
}

func plan(stages ...[]saga.PlanStep) saga.Plan {
	p := saga.Plan{Name: "test", Version: 1, StuckAfter: time.Minute}
	for _, steps := range stages {
		p.Stages = append(p.Stages, saga.PlanStage{Steps: steps})
	}
	return p
}

func one(s saga.PlanStep) []saga.PlanStep { return []saga.PlanStep{s} }

func start(t *testing.T, p saga.Plan) *life {
	t.Helper()
	require.NoError(t, p.Validate())
	l := &life{t: t, plan: p, now: simulated}
	l.Instance, l.due = p.Start("id", l.now)
	return l
}

func (l *life) hear(e saga.Event) {
	l.Instance, l.due = l.plan.Next("id", l.Instance, e, l.now)
}

// answer is the result of a call of a step of the stage at hand.
func (l *life) answer(step int, kind saga.CallKind, class saga.Class) {
	l.hear(saga.Event{Kind: saga.Returned, Stage: l.Stage, Step: step, Call: kind, Class: class, Error: "oh"})
}

// elapse lets time pass until the machine wants to go on.
func (l *life) elapse() {
	l.t.Helper()
	wake := l.plan.Wake(l.Instance)
	require.False(l.t, wake.IsZero(), "nothing to wait for")
	l.now = wake
	l.hear(saga.Event{Kind: saga.Elapsed})
}

// calls requires that these calls are asked for: by their names, with "?" behind verifications.
func (l *life) calls(want ...string) {
	l.t.Helper()
	got := []string{}
	for _, c := range l.due {
		name := l.plan.StepName(c.Stage, c)
		if c.Kind == saga.CallVerify {
			name += "?"
		}
		got = append(got, name)
	}
	require.Equal(l.t, append([]string{}, want...), got)
}

func (l *life) is(s saga.Status) {
	l.t.Helper()
	require.Equal(l.t, s, l.Status)
}

func TestPlan_Next_outcomes(t *testing.T) {
	t.Parallel()

	t.Run("each step is called once, in order", func(t *testing.T) {
		t.Parallel()
		l := start(t, plan(one(step("a")), one(pivot(false)), one(final("z"))))
		for _, name := range []string{"a", "pivot", "z"} {
			l.calls(name)
			l.answer(0, saga.CallAction, saga.ClassOK)
		}
		l.is(saga.Completed)
		l.calls()
		require.Empty(t, l.Reason+l.Problem)
	})

	t.Run("a retryable failure is tried again after a pause, and its last attempt has had no effect", func(t *testing.T) {
		t.Parallel()
		l := start(t, plan(one(step("a"))))
		l.answer(0, saga.CallAction, saga.ClassRetryable)
		l.calls()
		require.Equal(t, "a: oh", l.Problem)
		require.Equal(t, simulated, l.FailingSince)
		l.elapse()
		l.calls("a")
		require.Equal(t, 2, l.due[0].Attempt)
		tried := l.Instance
		l.answer(0, saga.CallAction, saga.ClassOK)
		require.Zero(t, l.FailingSince)
		l.Instance = tried
		require.GreaterOrEqual(t, l.now.Sub(simulated), 750*time.Millisecond)
		l.answer(0, saga.CallAction, saga.ClassRetryable)
		l.is(saga.Compensated)
		require.Equal(t, "a: oh", l.Reason)
	})

	t.Run("a pause is as long as the error asks for", func(t *testing.T) {
		t.Parallel()
		l := start(t, plan(one(step("a"))))
		l.hear(saga.Event{Kind: saga.Returned, Class: saga.ClassRetryable, After: time.Hour})
		require.Equal(t, simulated.Add(time.Hour), l.plan.Wake(l.Instance))
	})

	t.Run("a refusal ends the attempts at once, without an undo of its own", func(t *testing.T) {
		t.Parallel()
		l := start(t, plan(one(step("a")), one(step("b"))))
		l.answer(0, saga.CallAction, saga.ClassOK)
		l.answer(0, saga.CallAction, saga.ClassRejected)
		l.is(saga.Compensating)
		l.calls("undo-a")
	})

	t.Run("a refusal after an unknown outcome says nothing: the step is undone", func(t *testing.T) {
		t.Parallel()
		l := start(t, plan(one(step("a"))))
		l.answer(0, saga.CallAction, saga.ClassUnknown)
		l.elapse()
		l.answer(0, saga.CallAction, saga.ClassRejected)
		l.calls("undo-a")
	})

	t.Run("retryable failures after an unknown outcome do not make it known", func(t *testing.T) {
		t.Parallel()
		l := start(t, plan(one(step("a"))))
		l.answer(0, saga.CallAction, saga.ClassUnknown)
		l.elapse()
		l.answer(0, saga.CallAction, saga.ClassRetryable)
		l.calls("undo-a")
	})

	t.Run("a verification that says yes goes on, one that says no turns back and undoes", func(t *testing.T) {
		t.Parallel()
		verified := step("a")
		verified.Verify = true
		for _, happened := range []bool{true, false} {
			l := start(t, plan(one(verified), one(step("b"))))
			l.answer(0, saga.CallAction, saga.ClassUnknown)
			l.elapse()
			l.answer(0, saga.CallAction, saga.ClassUnknown)
			l.calls("a?")
			l.answer(0, saga.CallVerify, saga.ClassRetryable)
			l.calls()
			l.elapse()
			l.calls("a?")
			l.hear(saga.Event{Kind: saga.Returned, Call: saga.CallVerify, Class: saga.ClassOK, Happened: happened})
			if happened {
				l.calls("b")
				require.Empty(t, l.Problem)
			} else {
				l.calls("undo-a")
				require.Equal(t, "a: oh", l.Reason)
			}
		}
	})

	t.Run("a verification that finds nothing out leaves the step in doubt", func(t *testing.T) {
		t.Parallel()
		verified := step("a")
		verified.Verify = true
		l := start(t, plan(one(verified)))
		for _, kind := range []saga.CallKind{saga.CallAction, saga.CallAction, saga.CallVerify, saga.CallVerify} {
			l.answer(0, kind, saga.ClassUnknown)
			if l.Status == saga.Running && len(l.due) == 0 {
				l.elapse()
			}
		}
		l.calls("undo-a")
	})

	t.Run("an undo out of attempts, or refused, needs an operator", func(t *testing.T) {
		t.Parallel()
		for _, class := range []saga.Class{saga.ClassUnknown, saga.ClassRejected} {
			l := start(t, plan(one(step("a")), one(step("b"))))
			l.answer(0, saga.CallAction, saga.ClassOK)
			l.answer(0, saga.CallAction, saga.ClassRejected)
			l.answer(0, saga.CallUndo, class)
			if class == saga.ClassUnknown {
				l.elapse()
				l.answer(0, saga.CallUndo, class)
			}
			l.is(saga.NeedsOperator)
			require.True(t, l.Backward)
			require.Equal(t, "undo-a: oh", l.Problem)
			require.Equal(t, []string{"undo-a"}, l.Current(l.plan))
			require.Zero(t, l.plan.Wake(l.Instance))
			l.hear(saga.Event{Kind: saga.OperatorCompensate})
			l.is(saga.NeedsOperator)
			l.hear(saga.Event{Kind: saga.OperatorRetry})
			l.calls("undo-a")
			require.Equal(t, 1, l.due[0].Attempt)
			l.answer(0, saga.CallUndo, saga.ClassOK)
			l.is(saga.Compensated)
		}
	})
}

func TestPlan_Next_pivot(t *testing.T) {
	t.Parallel()

	t.Run("a pivot that is refused turns the saga back", func(t *testing.T) {
		t.Parallel()
		l := start(t, plan(one(step("a")), one(pivot(false))))
		l.answer(0, saga.CallAction, saga.ClassOK)
		l.answer(0, saga.CallAction, saga.ClassRejected)
		l.calls("undo-a")
	})

	doubtful := func(t *testing.T) *life {
		t.Helper()
		l := start(t, plan(one(step("a")), one(pivot(false)), one(final("z"))))
		l.answer(0, saga.CallAction, saga.ClassOK)
		l.answer(0, saga.CallAction, saga.ClassUnknown)
		l.elapse()
		l.answer(0, saga.CallAction, saga.ClassRejected)
		l.is(saga.NeedsOperator)
		require.False(t, l.Backward)
		return l
	}

	t.Run("a pivot in doubt is tried again, taken for done, or for not done, as an operator says", func(t *testing.T) {
		t.Parallel()
		l := doubtful(t)
		l.hear(saga.Event{Kind: saga.OperatorRetry})
		l.calls("pivot")
		l = doubtful(t)
		l.hear(saga.Event{Kind: saga.OperatorSkip})
		l.calls("z")
		l = doubtful(t)
		l.hear(saga.Event{Kind: saga.OperatorCompensate, Reason: "not in the ledger"})
		l.calls("undo-a")
		require.Equal(t, "not in the ledger", l.Reason)
		l = doubtful(t)
		l.hear(saga.Event{Kind: saga.OperatorResolve, Reason: "by hand"})
		l.is(saga.Resolved)
	})

	t.Run("a step after it is never undone: it needs an operator, who cannot undo it either", func(t *testing.T) {
		t.Parallel()
		l := start(t, plan(one(pivot(false)), one(final("z"))))
		l.answer(0, saga.CallAction, saga.ClassOK)
		l.answer(0, saga.CallAction, saga.ClassRejected)
		l.is(saga.NeedsOperator)
		require.False(t, l.plan.CanCompensate(l.Instance))
		l.hear(saga.Event{Kind: saga.OperatorCompensate})
		l.is(saga.NeedsOperator)
		l.hear(saga.Event{Kind: saga.OperatorRetry})
		l.calls("z")
	})

	t.Run("a step after it that fails for good does not end the attempts beside it", func(t *testing.T) {
		t.Parallel()
		l := start(t, plan(one(pivot(false)), []saga.PlanStep{final("y"), final("z")}))
		l.answer(0, saga.CallAction, saga.ClassOK)
		l.answer(1, saga.CallAction, saga.ClassRetryable)
		l.answer(0, saga.CallAction, saga.ClassRejected)
		l.is(saga.Running)
		l.elapse()
		l.calls("z")
		l.answer(1, saga.CallAction, saga.ClassOK)
		l.is(saga.NeedsOperator)
		l.hear(saga.Event{Kind: saga.OperatorRetry})
		l.calls("y")
	})
}

func TestPlan_Next_parallel(t *testing.T) {
	t.Parallel()
	both := plan([]saga.PlanStep{step("a"), step("b")})

	t.Run("a failure ends the attempts beside it, but waits for the call on its way and undoes it", func(t *testing.T) {
		t.Parallel()
		l := start(t, both)
		l.calls("a", "b")
		l.answer(0, saga.CallAction, saga.ClassRejected)
		l.is(saga.Running)
		l.calls()
		require.True(t, l.Busy())
		l.answer(1, saga.CallAction, saga.ClassOK)
		l.calls("undo-b")
	})

	t.Run("what waits for its next attempt beside a failure gets none", func(t *testing.T) {
		t.Parallel()
		for class, undo := range map[saga.Class][]string{saga.ClassRetryable: nil, saga.ClassUnknown: {"undo-b"}} {
			l := start(t, both)
			l.answer(1, saga.CallAction, class)
			l.answer(0, saga.CallAction, saga.ClassRejected)
			l.calls(undo...)
			require.True(t, l.Backward)
		}
	})

	t.Run("time that passes does not repeat the call on its way", func(t *testing.T) {
		t.Parallel()
		l := start(t, both)
		l.answer(0, saga.CallAction, saga.ClassRetryable)
		l.elapse()
		l.calls("a")
	})

	t.Run("an undo out of attempts lets the one beside it finish first", func(t *testing.T) {
		t.Parallel()
		l := start(t, plan([]saga.PlanStep{step("a"), step("b")}, one(step("c"))))
		l.answer(0, saga.CallAction, saga.ClassOK)
		l.answer(1, saga.CallAction, saga.ClassOK)
		l.answer(0, saga.CallAction, saga.ClassRejected)
		l.calls("undo-a", "undo-b")
		l.answer(0, saga.CallUndo, saga.ClassRejected)
		l.is(saga.Compensating)
		l.answer(1, saga.CallUndo, saga.ClassUnknown)
		l.elapse()
		l.calls("undo-b")
		l.answer(1, saga.CallUndo, saga.ClassOK)
		l.is(saga.NeedsOperator)
		l.hear(saga.Event{Kind: saga.OperatorRetry})
		l.calls("undo-a")
	})
}

func TestPlan_Next_isPure(t *testing.T) {
	t.Parallel()
	l := start(t, plan([]saga.PlanStep{step("a"), step("b")}))
	before := l.Instance
	steps := append([]saga.Progress{}, before.Steps...)
	for kind := saga.Resumed; kind <= saga.Elapsed; kind++ {
		a, first := l.plan.Next("id", before, saga.Event{Kind: kind, Class: saga.ClassOK}, l.now)
		b, second := l.plan.Next("id", before, saga.Event{Kind: kind, Class: saga.ClassOK}, l.now)
		require.Equal(t, a, b)
		require.Equal(t, first, second)
	}
	require.Equal(t, steps, before.Steps)
}
