package store_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/slipwayhq/slipway/platform/saga/sagapg"
	"github.com/slipwayhq/slipway/reference/order/domain"
	"github.com/slipwayhq/slipway/reference/order/usecase"
)

// step is one of the checkout of an order, run by a process with the token.
func (b bundle) step(t *testing.T, order domain.Snapshot, token int64) usecase.Step {
	t.Helper()
	_, err := b.pool.Exec(t.Context(), "UPDATE slipway.saga SET token = $2 WHERE id = $1", order.ID, token)
	require.NoError(t, err)
	return usecase.Step{SagaID: order.ID, Token: token, Owner: order.Owner, OrderID: order.ID}
}

func TestIntake_startsTheCheckout(t *testing.T) {
	t.Parallel()
	b := setup(t)
	placed := b.place(t, newOrder(t, "shop"))
	var data string
	require.NoError(t, b.pool.QueryRow(t.Context(), `SELECT convert_from(data, 'UTF8') FROM slipway.saga s
		JOIN slipway.saga_definition d ON d.id = s.definition WHERE s.id = $1 AND d.name = 'checkout'`, placed.ID).Scan(&data))
	require.Contains(t, data, `"card_token":"tok_ok"`)
	_, err := b.Place(t.Context(), newOrder(t, "till"), key("till", "key-0001"))
	require.NoError(t, err)
	_, err = b.Place(t.Context(), newOrder(t, "till"), key("till", "key-0001")) // the same request once more
	require.NoError(t, err)
	require.Equal(t, 2, b.count(t, "slipway.saga"))
}

func TestOrders_UpdateInStep(t *testing.T) {
	t.Parallel()
	confirm := func(o *domain.Order) error { return o.Confirm(at) }

	t.Run("changes the order with its event", func(t *testing.T) {
		t.Parallel()
		b := setup(t)
		placed := b.place(t, newOrder(t, "shop"))
		confirmed, err := b.UpdateInStep(t.Context(), b.step(t, placed, 7), confirm)
		require.NoError(t, err)
		require.Equal(t, domain.Confirmed, confirmed.Status)
		require.Len(t, b.events(t), 2)
	})

	t.Run("refuses a process that no longer runs the checkout", func(t *testing.T) {
		t.Parallel()
		b := setup(t)
		placed := b.place(t, newOrder(t, "shop"))
		stale := b.step(t, placed, 7)
		b.step(t, placed, 8)
		_, err := b.UpdateInStep(t.Context(), stale, confirm)
		require.ErrorIs(t, err, sagapg.ErrFenced)
		read, err := b.Get(t.Context(), "shop", placed.ID)
		require.NoError(t, err)
		require.Equal(t, domain.Pending, read.Status)
	})

	// Without the lock it would read what is about to change, and say that the order is not confirmed.
	t.Run("waits for an attempt that is still on its way", func(t *testing.T) {
		t.Parallel()
		b := setup(t)
		placed := b.place(t, newOrder(t, "shop"))
		step := b.step(t, placed, 7)
		entered, release := make(chan struct{}), make(chan struct{})
		first, second := make(chan error, 1), make(chan domain.Status, 1)
		go func() {
			_, err := b.UpdateInStep(context.Background(), step, func(o *domain.Order) error {
				close(entered)
				<-release
				return o.Confirm(at)
			})
			first <- err
		}()
		<-entered
		go func() {
			_, _ = b.UpdateInStep(context.Background(), step, func(o *domain.Order) error {
				second <- o.Snapshot().Status
				return errors.New("only looking")
			})
		}()
		require.Eventually(t, func() bool {
			var waiting int
			err := b.pool.QueryRow(context.Background(), `SELECT count(*) FROM pg_stat_activity
				WHERE datname = current_database() AND wait_event_type = 'Lock'`).Scan(&waiting)
			return err == nil && waiting == 1
		}, time.Minute, 5*time.Millisecond)
		close(release)
		require.NoError(t, <-first)
		require.Equal(t, domain.Confirmed, <-second)
	})

	t.Run("leaves orders of others alone", func(t *testing.T) {
		t.Parallel()
		b := setup(t)
		placed := b.place(t, newOrder(t, "shop"))
		step := b.step(t, placed, 7)
		step.Owner = "till"
		_, err := b.UpdateInStep(t.Context(), step, confirm)
		require.ErrorIs(t, err, domain.ErrNotFound)
	})

	t.Run("a rollback of the start leaves no order", func(t *testing.T) {
		t.Parallel()
		b := setup(t)
		o := newOrder(t, "shop")
		s := o.Snapshot()
		err := pgx.BeginFunc(t.Context(), b.pool, func(tx pgx.Tx) error { // a saga with this id runs already
			_, err := sagapg.Start(t.Context(), tx, nil, checkout(), s.ID, usecase.Checkout{})
			return err
		})
		require.NoError(t, err)
		_, err = b.Place(t.Context(), o, key("shop", "key-0001"))
		require.ErrorIs(t, err, sagapg.ErrExists)
		require.Zero(t, b.count(t, "orders"))
		require.Zero(t, b.count(t, "idempotency_keys"))
	})
}
