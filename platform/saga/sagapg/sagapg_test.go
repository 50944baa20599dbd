package sagapg_test

import (
	"context"
	"errors"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/slipwayhq/slipway/platform/saga"
)

type trip struct {
	Log []string `json:"log"`
}

func note(name string) saga.Func[trip] {
	return func(_ context.Context, c *saga.Call[trip]) error {
		c.State.Log = append(c.State.Log, name)
		return nil
	}
}

func failing(err error) saga.Func[trip] {
	return func(context.Context, *saga.Call[trip]) error { return err }
}

var errNo = errors.New("no")

func TestRunner(t *testing.T) {
	t.Parallel()

	t.Run("runs a saga to its end", func(t *testing.T) {
		t.Parallel()
		pool := setup(t)
		d := saga.Define("trip", 1, saga.Undo("cancel", note("cancel")), saga.Step("flight", note("flight")).Undo("no-flight", note("no-flight")),
			saga.Step("hotel", note("hotel")).Undo("no-hotel", note("no-hotel")), saga.Pivot("book", note("book")), saga.Step("mail", note("mail")))
		r, _, _ := start(t, pool, quick(), d)
		id := begin(t, pool, d, trip{})
		r.Wake()
		status, data := ended(t, pool, id)
		require.Equal(t, saga.Completed, status)
		require.JSONEq(t, `{"log":["flight","hotel","book","mail"]}`, data)
		require.Equal(t, 4, query[int](t, pool, "SELECT count(*) FROM slipway.saga_journal WHERE saga_id = $1", id))
	})

	t.Run("undoes what was done, the last first", func(t *testing.T) {
		t.Parallel()
		pool := setup(t)
		d := saga.Define("trip", 1, saga.Undo("cancel", note("cancel")), saga.Step("flight", note("flight")).Undo("no-flight", note("no-flight")),
			saga.Step("hotel", note("hotel")).Undo("no-hotel", note("no-hotel")), saga.Pivot("book", failing(saga.Rejected(errNo))))
		start(t, pool, quick(), d)
		status, data := ended(t, pool, begin(t, pool, d, trip{}))
		require.Equal(t, saga.Compensated, status)
		require.JSONEq(t, `{"log":["flight","hotel","no-hotel","no-flight","cancel"]}`, data)
	})
}
