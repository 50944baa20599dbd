package sagatest_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/slipwayhq/slipway/platform/internal/leaktest"
	"github.com/slipwayhq/slipway/platform/saga"
	"github.com/slipwayhq/slipway/platform/saga/sagatest"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

var errAway = errors.New("away")

// state counts what was done.
type state struct {
	A, B   int
	Signal string
	Token  int64
}

func act(do func(*state)) saga.Func[state] {
	return func(_ context.Context, c *saga.Call[state]) error {
		do(c.State)
		c.State.Token = c.Token
		return nil
	}
}

// trip is a saga with everything.
func trip() *saga.Definition[state] {
	return saga.Define("trip", 1,
		saga.Parallel(
			saga.Step("book-train", act(func(s *state) { s.A++ })).Undo("cancel-train", act(func(s *state) { s.A-- })),
			saga.Step("book-room", act(func(s *state) { s.B++ })).Undo("cancel-room", act(func(s *state) { s.B-- })),
		),
		saga.Wait("approved", time.Hour, func(_ context.Context, c *saga.Call[state]) error {
			c.State.Signal = string(c.Signal)
			return nil
		}),
		saga.Pivot("confirm", act(func(*state) {})).Verify(func(context.Context, *saga.Call[state]) (bool, error) { return true, nil }),
		saga.Sleep[state]("cool-off", time.Minute),
		saga.Step("invoice", act(func(*state) {})),
	).Timeout(2 * time.Hour)
}

var approved = sagatest.Signal("approved", []byte("boss"))

func TestRun(t *testing.T) {
	t.Parallel()

	t.Run("goes to the end in no time, with its time counted", func(t *testing.T) {
		t.Parallel()
		r := sagatest.Run(t, trip(), state{}, approved)
		require.Equal(t, saga.Completed, r.Status)
		require.Equal(t, state{A: 1, B: 1, Signal: "boss", Token: 1}, r.State)
		require.Equal(t, []string{"book-train", "book-room", "approved", "confirm", "invoice"}, r.Steps())
		require.Equal(t, time.Minute, r.Elapsed)
	})

	t.Run("a signal that comes later is waited for", func(t *testing.T) {
		t.Parallel()
		r := sagatest.Run(t, trip(), state{}, sagatest.SignalAfter(time.Minute, "approved", nil))
		require.Equal(t, saga.Completed, r.Status)
		require.Equal(t, 2*time.Minute, r.Elapsed)
	})

	t.Run("a signal that does not come turns the saga back", func(t *testing.T) {
		t.Parallel()
		r := sagatest.Run(t, trip(), state{})
		require.Equal(t, saga.Compensated, r.Status)
		require.Equal(t, "approved: nothing came in time", r.Instance.Reason)
		require.Equal(t, time.Hour, r.Elapsed)
		require.Equal(t, state{Token: 1}, r.State)
	})

	t.Run("a failure without effect does not call the step", func(t *testing.T) {
		t.Parallel()
		called := 0
		count := saga.Define("count", 1, saga.Step("count", act(func(*state) { called++ })))
		r := sagatest.Run(t, count, state{}, sagatest.FailTimes("count", 2, saga.Retryable(errAway)))
		require.Equal(t, saga.Completed, r.Status)
		require.Equal(t, 3, r.Attempts("count"))
		require.Equal(t, 1, called)
		require.ErrorIs(t, r.Calls[0].Err, errAway)
		require.Equal(t, saga.ClassRetryable, r.Calls[0].Class)
	})

	t.Run("a lost answer drops the state and makes the outcome unknown", func(t *testing.T) {
		t.Parallel()
		r := sagatest.Run(t, trip(), state{}, approved, sagatest.AnswerLost("confirm", 10))
		require.Equal(t, saga.Completed, r.Status)
		last := r.Calls[len(r.Calls)-2]
		require.Equal(t, saga.CallVerify, last.Kind)
		require.Equal(t, 10, r.Attempts("confirm"))
	})

	t.Run("a failure of a step is none of its verification", func(t *testing.T) {
		t.Parallel()
		r := sagatest.Run(t, trip(), state{}, approved, sagatest.Fail("confirm", errAway))
		require.Equal(t, saga.Completed, r.Status)
	})

	t.Run("a crash counts as an attempt, and another process goes on", func(t *testing.T) {
		t.Parallel()
		r := sagatest.Run(t, trip(), state{}, approved, sagatest.Crash("book-train", "book-train", "approved", "confirm"))
		require.Equal(t, saga.Completed, r.Status)
		require.Equal(t, 3, r.Attempts("book-train"))
		require.Equal(t, 3, r.Attempts("book-room"), "was on its way when the process ended")
		require.Equal(t, 2, r.Attempts("approved"))
		require.Equal(t, state{A: 1, B: 1, Signal: "boss", Token: 5}, r.State)
	})

	t.Run("a call that takes too long has its effect unheard", func(t *testing.T) {
		t.Parallel()
		called := 0
		slow := saga.Define("slow", 1, saga.Step("slow", func(context.Context, *saga.Call[state]) error {
			called++
			return nil
		}).Retry(saga.Policy{MaxAttempts: 2}).Undo("unslow", act(func(*state) {})))
		r := sagatest.Run(t, slow, state{}, sagatest.Takes("slow", time.Minute))
		require.Equal(t, saga.Compensated, r.Status)
		require.Equal(t, 2, called)
		require.Greater(t, r.Elapsed, 20*time.Second)
		require.ErrorIs(t, r.Calls[0].Err, context.DeadlineExceeded)

		r = sagatest.Run(t, slow, state{}, sagatest.Takes("slow", 9*time.Second))
		require.Equal(t, saga.Completed, r.Status)
		require.Equal(t, 9*time.Second, r.Elapsed)
	})

	t.Run("parallel calls come back in the order of the time that they take", func(t *testing.T) {
		t.Parallel()
		r := sagatest.Run(t, trip(), state{}, approved, sagatest.Takes("book-train", 9*time.Second), sagatest.Takes("book-room", time.Second),
			sagatest.FailTimes("book-room", 1, saga.Retryable(errAway)))
		require.Equal(t, saga.Completed, r.Status)
		require.Equal(t, state{A: 1, B: 1, Signal: "boss", Token: 1}, r.State)
		require.Less(t, r.Calls[2].At, 3*time.Second, "tried again while the other call is on its way")
		require.Equal(t, "book-room", r.Calls[2].Step)
	})

	t.Run("an operator comes at a time", func(t *testing.T) {
		t.Parallel()
		r := sagatest.Run(t, trip(), state{}, sagatest.OperateAfter(time.Minute, saga.OperatorCompensate))
		require.Equal(t, saga.Compensated, r.Status)
		require.Equal(t, time.Minute, r.Elapsed)
	})

	t.Run("a step's own error and panic reach the saga", func(t *testing.T) {
		t.Parallel()
		d := saga.Define("bad", 1, saga.Step("bad", func(_ context.Context, c *saga.Call[state]) error {
			if c.Attempt == 1 {
				panic("oh")
			}
			return saga.Rejected(errAway)
		}))
		r := sagatest.Run(t, d, state{})
		require.Equal(t, saga.Compensated, r.Status)
		require.EqualError(t, r.Calls[0].Err, "panic: oh")
	})
}

func TestResult_Operate(t *testing.T) {
	t.Parallel()
	r := sagatest.Run(t, trip(), state{}, approved,
		sagatest.Fail("confirm", errAway), sagatest.FailVerify("confirm", 10, errAway))
	require.Equal(t, saga.NeedsOperator, r.Status)
	require.Equal(t, 10, r.Attempts("confirm"))

	r.Operate(saga.OperatorRetry, sagatest.Fail("confirm", errAway), sagatest.FailVerify("confirm", 10, errAway))
	require.Equal(t, saga.NeedsOperator, r.Status, "the cause is not mended")
	require.Equal(t, 20, r.Attempts("confirm"))

	r.Operate(saga.OperatorRetry)
	require.Equal(t, saga.Completed, r.Status)
}

// brokenTB takes the failure of a test.
type brokenTB struct {
	testing.TB

	said string
}

func (b *brokenTB) Helper() {}

func (b *brokenTB) Fatalf(format string, args ...any) {
	b.said = fmt.Sprintf(format, args...)
	runtime.Goexit()
}

func TestRun_failsTheTest(t *testing.T) {
	t.Parallel()
	said := func(d *saga.Definition[state], options ...sagatest.Option) string {
		b, done := &brokenTB{}, make(chan struct{})
		go func() {
			defer close(done)
			sagatest.Run(b, d, state{}, options...)
		}()
		<-done
		return b.said
	}
	require.Contains(t, said(saga.Define[state]("", 1)), `name ""`)
	require.Equal(t, `run saga: trip has no step "book-trian"`, said(trip(), sagatest.Fail("book-trian", errAway)))
	forever := saga.Define("forever", 1, saga.Step("s", act(func(*state) {})).Retry(saga.Policy{MaxAttempts: -1}))
	require.Equal(t, "run saga: forever does not end: s: away", said(forever, sagatest.Fail("s", errAway)))
}

// The undo is right whatever has happened, so nobody waits long for an answer that does not come; a pivot
// has no undo, so its outcome is asked for as often as it is tried.
func TestRun_asksOfUndoableStepsLessOften(t *testing.T) {
	t.Parallel()
	nothing := func(context.Context, *saga.Call[state]) error { return nil }
	ask := func(context.Context, *saga.Call[state]) (bool, error) { return false, nil }
	asked := func(r *sagatest.Result[state]) (n int) {
		for _, c := range r.Calls {
			if c.Kind == saga.CallVerify {
				n++
			}
		}
		return n
	}
	lost := errors.New("timeout")
	step := saga.Define("ask", 1, saga.Step("pay", nothing).Verify(ask).Undo("no-pay", nothing))
	r := sagatest.Run(t, step, state{}, sagatest.Fail("pay", lost), sagatest.FailVerify("pay", 100, lost))
	require.Equal(t, saga.Compensated, r.Status)
	require.Equal(t, 5, asked(r))

	pivot := saga.Define("ask", 1, saga.Pivot("pay", nothing).Verify(ask))
	r = sagatest.Run(t, pivot, state{}, sagatest.Fail("pay", lost), sagatest.FailVerify("pay", 100, lost))
	require.Equal(t, saga.NeedsOperator, r.Status)
	require.Equal(t, 10, asked(r))
}
