package sagapg_test

import (
	"context"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/slipwayhq/slipway/platform/saga"
	"github.com/slipwayhq/slipway/platform/saga/sagapg"
)

var stuckTrips = sagapg.Filter{Stuck: true, Name: "trip"}

func TestOperator_Bulk(t *testing.T) {
	t.Parallel()
	s := newSteps()
	s.fail("book", always(errNo))
	w := admit(t, s.trip(), patient(s))
	var stuck []string
	for range 5 {
		stuck = append(stuck, begin(t, w.pool, s.trip(), trip{}))
	}
	for _, id := range stuck {
		w.becomes(id, "needs_operator")
	}
	other := begin(t, w.pool, patient(s), trip{})
	eventually(t, func() bool { return w.becomes(other, "running").WaitsFor == "approval" })

	t.Run("refuses what it cannot do, or would do to all", func(t *testing.T) {
		for want, b := range map[string]sagapg.Bulk{
			`there is no bulk action "set-data": choose from compensate, resolve, retry, skip`: {Action: "set-data", Filter: stuckTrips},
			"a filter that selects every saga":                                                 {Action: "retry", Filter: sagapg.Filter{Limit: 3}},
			"rate -1 is negative":                                                              {Action: "retry", Filter: stuckTrips, Rate: -1},
			"there is no status":                                                               {Action: "retry", Filter: sagapg.Filter{Status: "x"}},
		} {
			_, err := w.Bulk(t.Context(), b, ann, nil)
			require.ErrorIs(t, err, sagapg.ErrInvalid)
			require.ErrorContains(t, err, want)
		}
		_, err := w.Bulk(t.Context(), sagapg.Bulk{Action: "retry", Filter: stuckTrips}, sagapg.Act{Who: "ann"}, nil)
		require.ErrorIs(t, err, sagapg.ErrInvalid)
	})

	moved := []sagapg.Move{{Name: "trip", Version: 1, From: "needs_operator at book", To: "compensating at no-hotel", Count: 5}}
	t.Run("tells what would happen", func(t *testing.T) {
		r, err := w.Bulk(t.Context(), sagapg.Bulk{Action: "compensate", Filter: stuckTrips, Preview: true}, sagapg.Act{}, nil)
		require.NoError(t, err)
		require.Equal(t, sagapg.BulkResult{Selected: 5, Changed: 5, Moves: moved, Refused: []sagapg.Refusal{}}, r)
		require.Zero(t, query[int](t, w.pool, "SELECT count(*) FROM slipway.saga_action"))
		found, err := w.List(t.Context(), stuckTrips)
		require.NoError(t, err)
		require.Len(t, found, 5, "nothing has happened")
		r, err = w.Bulk(t.Context(), sagapg.Bulk{Action: "retry", Filter: sagapg.Filter{ID: other}, Preview: true}, sagapg.Act{}, nil)
		require.NoError(t, err)
		require.Contains(t, r.Refused[0].Error, "it waits for approval")
	})

	t.Run("does it, no faster than it may", func(t *testing.T) {
		began, told := time.Now(), 0
		r, err := w.Bulk(t.Context(), sagapg.Bulk{Action: "compensate", Filter: stuckTrips, Rate: 40}, ann, func(sagapg.BulkResult) { told++ })
		require.NoError(t, err)
		require.Equal(t, moved, r.Moves)
		require.Equal(t, 5, told)
		require.GreaterOrEqual(t, time.Since(began), 90*time.Millisecond, "four pauses of 25 ms")
		for _, id := range stuck {
			status, _ := ended(t, w.pool, id)
			require.Equal(t, saga.Compensated, status)
		}
		entries, err := w.Journal(t.Context(), 10)
		require.NoError(t, err)
		require.Len(t, entries, 6)
		require.Equal(t, "bulk: compensate of 5: stuck, saga trip", entries[5].Action+": "+entries[5].Detail)
		require.Nil(t, entries[5].SagaID)
		require.Equal(t, "compensate", entries[0].Action)
		require.Equal(t, "running", w.becomes(other, "running").Status, "it is none of those")
	})
}

// The first one is held while the second one gets on by itself: that is left alone.
func TestOperator_Bulk_leavesWhatGetsOn(t *testing.T) {
	t.Parallel()
	s := newSteps()
	s.fail("book", always(errNo))
	w := admit(t, s.trip())
	for range 3 {
		w.becomes(begin(t, w.pool, s.trip(), trip{}), "needs_operator")
	}
	found, err := w.List(t.Context(), stuckTrips)
	require.NoError(t, err)
	s.fail("book", nil)
	r, err := w.Bulk(t.Context(), sagapg.Bulk{Action: "resolve", Filter: stuckTrips}, ann, func(so sagapg.BulkResult) {
		switch so.Changed + so.Left {
		case 1: // somebody else has retried the next one, and ended the one after it
			w.must(w.Retry(t.Context(), found[1].ID, ann))
			status, _ := ended(t, w.pool, found[1].ID.String())
			require.Equal(t, saga.Completed, status)
		case 2:
			_, err := w.pool.Exec(t.Context(), "UPDATE slipway.saga SET status = 0 WHERE id = $1", found[2].ID)
			require.NoError(t, err)
		}
	})
	require.NoError(t, err)
	require.Equal(t, []int{3, 1, 2}, []int{r.Selected, r.Changed, r.Left})
	require.Empty(t, r.Refused)
}

func TestOperator_Bulk_stops(t *testing.T) {
	t.Parallel()
	s, w := newSteps(), vacant(t)
	for range 3 {
		begin(t, w.pool, s.trip(), trip{})
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	b := sagapg.Bulk{Action: "resolve", Filter: sagapg.Filter{Name: "trip"}, Rate: 0.001}
	r, err := w.Bulk(ctx, b, ann, func(sagapg.BulkResult) { cancel() })
	require.ErrorIs(t, err, context.Canceled)
	require.ErrorContains(t, err, "after 1 of 3")
	require.Equal(t, 1, r.Changed)
	require.Equal(t, 2, query[int](t, w.pool, "SELECT count(*) FROM slipway.saga"))

	b.Filter.Limit, b.Filter.ID, b.Rate = 1, uuid.Must(uuid.NewV7()).String()[:4], 0
	r, err = w.Bulk(t.Context(), b, ann, nil)
	require.NoError(t, err)
	require.Equal(t, 1, r.Selected)
	require.Equal(t, 1, query[int](t, w.pool, "SELECT count(*) FROM slipway.saga"))
}
