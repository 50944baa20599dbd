package sagapg_test

import (
	"context"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/slipwayhq/slipway/platform/saga"
	"github.com/slipwayhq/slipway/platform/saga/sagapg"
)

// ward is a database with sagas, a runner and an operator.
type ward struct {
	*sagapg.Operator

	t    *testing.T
	pool *pgxpool.Pool
	reg  *prometheus.Registry
	stop func()
}

// vacant has no runner.
func vacant(t *testing.T) *ward {
	t.Helper()
	w := &ward{t: t, pool: setup(t)}
	w.Operator = sagapg.NewOperator(w.pool)
	return w
}

// admit runs sagas of the definitions.
func admit(t *testing.T, definitions ...sagapg.Definition) *ward {
	t.Helper()
	w := vacant(t)
	_, w.reg, w.stop = start(t, w.pool, quick(), definitions...)
	return w
}

var ann = sagapg.Act{Who: "ann", Reason: "the callee is mended"}

func key(id string) uuid.UUID { return uuid.MustParse(id) }

// becomes waits until the saga is in a status and at rest.
func (w *ward) becomes(id, status string) sagapg.Detail {
	w.t.Helper()
	var d sagapg.Detail
	eventually(w.t, func() bool {
		var err error
		d, err = w.Show(w.t.Context(), key(id))
		require.NoError(w.t, err)
		return d.Status == status && d.Worker == ""
	}, status)
	return d
}

// must is for an action that must succeed.
func (w *ward) must(c sagapg.Change, err error) sagapg.Change {
	w.t.Helper()
	require.NoError(w.t, err)
	return c
}

// action is one on a saga.
type action func(ctx context.Context, id uuid.UUID, by sagapg.Act) (sagapg.Change, error)

func (w *ward) actions() map[string]action {
	return map[string]action{
		"retry": w.Retry, "compensate": w.Compensate, "skip": w.Skip, "resolve": w.Resolve,
		"set-data": func(ctx context.Context, id uuid.UUID, by sagapg.Act) (sagapg.Change, error) {
			return w.SetData(ctx, id, []byte(`{"log": ["other"]}`), by)
		},
	}
}

// patient waits for a signal after its first step.
func patient(s *steps) *saga.Definition[trip] {
	return saga.Define("patient", 1,
		saga.Step("flight", s.of("flight")).Undo("no-flight", s.of("no-flight")).Retry(fast).UndoRetry(fast),
		saga.Wait("approval", time.Hour, func(_ context.Context, c *saga.Call[trip]) error {
			c.State.Log = append(c.State.Log, string(c.Signal))
			return nil
		}),
		saga.Pivot("book", s.of("book")).Retry(fast),
		saga.Step("mail", s.of("mail")).Retry(fast))
}

func TestOperator_Retry(t *testing.T) {
	t.Parallel()

	t.Run("an undo that is out of attempts", func(t *testing.T) {
		t.Parallel()
		s := newSteps()
		s.fail("book", always(saga.Rejected(errNo)))
		s.fail("no-hotel", always(errNo))
		w := admit(t, s.trip())
		id := begin(t, w.pool, s.trip(), trip{})
		d := w.becomes(id, "needs_operator")
		require.Equal(t, sagapg.StuckCompensationFailed, d.Stuck)
		require.Equal(t, []string{"no-hotel"}, d.Steps)
		s.fail("no-hotel", nil)
		c := w.must(w.Retry(t.Context(), key(id), ann))
		require.Equal(t, sagapg.Change{
			ID: key(id), Name: "trip", Version: 1, Action: "retry", From: "needs_operator at no-hotel", To: "compensating at no-hotel", Status: "compensating",
		}, c)
		status, _ := ended(t, w.pool, id)
		require.Equal(t, saga.Compensated, status)
		d, err := w.Show(t.Context(), key(id))
		require.NoError(t, err)
		require.Equal(t, []sagapg.JournalEntry{{
			At: d.Actions[0].At, SagaID: &c.ID, Who: "ann", Action: "retry", Reason: ann.Reason, Detail: "needs_operator at no-hotel -> compensating at no-hotel",
		}}, d.Actions)
	})

	t.Run("a step in a long pause has all its attempts again", func(t *testing.T) {
		t.Parallel()
		s := newSteps()
		s.fail("flight", always(errNo))
		d := saga.Define("trip", 1, saga.Step("flight", s.of("flight")).Retry(saga.Policy{MaxAttempts: 2, Initial: time.Hour, Max: time.Hour}))
		w := admit(t, d)
		id := begin(t, w.pool, d, trip{})
		eventually(t, func() bool { return s.count("flight") == 1 })
		w.becomes(id, "running")
		w.must(w.Retry(t.Context(), key(id), ann))
		eventually(t, func() bool { return s.count("flight") == 2 })
		at := w.becomes(id, "running").Plan[0]
		require.Equal(t, 1, at.Attempts)
		require.True(t, at.Unknown, "the first attempt may still have its effect")
		s.fail("flight", nil)
		w.must(w.Retry(t.Context(), key(id), ann))
		status, _ := ended(t, w.pool, id)
		require.Equal(t, saga.Completed, status)
	})

	t.Run("a call that is on its way is fenced off", func(t *testing.T) {
		t.Parallel()
		s := newSteps()
		release := s.gate("hotel")
		w := admit(t, s.trip())
		id := begin(t, w.pool, s.trip(), trip{})
		eventually(t, func() bool { return s.count("hotel") == 1 })
		s.gate("hotel")() // the next call passes
		c := w.must(w.Retry(t.Context(), key(id), ann))
		require.NotEmpty(t, c.Interrupted)
		require.Equal(t, "running at hotel", c.To)
		status, data := ended(t, w.pool, id)
		require.Equal(t, saga.Completed, status, "nobody waits for the call that hangs")
		require.JSONEq(t, `{"log":["flight","hotel","book"]}`, data)
		release()
		eventually(t, func() bool { return value(t, w.reg, "saga_refused_writes_total") == 1 })
		require.Equal(t, 1, s.count("book"))
		d, err := w.Show(t.Context(), key(id))
		require.NoError(t, err)
		require.Contains(t, d.Actions[0].Detail, "; a call may have been on its way at "+c.Interrupted)
		eventually(t, func() bool {
			return query[int](t, w.pool, "SELECT count(*) FROM slipway.saga_journal WHERE step = 'hotel'") == 2
		}, "every attempt is in the journal")
	})

	// Its second attempt is refused. The first one counts: without it nothing would be undone.
	t.Run("the outcome of a call that is on its way is unknown", func(t *testing.T) {
		t.Parallel()
		s := newSteps()
		release := s.gate("hotel")
		w := admit(t, s.trip())
		id := begin(t, w.pool, s.trip(), trip{})
		eventually(t, func() bool { return s.count("hotel") == 1 })
		s.gate("hotel")()
		s.fail("hotel", always(saga.Rejected(errNo)))
		w.must(w.Retry(t.Context(), key(id), ann))
		status, _ := ended(t, w.pool, id)
		require.Equal(t, saga.Compensated, status)
		require.Equal(t, 1, s.count("no-hotel"))
		release()
	})

	t.Run("the only attempt that there is", func(t *testing.T) {
		t.Parallel()
		s := newSteps()
		release := s.gate("flight")
		d := saga.Define("once", 1, saga.Step("flight", s.of("flight")).Undo("no-flight", s.of("no-flight")).Retry(saga.Policy{MaxAttempts: 1}), saga.Step("mail", s.of("mail")))
		w := admit(t, d)
		id := begin(t, w.pool, d, trip{})
		eventually(t, func() bool { return s.count("flight") == 1 })
		_, err := w.Retry(t.Context(), key(id), ann)
		require.ErrorIs(t, err, sagapg.ErrInvalid)
		require.ErrorContains(t, err, "its only attempt is on its way")
		release()
		status, _ := ended(t, w.pool, id)
		require.Equal(t, saga.Completed, status, "nothing was changed")
	})

	t.Run("a saga that waits", func(t *testing.T) {
		t.Parallel()
		s := newSteps()
		w := admit(t, patient(s))
		id := begin(t, w.pool, patient(s), trip{})
		eventually(t, func() bool { return w.becomes(id, "running").WaitsFor == "approval" })
		_, err := w.Retry(t.Context(), key(id), ann)
		require.ErrorIs(t, err, sagapg.ErrInvalid)
		require.ErrorContains(t, err, "it waits for approval until 20")
	})
}

func TestOperator_Compensate(t *testing.T) {
	t.Parallel()

	t.Run("a saga that waits", func(t *testing.T) {
		t.Parallel()
		s := newSteps()
		w := admit(t, patient(s))
		id := begin(t, w.pool, patient(s), trip{})
		eventually(t, func() bool { return w.becomes(id, "running").WaitsFor == "approval" })
		c := w.must(w.Compensate(t.Context(), key(id), ann))
		require.Equal(t, "waiting at approval -> compensating at no-flight", c.From+" -> "+c.To)
		status, data := ended(t, w.pool, id)
		require.Equal(t, saga.Compensated, status)
		require.JSONEq(t, `{"log":["flight","no-flight"]}`, data)
		d, err := w.Show(t.Context(), key(id))
		require.NoError(t, err)
		require.Equal(t, ann.Reason, d.Reason)
	})

	t.Run("a pivot whose outcome is unknown, by the word of the operator", func(t *testing.T) {
		t.Parallel()
		s := newSteps()
		s.fail("book", always(errNo))
		w := admit(t, s.trip())
		id := begin(t, w.pool, s.trip(), trip{})
		require.Equal(t, sagapg.StuckNeedsOperator, w.becomes(id, "needs_operator").Stuck)
		require.Equal(t, "compensating", w.must(w.Compensate(t.Context(), key(id), ann)).Status)
		status, _ := ended(t, w.pool, id)
		require.Equal(t, saga.Compensated, status)
		_, err := w.Compensate(t.Context(), key(id), ann)
		require.ErrorIs(t, err, sagapg.ErrInvalid)
		require.ErrorContains(t, err, "it is over, it was compensated")
	})

	// Nobody knows whether the pivot is about to happen: undoing now could lose what it is worth.
	t.Run("a pivot that is on its way is not undone behind its back", func(t *testing.T) {
		t.Parallel()
		s := newSteps()
		release := s.gate("book")
		w := admit(t, s.trip())
		id := begin(t, w.pool, s.trip(), trip{})
		eventually(t, func() bool { return s.count("book") == 1 })
		c := w.must(w.Compensate(t.Context(), key(id), ann))
		require.Equal(t, "needs_operator at book", c.To)
		release()
		eventually(t, func() bool { return value(t, w.reg, "saga_refused_writes_total") == 1 })
		d := w.becomes(id, "needs_operator")
		require.Nil(t, d.NextRunAt)
		require.True(t, d.Plan[2].Unknown || d.Plan[2].State == "uncertain")
		require.Zero(t, s.count("no-hotel"))
		w.must(w.Skip(t.Context(), key(id), ann)) // it has happened, as one could see
		status, _ := ended(t, w.pool, id)
		require.Equal(t, saga.Completed, status)
	})

	t.Run("the only attempt of a pivot that is on its way", func(t *testing.T) {
		t.Parallel()
		s := newSteps()
		release := s.gate("book")
		d := saga.Define("once", 1, saga.Step("flight", s.of("flight")).Undo("no-flight", s.of("no-flight")),
			saga.Pivot("book", s.of("book")).Retry(saga.Policy{MaxAttempts: 1}))
		w := admit(t, d)
		id := begin(t, w.pool, d, trip{})
		eventually(t, func() bool { return s.count("book") == 1 })
		_, err := w.Compensate(t.Context(), key(id), ann)
		require.ErrorIs(t, err, sagapg.ErrInvalid)
		release()
		status, _ := ended(t, w.pool, id)
		require.Equal(t, saga.Completed, status)
	})

	t.Run("what cannot be undone", func(t *testing.T) {
		t.Parallel()
		s := newSteps()
		s.fail("mail", always(errNo))
		s.fail("no-flight", always(errNo))
		w := admit(t, patient(s))
		late := begin(t, w.pool, patient(s), trip{})
		w.must(w.Signal(t.Context(), key(late), "approval", []byte("yes"), ann))
		w.becomes(late, "needs_operator")
		_, err := w.Compensate(t.Context(), key(late), ann)
		require.ErrorIs(t, err, sagapg.ErrInvalid)
		require.ErrorContains(t, err, "its pivot has happened, it can only go on: retry, skip or resolve")

		undone := begin(t, w.pool, patient(s), trip{})
		eventually(t, func() bool { return w.becomes(undone, "running").WaitsFor == "approval" })
		w.must(w.Compensate(t.Context(), key(undone), ann))
		w.becomes(undone, "needs_operator")
		_, err = w.Compensate(t.Context(), key(undone), ann)
		require.ErrorContains(t, err, "it is being undone and no-flight cannot be: retry, skip or resolve")
	})
}

func TestOperator_Skip(t *testing.T) {
	t.Parallel()

	t.Run("a wait, a step after the pivot and with it the end", func(t *testing.T) {
		t.Parallel()
		s := newSteps()
		s.fail("mail", always(errNo))
		w := admit(t, patient(s))
		id := begin(t, w.pool, patient(s), trip{})
		eventually(t, func() bool { return w.becomes(id, "running").WaitsFor == "approval" })
		require.Equal(t, "running at book", w.must(w.Skip(t.Context(), key(id), ann)).To)
		w.becomes(id, "needs_operator")
		require.Equal(t, "completed", w.must(w.Skip(t.Context(), key(id), ann)).To)
		status, data := ended(t, w.pool, id)
		require.Equal(t, saga.Completed, status)
		require.JSONEq(t, `{"log":["flight","book"]}`, data)
	})

	t.Run("an undo", func(t *testing.T) {
		t.Parallel()
		s := newSteps()
		s.fail("book", always(saga.Rejected(errNo)))
		s.fail("no-hotel", always(errNo))
		w := admit(t, s.trip())
		id := begin(t, w.pool, s.trip(), trip{})
		w.becomes(id, "needs_operator")
		require.Equal(t, "compensating at no-flight", w.must(w.Skip(t.Context(), key(id), ann)).To)
		status, _ := ended(t, w.pool, id)
		require.Equal(t, saga.Compensated, status)
	})

	t.Run("a step whose call is on its way", func(t *testing.T) {
		t.Parallel()
		s := newSteps()
		release := s.gate("hotel")
		w := admit(t, s.trip())
		id := begin(t, w.pool, s.trip(), trip{})
		eventually(t, func() bool { return s.count("hotel") == 1 })
		w.must(w.Skip(t.Context(), key(id), ann))
		status, data := ended(t, w.pool, id)
		require.Equal(t, saga.Completed, status)
		require.JSONEq(t, `{"log":["flight","book"]}`, data)
		release()
		eventually(t, func() bool { return value(t, w.reg, "saga_refused_writes_total") == 1 })
	})
}

func TestOperator_Resolve(t *testing.T) {
	t.Parallel()
	s := newSteps()
	release := s.gate("hotel")
	s.fail("no-flight", always(errNo))
	w := admit(t, s.trip(), patient(s))
	owned := begin(t, w.pool, s.trip(), trip{})
	eventually(t, func() bool { return s.count("hotel") == 1 })
	waiting, undone := begin(t, w.pool, patient(s), trip{}), begin(t, w.pool, patient(s), trip{})
	for _, id := range []string{waiting, undone} {
		eventually(t, func() bool { return w.becomes(id, "running").WaitsFor == "approval" })
	}
	w.must(w.Compensate(t.Context(), key(undone), ann))
	w.becomes(undone, "needs_operator")
	for _, id := range []string{owned, waiting, undone} {
		require.Equal(t, "resolved", w.must(w.Resolve(t.Context(), key(id), ann)).To)
		d := w.becomes(id, "resolved")
		require.Equal(t, ann.Reason, d.Problem)
		require.NotNil(t, d.FinishedAt)
		_, err := w.Resolve(t.Context(), key(id), ann)
		require.ErrorContains(t, err, "it is over, it was resolved")
	}
	release()
	eventually(t, func() bool { return value(t, w.reg, "saga_refused_writes_total") == 1 })
	require.Equal(t, 3, query[int](t, w.pool, "SELECT count(*) FROM slipway.saga_finished"))
	require.Zero(t, query[int](t, w.pool, "SELECT count(*) FROM slipway.saga"))
}

// What its definition can make no sense of can at least be ended.
func TestOperator_brokenProgress(t *testing.T) {
	t.Parallel()
	s := newSteps()
	w := admit(t, patient(s))
	id := begin(t, w.pool, patient(s), trip{})
	eventually(t, func() bool { return w.becomes(id, "running").WaitsFor == "approval" })
	_, err := w.pool.Exec(t.Context(), "UPDATE slipway.saga SET stage = 70")
	require.NoError(t, err)
	d, err := w.Show(t.Context(), key(id))
	require.NoError(t, err)
	require.Contains(t, d.Problem, "saga patient has no stage 70")
	_, err = w.Retry(t.Context(), key(id), ann)
	require.ErrorIs(t, err, sagapg.ErrInvalid)
	require.ErrorContains(t, err, "saga patient has no stage 70: only resolve helps")
	w.must(w.Resolve(t.Context(), key(id), ann))
	w.becomes(id, "resolved")
}

func TestOperator_SetData(t *testing.T) {
	t.Parallel()
	s := newSteps()
	correct := func(_ context.Context, c *saga.Call[trip]) error {
		if len(c.State.Log) < 2 {
			return errNo
		}
		return nil
	}
	d := saga.Define("trip", 1, saga.Pivot("book", s.of("book")), saga.Step("check", correct).Retry(fast))
	w := admit(t, d)
	id := begin(t, w.pool, d, trip{})
	w.becomes(id, "needs_operator")
	for text, want := range map[string]string{
		"{": "must be a JSON object", "null": "must be a JSON object", "[1]": "must be a JSON object",
		`{ "log": ["book"] }`: "that is its state already",
	} {
		_, err := w.SetData(t.Context(), key(id), []byte(text), ann)
		require.ErrorIs(t, err, sagapg.ErrInvalid)
		require.ErrorContains(t, err, want)
	}
	c := w.must(w.SetData(t.Context(), key(id), []byte(`{"log": ["book", "by hand"]}`), ann))
	require.Equal(t, "running at check", c.To)
	status, data := ended(t, w.pool, id)
	require.Equal(t, saga.Completed, status)
	require.JSONEq(t, `{"log":["book","by hand"]}`, data)
	entries, err := w.Journal(t.Context(), 10)
	require.NoError(t, err)
	require.Equal(t, `needs_operator at check -> running at check; log from ["book"] to ["book", "by hand"]`, entries[0].Detail)
}

func TestOperator_Signal(t *testing.T) {
	t.Parallel()
	s := newSteps()
	release := s.gate("flight")
	w := admit(t, patient(s), s.trip())
	id := begin(t, w.pool, patient(s), trip{})
	eventually(t, func() bool { return s.count("flight") == 1 })
	c := w.must(w.Signal(t.Context(), key(id), "approval", []byte("granted"), ann))
	require.Empty(t, c.Interrupted, "who runs it goes on")
	d, err := w.Show(t.Context(), key(id))
	require.NoError(t, err)
	require.Equal(t, []sagapg.WaitingSignal{{At: d.Signals[0].At, Name: "approval", Payload: []byte("granted")}}, d.Signals)
	release()
	_, data := ended(t, w.pool, id)
	require.JSONEq(t, `{"log":["flight","granted","book","mail"]}`, data)
	require.Zero(t, value(t, w.reg, "saga_refused_writes_total"))

	other := begin(t, w.pool, patient(s), trip{})
	_, err = w.Signal(t.Context(), key(other), "consent", nil, ann)
	require.ErrorIs(t, err, sagapg.ErrInvalid)
	require.ErrorContains(t, err, `waits for no signal "consent", but for approval`)
	w.must(w.Resolve(t.Context(), key(other), ann))
}
