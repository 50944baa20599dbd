package sagapg_test

import (
	"context"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/slipwayhq/slipway/platform/saga"
	"github.com/slipwayhq/slipway/platform/saga/sagapg"
)

// Every action on a saga that nobody has begun yet.
func TestOperator_notBegun(t *testing.T) {
	t.Parallel()
	s, w := newSteps(), vacant(t)
	for name, want := range map[string]string{
		"retry": "running at flight", "set-data": "running at flight", "skip": "running at hotel", "compensate": "compensated", "resolve": "resolved",
	} {
		id := begin(t, w.pool, s.trip(), trip{})
		c := w.must(w.actions()[name](t.Context(), key(id), ann))
		require.Equal(t, "running at flight -> "+want, c.From+" -> "+c.To)
	}
	start(t, w.pool, quick(), s.trip())
	eventually(t, func() bool { return query[int](t, w.pool, "SELECT count(*) FROM slipway.saga_finished") == 5 })
}

func TestOperator_refuses(t *testing.T) {
	t.Parallel()
	s := newSteps()
	release := s.gate("flight")
	defer release()
	w := admit(t, s.trip())
	id := begin(t, w.pool, s.trip(), trip{})
	eventually(t, func() bool { return s.count("flight") == 1 })
	before := query[string](t, w.pool, "SELECT s::text FROM slipway.saga s")
	unchanged := func() {
		t.Helper()
		require.Equal(t, before, query[string](t, w.pool, "SELECT s::text FROM slipway.saga s"))
	}
	each := func(do func(name string, act action)) {
		for name, act := range w.actions() {
			do(name, act)
		}
		unchanged()
	}
	each(func(name string, act action) {
		_, err := act(t.Context(), uuid.New(), ann)
		require.ErrorIs(t, err, sagapg.ErrNotFound, name)
		for _, by := range []sagapg.Act{{Who: "ann"}, {Reason: "x"}} {
			_, err = act(t.Context(), key(id), by)
			require.ErrorIs(t, err, sagapg.ErrInvalid, name)
		}
	})

	// The journal cannot be written: nothing has happened.
	_, err := w.pool.Exec(t.Context(), "ALTER TABLE slipway.saga_action ADD CONSTRAINT full_disk CHECK (false) NOT VALID")
	require.NoError(t, err)
	each(func(name string, act action) {
		_, err := act(t.Context(), key(id), ann)
		require.ErrorContains(t, err, "full_disk", name)
	})
	_, err = w.Signal(t.Context(), key(id), "approval", nil, ann)
	require.Error(t, err)
	_, err = w.Bulk(t.Context(), sagapg.Bulk{Action: "resolve", Filter: sagapg.Filter{Name: "trip"}}, ann, nil)
	require.ErrorContains(t, err, "full_disk")
	unchanged()
}

// A step that works on the saga's database holds the saga by its guard.
func TestOperator_waitsForAGuard(t *testing.T) {
	t.Parallel()
	inside, leave := make(chan struct{}), make(chan struct{})
	var pool *pgxpool.Pool
	d := saga.Define("local", 1, saga.Step("write", func(ctx context.Context, c *saga.Call[trip]) error {
		return inTx(pool, func(_ context.Context, tx pgx.Tx) error {
			if err := sagapg.Guard(ctx, tx, c.SagaID, c.Token); err != nil {
				return err
			}
			close(inside)
			<-leave
			return nil
		})
	}).Timeout(time.Hour))
	pool = setup(t)
	start(t, pool, quick(), d)
	id := begin(t, pool, d, trip{})
	<-inside
	_, err := sagapg.NewOperator(pool).Retry(t.Context(), key(id), ann)
	require.ErrorContains(t, err, "its step or its runner has it locked for more than 3s, nothing was changed: try again")
	close(leave)
	status, _ := ended(t, pool, id)
	require.Equal(t, saga.Completed, status)
}

func TestOperator_withoutTables(t *testing.T) {
	t.Parallel()
	w := vacant(t)
	_, err := w.pool.Exec(t.Context(), "DROP SCHEMA slipway CASCADE")
	require.NoError(t, err)
	_, listErr := w.List(t.Context(), sagapg.Filter{})
	_, showErr := w.Show(t.Context(), uuid.New())
	_, actErr := w.Retry(t.Context(), uuid.New(), ann)
	_, bulkErr := w.Bulk(t.Context(), sagapg.Bulk{Action: "retry", Filter: sagapg.Filter{Stuck: true}}, ann, nil)
	_, versionsErr := w.Versions(t.Context())
	_, journalErr := w.Journal(t.Context(), 1)
	for _, err := range []error{listErr, showErr, actErr, bulkErr, versionsErr, journalErr} {
		require.ErrorContains(t, err, "slipway migrate up")
	}
}
