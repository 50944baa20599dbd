package saga_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/slipwayhq/slipway/platform/saga"
)

// hurried is a plan with a deadline.
func hurried(stages ...[]saga.PlanStep) saga.Plan {
	p := plan(stages...)
	p.Timeout = 10 * time.Second
	return p
}

func (l *life) at(d time.Duration) {
	l.now = simulated.Add(d)
	l.hear(saga.Event{Kind: saga.Elapsed})
}

func TestPlan_Next_deadline(t *testing.T) {
	t.Parallel()

	t.Run("ends the attempts, and what was tried is undone", func(t *testing.T) {
		t.Parallel()
		l := start(t, hurried(one(step("a")), one(step("b"))))
		l.answer(0, saga.CallAction, saga.ClassOK)
		l.hear(saga.Event{Kind: saga.Returned, Stage: 1, Class: saga.ClassUnknown, After: time.Hour})
		l.elapse()
		require.Equal(t, simulated.Add(10*time.Second), l.now)
		l.calls("undo-b")
		require.Equal(t, "deadline exceeded", l.Reason)
	})

	t.Run("waits for a call on its way, and undoes it although it succeeds", func(t *testing.T) {
		t.Parallel()
		l := start(t, hurried(one(step("a"))))
		l.at(11 * time.Second)
		l.is(saga.Running)
		require.Zero(t, l.plan.Wake(l.Instance), "there is nothing to do before the call comes back")
		l.answer(0, saga.CallAction, saga.ClassOK)
		l.calls("undo-a")
	})

	t.Run("does not undo a pivot that has happened", func(t *testing.T) {
		t.Parallel()
		l := start(t, hurried(one(pivot(true)), one(final("z"))))
		l.at(11 * time.Second)
		l.answer(0, saga.CallAction, saga.ClassOK)
		l.calls("z")
		require.Empty(t, l.Reason)
		l.answer(0, saga.CallAction, saga.ClassRetryable)
		l.elapse()
		l.calls("z")
	})

	t.Run("asks whether the pivot has happened, at its pace, and goes on if so", func(t *testing.T) {
		t.Parallel()
		l := start(t, hurried(one(pivot(true)), one(final("z"))))
		l.hear(saga.Event{Kind: saga.Returned, Class: saga.ClassUnknown, After: time.Hour})
		l.elapse()
		l.calls("pivot?")
		l.answer(0, saga.CallVerify, saga.ClassUnknown)
		require.True(t, l.plan.Wake(l.Instance).After(l.now), "the deadline that has passed wakes nobody")
		l.elapse()
		l.hear(saga.Event{Kind: saga.Returned, Call: saga.CallVerify, Class: saga.ClassOK, Happened: true})
		l.calls("z")
	})

	t.Run("is over when an operator tries a pivot again", func(t *testing.T) {
		t.Parallel()
		l := start(t, hurried(one(pivot(false)), one(final("z"))))
		l.hear(saga.Event{Kind: saga.Returned, Class: saga.ClassUnknown, After: time.Hour})
		l.elapse()
		l.is(saga.NeedsOperator)
		l.hear(saga.Event{Kind: saga.OperatorRetry})
		l.calls("pivot")
		require.Zero(t, l.Deadline)
		l.answer(0, saga.CallAction, saga.ClassOK)
		l.calls("z")
	})
}

func TestPlan_Next_waiting(t *testing.T) {
	t.Parallel()
	timer := final("sleep")
	timer.Kind, timer.Timeout = saga.KindTimer, time.Minute

	t.Run("a timer takes its time, whatever signals come", func(t *testing.T) {
		t.Parallel()
		l := start(t, plan(one(timer), one(step("a"))))
		require.True(t, l.Waiting(l.plan))
		l.hear(saga.Event{Kind: saga.Signaled})
		l.calls()
		l.elapse()
		require.Equal(t, simulated.Add(time.Minute), l.now)
		l.calls("a")
	})

	t.Run("a wait takes its signal, and tries again what it does with it", func(t *testing.T) {
		t.Parallel()
		l := start(t, plan(one(wait(time.Minute)), one(step("a"))))
		require.Equal(t, simulated.Add(time.Minute), l.plan.Wake(l.Instance))
		l.hear(saga.Event{Kind: saga.Signaled})
		l.calls("wait")
		l.answer(0, saga.CallAction, saga.ClassRetryable)
		l.elapse()
		l.calls("wait")
		l.hear(saga.Event{Kind: saga.Signaled})
		l.calls()
		l.answer(0, saga.CallAction, saga.ClassOK)
		l.calls("a")
	})

	t.Run("a signal that does not come is a failure without effect", func(t *testing.T) {
		t.Parallel()
		l := start(t, plan(one(wait(time.Minute))))
		l.elapse()
		l.is(saga.Compensated)
		require.Equal(t, "wait: nothing came in time", l.Reason)
	})

	t.Run("after the pivot it needs an operator, who lets it wait again", func(t *testing.T) {
		t.Parallel()
		w := wait(time.Minute)
		w.Undo = ""
		l := start(t, plan(one(pivot(false)), one(w)))
		l.answer(0, saga.CallAction, saga.ClassOK)
		l.elapse()
		l.is(saga.NeedsOperator)
		l.hear(saga.Event{Kind: saga.OperatorRetry})
		require.Equal(t, l.now.Add(time.Minute), l.plan.Wake(l.Instance))
		l.now = l.now.Add(time.Second)
		l.hear(saga.Event{Kind: saga.OperatorRetry})
		require.Equal(t, l.now.Add(59*time.Second), l.plan.Wake(l.Instance), "its time is not up yet")
	})

	t.Run("a wait whose process was lost is undone when nothing comes: its signal may have been taken", func(t *testing.T) {
		t.Parallel()
		l := start(t, plan(one(wait(time.Minute))))
		l.hear(saga.Event{Kind: saga.Lost})
		require.Equal(t, 0, l.Steps[0].Attempts)
		l.elapse()
		l.calls("undo-wait")
	})

	t.Run("a signal that ends its process each time is not taken for ever", func(t *testing.T) {
		t.Parallel()
		l := start(t, plan(one(wait(time.Minute))))
		l.hear(saga.Event{Kind: saga.Lost, Signal: true})
		l.calls("wait")
		require.Equal(t, 2, l.due[0].Attempt)
		l.hear(saga.Event{Kind: saga.Lost, Signal: true})
		l.calls("undo-wait")
	})

	t.Run("a wait whose signal has gone waits again", func(t *testing.T) {
		t.Parallel()
		l := start(t, plan(one(wait(time.Minute))))
		l.hear(saga.Event{Kind: saga.Signaled})
		l.answer(0, saga.CallAction, saga.ClassUnknown)
		stored := l.Instance
		require.NoError(t, stored.DecodeSteps(l.plan, l.EncodeSteps()))
		l.Instance = stored
		l.elapse()
		l.calls()
		require.Equal(t, l.now.Add(time.Minute), l.plan.Wake(l.Instance))
	})
}

func TestPlan_Next_lost(t *testing.T) {
	t.Parallel()

	t.Run("counts as an attempt of unknown outcome", func(t *testing.T) {
		t.Parallel()
		l := start(t, plan(one(step("a"))))
		l.hear(saga.Event{Kind: saga.Lost})
		l.calls("a")
		require.Equal(t, 2, l.due[0].Attempt)
		l.answer(0, saga.CallAction, saga.ClassRejected)
		l.calls("undo-a")
	})

	t.Run("bounds attempts, verifications and undos", func(t *testing.T) {
		t.Parallel()
		verified := step("a")
		verified.Verify = true
		l := start(t, plan(one(verified)))
		for _, next := range []string{"a", "a?", "a?", "undo-a", "undo-a"} {
			l.hear(saga.Event{Kind: saga.Lost})
			l.calls(next)
		}
		require.Equal(t, "a: the result of an attempt is lost", l.Reason)
		l.hear(saga.Event{Kind: saga.Lost})
		l.is(saga.NeedsOperator)
	})

	t.Run("resuming counts nothing, and asks again for what was not called", func(t *testing.T) {
		t.Parallel()
		l := start(t, plan(one(step("a"))))
		l.hear(saga.Event{Kind: saga.Resumed})
		l.calls("a")
		require.Equal(t, 1, l.due[0].Attempt)
	})

	t.Run("an instance handed back wants to go on at once", func(t *testing.T) {
		t.Parallel()
		l := start(t, plan(one(step("a"))))
		require.Zero(t, l.plan.Wake(l.Instance))
		back := l.WithoutCalls()
		require.False(t, back.Busy())
		require.True(t, l.Busy())
		wake := l.plan.Wake(back)
		require.False(t, wake.IsZero())
		require.True(t, wake.Before(l.now))
	})
}

func TestPlan_Next_operator(t *testing.T) {
	t.Parallel()

	t.Run("compensating waits for the call on its way and undoes it", func(t *testing.T) {
		t.Parallel()
		l := start(t, plan(one(step("a")), one(step("b"))))
		l.hear(saga.Event{Kind: saga.OperatorCompensate})
		l.is(saga.Running)
		l.hear(saga.Event{Kind: saga.OperatorRetry})
		require.Equal(t, "asked for by an operator", l.Reason, "trying again does not take that back")
		l.answer(0, saga.CallAction, saga.ClassOK)
		l.calls("undo-a")
	})

	t.Run("compensating while the pivot is on its way goes on if that happens", func(t *testing.T) {
		t.Parallel()
		l := start(t, plan(one(pivot(false)), one(final("z"))))
		l.hear(saga.Event{Kind: saga.OperatorCompensate})
		l.answer(0, saga.CallAction, saga.ClassOK)
		l.calls("z")
	})

	t.Run("trying again gives all attempts at once", func(t *testing.T) {
		t.Parallel()
		l := start(t, plan(one(step("a"))))
		l.answer(0, saga.CallAction, saga.ClassUnknown)
		l.hear(saga.Event{Kind: saga.OperatorRetry})
		l.calls("a")
		require.Equal(t, 1, l.due[0].Attempt)
		require.Zero(t, l.FailingSince)
		require.True(t, l.Steps[0].Unknown)
	})

	t.Run("the late result of a step that was skipped is not that of the next one", func(t *testing.T) {
		t.Parallel()
		l := start(t, plan([]saga.PlanStep{step("a"), step("b")}, one(step("c"))))
		l.hear(saga.Event{Kind: saga.OperatorSkip})
		l.calls("c")
		l.hear(saga.Event{Kind: saga.Returned, Stage: 0, Step: 0, Class: saga.ClassOK})
		l.hear(saga.Event{Kind: saga.Returned, Stage: 0, Step: 1, Class: saga.ClassRejected})
		l.is(saga.Running)
		require.Equal(t, 1, l.Stage)
		require.True(t, l.Busy())
	})

	t.Run("skipping an undo takes it for done", func(t *testing.T) {
		t.Parallel()
		l := start(t, plan(one(step("a")), one(step("b"))))
		l.answer(0, saga.CallAction, saga.ClassOK)
		l.answer(0, saga.CallAction, saga.ClassRejected)
		l.answer(0, saga.CallUndo, saga.ClassRejected)
		l.hear(saga.Event{Kind: saga.OperatorSkip})
		l.is(saga.Compensated)
	})

	t.Run("nothing changes a saga that is over", func(t *testing.T) {
		t.Parallel()
		l := start(t, plan(one(step("a"))))
		l.hear(saga.Event{Kind: saga.OperatorResolve, Reason: "by hand"})
		over := l.Instance
		for kind := saga.Resumed; kind <= saga.Elapsed; kind++ {
			l.hear(saga.Event{Kind: kind})
			l.calls()
			require.Equal(t, over, l.Instance)
		}
		require.Equal(t, "by hand", l.Problem)
		require.Nil(t, l.Current(l.plan))
	})
}
