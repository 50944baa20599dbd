package sagapg_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/propagation"

	"github.com/slipwayhq/slipway/platform/saga"
	"github.com/slipwayhq/slipway/platform/saga/sagapg"
)

// mixed has sagas in every state: their ids by what they are.
func mixed(t *testing.T) (*ward, *steps, map[string]string) {
	t.Helper()
	s := newSteps()
	w := admit(t, s.trip(), patient(s))
	id := map[string]string{}
	id["done"] = begin(t, w.pool, s.trip(), trip{})
	ended(t, w.pool, id["done"])
	s.fail("book", always(errNo))
	id["uncertain"] = begin(t, w.pool, s.trip(), trip{})
	w.becomes(id["uncertain"], "needs_operator")
	s.fail("book", always(saga.Rejected(errNo)))
	s.fail("no-hotel", always(errNo))
	id["undo"] = begin(t, w.pool, s.trip(), trip{})
	w.becomes(id["undo"], "needs_operator")
	id["waiting"] = begin(t, w.pool, patient(s), trip{})
	eventually(t, func() bool { return w.becomes(id["waiting"], "running").WaitsFor == "approval" })
	return w, s, id
}

func ids(sagas []sagapg.Saga) string {
	all := make([]string, len(sagas))
	for i, s := range sagas {
		all[i] = s.ID.String()
	}
	return strings.Join(all, " ")
}

func TestOperator_List(t *testing.T) {
	t.Parallel()
	w, _, id := mixed(t)
	all := []string{id["uncertain"], id["undo"], id["waiting"]}
	for name, c := range map[string]struct {
		filter sagapg.Filter
		want   []string
	}{
		"all":               {sagapg.Filter{}, all},
		"the first":         {sagapg.Filter{Limit: 1}, all[:1]},
		"stuck":             {sagapg.Filter{Stuck: true}, all[:2]},
		"stuck for a cause": {sagapg.Filter{Reasons: []string{sagapg.StuckCompensationFailed, sagapg.StuckRetrying}}, all[1:2]},
		"of a definition":   {sagapg.Filter{Name: "patient", Version: 1}, all[2:]},
		"of no definition":  {sagapg.Filter{Name: "patient", Version: 2}, nil},
		"in a status":       {sagapg.Filter{Status: "running"}, all[2:]},
		"over":              {sagapg.Filter{Status: "completed", Name: "trip"}, []string{id["done"]}},
		"over, otherwise":   {sagapg.Filter{Status: "resolved"}, nil},
		"since an hour":     {sagapg.Filter{Since: time.Now().Add(-time.Hour)}, all},
		"since later":       {sagapg.Filter{Since: time.Now().Add(time.Hour)}, nil},
		"by an id":          {sagapg.Filter{ID: id["undo"]}, all[1:2]},
		"by its beginning":  {sagapg.Filter{ID: id["undo"][:3]}, all},
	} {
		found, err := w.List(t.Context(), c.filter)
		require.NoError(t, err, name)
		require.NotNil(t, found)
		require.Equal(t, strings.Join(c.want, " "), ids(found), name)
		n, err := w.Count(t.Context(), c.filter)
		require.NoError(t, err)
		if c.filter.Limit == 0 {
			require.Len(t, c.want, int(n), name)
		}
	}
	for want, f := range map[string]sagapg.Filter{
		`there is no status "done"`:           {Status: "done"},
		"what is completed is not stuck":      {Status: "completed", Stuck: true},
		`no saga's id begins with "x"`:        {ID: "x"},
		`no saga's id begins with "00000000-`: {ID: uuid.Nil.String() + "0"},
	} {
		_, err := w.List(t.Context(), f)
		require.ErrorIs(t, err, sagapg.ErrInvalid)
		require.ErrorContains(t, err, want)
	}
	found, err := w.List(t.Context(), sagapg.Filter{ID: id["undo"]})
	require.NoError(t, err)
	s := found[0]
	require.WithinDuration(t, time.Now(), s.CreatedAt, time.Minute)
	require.Equal(t, sagapg.Saga{
		ID: key(id["undo"]), Name: "trip", Version: 1, Status: "needs_operator", Backward: true, Stuck: sagapg.StuckCompensationFailed,
		Steps: []string{"no-hotel"}, Reason: "book: no", Problem: "no-hotel: no", CreatedAt: s.CreatedAt, UpdatedAt: s.UpdatedAt, FailingSince: s.FailingSince,
	}, s)
	require.NotNil(t, s.FailingSince)
}

// Operators and metrics must say the same.
func TestOperator_List_asTheMetricsSay(t *testing.T) {
	t.Parallel()
	w, _, _ := mixed(t)
	w.stop()
	var found []sagapg.Saga
	eventually(t, func() bool { // a claim that was given up when the runner stopped may still be under way
		_, err := w.pool.Exec(t.Context(), "UPDATE slipway.saga SET owner = NULL, next_run_at = clock_timestamp() - interval '1 hour' WHERE status = 0")
		require.NoError(t, err)
		found, err = w.List(t.Context(), sagapg.Filter{Stuck: true})
		require.NoError(t, err)
		return len(found) == 3
	})
	require.Equal(t, []string{"needs_operator", "compensation_failed", "no_worker"}, []string{found[0].Stuck, found[1].Stuck, found[2].Stuck})
	eventually(t, func() bool { return value(t, w.reg, "saga_stuck_total") == 3 })
	for _, s := range found {
		require.Equal(t, 1, int(value(t, w.reg, "saga_stuck_by_reason", "saga="+s.Name, "reason="+s.Stuck)))
	}

	// One that was killed, and that nobody is left to bury, is a worker for a minute at most.
	for ago, why := range map[string]string{"1 second": "overdue", "2 minutes": "no_worker"} {
		_, err := w.pool.Exec(t.Context(), `WITH gone AS (DELETE FROM slipway.saga_worker)
			INSERT INTO slipway.saga_worker (name, definitions, seen_at) SELECT 'killed', array_agg(id), clock_timestamp() - $1::text::interval FROM slipway.saga_definition`, ago)
		require.NoError(t, err)
		found, err = w.List(t.Context(), sagapg.Filter{Stuck: true})
		require.NoError(t, err)
		require.Equal(t, why, found[2].Stuck, ago)
	}
}

// states returns the steps with what is known of them.
func states(d sagapg.Detail) string {
	var all []string
	for _, s := range d.Plan {
		text := s.Name + ":" + s.State
		if s.Current {
			text += "*"
		}
		all = append(all, text)
	}
	return strings.Join(all, " ")
}

func TestOperator_Show(t *testing.T) {
	t.Parallel()
	w, s, id := mixed(t)
	for name, want := range map[string]string{
		"done":      "flight:done hotel:done book:done",
		"uncertain": "flight:done hotel:done book:uncertain*",
		"undo":      "flight:done hotel:undo_failed* book:failed",
		"waiting":   "flight:done approval:pending* book: mail:",
	} {
		d, err := w.Show(t.Context(), key(id[name]))
		require.NoError(t, err)
		require.Equal(t, want, states(d), name)
	}
	d, err := w.Show(t.Context(), key(id["waiting"]))
	require.NoError(t, err)
	require.JSONEq(t, `{"log":["flight"]}`, string(d.Data))
	require.WithinDuration(t, time.Now().Add(time.Hour), *d.Plan[1].NotBefore, time.Minute)
	require.Empty(t, d.Signals)
	require.Empty(t, d.Actions)

	s.fail("no-hotel", nil)
	w.must(w.Retry(t.Context(), key(id["undo"]), ann))
	ended(t, w.pool, id["undo"])
	d, err = w.Show(t.Context(), key(id["undo"]))
	require.NoError(t, err)
	require.Equal(t, "flight:undone hotel:undone book:failed", states(d))
	require.NotNil(t, d.FinishedAt)
	var calls []string
	for _, e := range d.Timeline {
		calls = append(calls, e.Step+" "+e.Call+" "+e.Class)
	}
	require.Equal(t, []string{
		"flight action ok", "hotel action ok", "book action rejected", "no-hotel undo unknown", "no-hotel undo unknown", "no-hotel undo unknown",
		"no-hotel undo ok", "no-flight undo ok",
	}, calls)
	require.Equal(t, "no", d.Timeline[5].Error)
	require.Equal(t, 3, d.Timeline[5].Attempt)
	require.Equal(t, "retry", d.Actions[0].Action)

	_, err = w.Show(t.Context(), uuid.New())
	require.ErrorIs(t, err, sagapg.ErrNotFound)
}

// The trace that a saga began in, and those of its attempts, are known.
func TestOperator_Show_traces(t *testing.T) {
	t.Parallel()
	s := newSteps()
	pool := setup(t)
	parent := "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
	ctx := propagation.TraceContext{}.Extract(t.Context(), propagation.MapCarrier{"traceparent": parent})
	r, _, _ := start(t, pool, quick(), s.trip())
	id := newID()
	require.NoError(t, sagapg.Launch(ctx, r, s.trip(), id, trip{}))
	ended(t, pool, id)
	d, err := sagapg.NewOperator(pool).Show(context.WithoutCancel(ctx), key(id))
	require.NoError(t, err)
	require.Equal(t, parent, d.Headers["traceparent"])
	require.Len(t, d.Timeline, 3)
	for _, e := range d.Timeline {
		require.Equal(t, "4bf92f3577b34da6a3ce929d0e0e4736", e.TraceID)
	}
}

func TestOperator_Versions(t *testing.T) {
	t.Parallel()
	w, s, _ := mixed(t)
	versions, err := w.Versions(t.Context())
	require.NoError(t, err)
	require.Len(t, versions, 2)
	v := versions[1]
	require.Equal(t, "trip 1 flight -> hotel -> book", strings.Join([]string{v.Name, "1", v.Steps}, " "))
	require.Equal(t, []int64{0, 0, 2, 2}, []int64{v.Running, v.Compensating, v.NeedsOperator, v.InFlight()})
	require.WithinDuration(t, time.Now(), *v.Oldest, time.Minute)
	require.Len(t, v.Workers, 1)
	require.True(t, v.Workers[0].Alive)
	require.False(t, v.NoWorker)
	require.Equal(t, int64(1), versions[0].Running)

	// One that gives no sign of life is as good as none, whoever is left to say so.
	_, err = w.pool.Exec(t.Context(), "INSERT INTO slipway.saga_worker (name, definitions, seen_at) SELECT 'silent', array_agg(id), '2020-01-01' FROM slipway.saga_definition")
	require.NoError(t, err)
	w.stop()
	other := saga.Define("other", 3, saga.Step("flight", s.of("flight")))
	ended(t, w.pool, begin(t, w.pool, startOther(t, w, other), trip{}))
	versions, err = w.Versions(t.Context())
	require.NoError(t, err)
	require.Len(t, versions, 3)
	require.Equal(t, "other", versions[0].Name)
	require.Nil(t, versions[0].Oldest)
	require.False(t, versions[0].NoWorker, "nothing is in flight")
	for _, v := range versions[1:] {
		require.True(t, v.NoWorker, v.Name)
	}
}

// startOther runs another definition on the ward's database.
func startOther(t *testing.T, w *ward, d *saga.Definition[trip]) *saga.Definition[trip] {
	t.Helper()
	start(t, w.pool, quick(), d)
	return d
}
