package usecase_test

import (
	"context"
	"errors"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/mock"
	"github.com/stretchr/testify/require"

	"github.com/slipwayhq/slipway/reference/order/domain"
	"github.com/slipwayhq/slipway/reference/order/usecase"
)

var (
	now     = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	errDisk = errors.New("disk on fire")
)

func command() usecase.PlaceOrderCommand {
	return usecase.PlaceOrderCommand{
		Owner: "shop", IdempotencyKey: "key-0001", CustomerID: "c-1",
		Items: []domain.Item{{SKU: "TEA-1", Quantity: 2, UnitPrice: domain.Money{Currency: "EUR", Minor: 350}}},
	}
}

func pending(version int64) domain.Snapshot {
	return domain.Snapshot{ID: "o-1", Owner: "shop", Status: domain.Pending, Version: version}
}

func TestPlaceOrder(t *testing.T) {
	t.Parallel()
	setup := func(t *testing.T) (*usecase.PlaceOrder, *mockPlacer, *mockListener) {
		t.Helper()
		orders, listener := newMockPlacer(t), newMockListener(t)
		return &usecase.PlaceOrder{
			Orders: orders, Listeners: []usecase.Listener{listener},
			NewID: func() string { return "o-1" }, Now: func() time.Time { return now },
		}, orders, listener
	}

	t.Run("stores a pending order under the caller's key and tells the listeners", func(t *testing.T) {
		t.Parallel()
		place, orders, listener := setup(t)
		var stored domain.Snapshot
		orders.EXPECT().Place(mock.Anything, mock.Anything, mock.Anything, mock.Anything).RunAndReturn(
			func(_ context.Context, o *domain.Order, i usecase.Idempotency, _ usecase.Checkout) (domain.Snapshot, error) {
				require.Equal(t, "shop", i.Owner)
				require.Equal(t, "key-0001", i.Key)
				require.Len(t, i.Hash, 32)
				stored = o.Snapshot()
				return stored, nil
			})
		listener.EXPECT().OrderChanged(mock.Anything, mock.Anything).Run(func(_ context.Context, s domain.Snapshot) {
			require.Equal(t, stored, s)
		})

		got, err := place.Execute(t.Context(), command())
		require.NoError(t, err)
		require.Equal(t, stored, got)
		require.Equal(t, domain.Pending, got.Status)
		require.Equal(t, "o-1", got.ID)
		require.Equal(t, now, got.CreatedAt)
	})

	t.Run("tells nobody when nothing was stored", func(t *testing.T) {
		t.Parallel()
		place, orders, _ := setup(t)
		orders.EXPECT().Place(mock.Anything, mock.Anything, mock.Anything, mock.Anything).Return(domain.Snapshot{}, errDisk)
		_, err := place.Execute(t.Context(), command())
		require.ErrorIs(t, err, errDisk)
	})

	t.Run("asks the store for nothing when the order is not valid", func(t *testing.T) {
		t.Parallel()
		place, _, _ := setup(t)
		cmd := command()
		cmd.Items = nil
		_, err := place.Execute(t.Context(), cmd)
		require.ErrorIs(t, err, domain.ErrInvalidOrder)
	})
}

// TestPlaceOrder_hash states when two requests are the same one.
func TestPlaceOrder_hash(t *testing.T) {
	t.Parallel()
	hashOf := func(change func(*usecase.PlaceOrderCommand)) string {
		cmd := command()
		change(&cmd)
		orders := newMockPlacer(t)
		var hash []byte
		orders.EXPECT().Place(mock.Anything, mock.Anything, mock.Anything, mock.Anything).RunAndReturn(
			func(_ context.Context, o *domain.Order, i usecase.Idempotency, _ usecase.Checkout) (domain.Snapshot, error) {
				hash = i.Hash
				return o.Snapshot(), nil
			})
		ids := 0
		place := usecase.PlaceOrder{Orders: orders, Now: time.Now, NewID: func() string { ids++; return strconv.Itoa(ids) }}
		_, err := place.Execute(t.Context(), cmd)
		require.NoError(t, err)
		return string(hash)
	}
	first := hashOf(func(*usecase.PlaceOrderCommand) {})
	require.Equal(t, first, hashOf(func(*usecase.PlaceOrderCommand) {}))
	require.Equal(t, first, hashOf(func(c *usecase.PlaceOrderCommand) { c.IdempotencyKey = "other-key" }))

	seen := map[string]string{first: "the first request"}
	for name, change := range map[string]func(*usecase.PlaceOrderCommand){
		"customer": func(c *usecase.PlaceOrderCommand) { c.CustomerID = "c-2" },
		"sku":      func(c *usecase.PlaceOrderCommand) { c.Items[0].SKU = "TEA-2" },
		"quantity": func(c *usecase.PlaceOrderCommand) { c.Items[0].Quantity = 3 },
		"price":    func(c *usecase.PlaceOrderCommand) { c.Items[0].UnitPrice.Minor = 351 },
		"currency": func(c *usecase.PlaceOrderCommand) { c.Items[0].UnitPrice.Currency = "USD" },
		"one more": func(c *usecase.PlaceOrderCommand) { c.Items = append(c.Items, c.Items[0]) },
		"fields that touch": func(c *usecase.PlaceOrderCommand) {
			c.CustomerID, c.Items[0].SKU = "c-1T", "EA-1"
		},
	} {
		h := hashOf(change)
		require.NotContains(t, seen, h, "%s looks like %s", name, seen[h])
		seen[h] = name
	}
}

func TestCancelOrder(t *testing.T) {
	t.Parallel()
	// run cancels an order of the given state through a store that keeps it in memory.
	run := func(t *testing.T, state domain.Snapshot, cmd usecase.CancelOrderCommand, told bool) (domain.Snapshot, error) {
		t.Helper()
		orders, listener := newMockUpdater(t), newMockListener(t)
		orders.EXPECT().Update(mock.Anything, cmd.Owner, cmd.OrderID, mock.Anything).RunAndReturn(
			func(_ context.Context, _, _ string, change func(*domain.Order) error) (domain.Snapshot, error) {
				o := domain.Rehydrate(state)
				err := change(o)
				return o.Snapshot(), err
			})
		if told {
			listener.EXPECT().OrderChanged(mock.Anything, mock.Anything)
		}
		c := usecase.CancelOrder{Orders: orders, Listeners: []usecase.Listener{listener}, Now: func() time.Time { return now }}
		return c.Execute(t.Context(), cmd)
	}
	cmd := usecase.CancelOrderCommand{Owner: "shop", OrderID: "o-1", Reason: "changed my mind", ExpectedVersion: 1}

	t.Run("cancels a pending order", func(t *testing.T) {
		t.Parallel()
		got, err := run(t, pending(1), cmd, true)
		require.NoError(t, err)
		require.Equal(t, domain.Cancelled, got.Status)
		require.Equal(t, "changed my mind", got.CancelReason)
	})

	t.Run("refuses a version that the caller has not seen", func(t *testing.T) {
		t.Parallel()
		_, err := run(t, pending(2), cmd, false)
		require.ErrorIs(t, err, domain.ErrVersionConflict)
	})

	t.Run("is harmless when repeated with the version of the first time", func(t *testing.T) {
		t.Parallel()
		cancelled := pending(2)
		cancelled.Status = domain.Cancelled
		got, err := run(t, cancelled, cmd, true)
		require.NoError(t, err)
		require.Equal(t, cancelled, got)
	})

	t.Run("refuses a confirmed order", func(t *testing.T) {
		t.Parallel()
		confirmed := pending(1)
		confirmed.Status = domain.Confirmed
		_, err := run(t, confirmed, cmd, false)
		require.ErrorIs(t, err, domain.ErrInvalidTransition)
	})
}

func TestCancelOrder_conflict(t *testing.T) {
	t.Parallel()
	// race cancels an order that somebody else changes the given number of times meanwhile.
	race := func(t *testing.T, expected int64, changes int) (calls int, err error) {
		t.Helper()
		orders, listener := newMockUpdater(t), newMockListener(t)
		orders.EXPECT().Update(mock.Anything, "shop", "o-1", mock.Anything).RunAndReturn(
			func(_ context.Context, _, _ string, change func(*domain.Order) error) (domain.Snapshot, error) {
				calls++
				o := domain.Rehydrate(pending(1))
				if err := change(o); err != nil || calls > changes {
					return o.Snapshot(), err
				}
				return domain.Snapshot{}, domain.ErrVersionConflict
			})
		listener.EXPECT().OrderChanged(mock.Anything, mock.Anything).Maybe()
		c := usecase.CancelOrder{Orders: orders, Listeners: []usecase.Listener{listener}, Now: func() time.Time { return now }}
		_, err = c.Execute(t.Context(), usecase.CancelOrderCommand{Owner: "shop", OrderID: "o-1", Reason: "no", ExpectedVersion: expected})
		return calls, err
	}

	t.Run("is nothing to a caller that accepts any version", func(t *testing.T) {
		t.Parallel()
		calls, err := race(t, 0, 1)
		require.NoError(t, err)
		require.Equal(t, 2, calls)
	})

	t.Run("is told to a caller that expects a version", func(t *testing.T) {
		t.Parallel()
		calls, err := race(t, 1, 1)
		require.ErrorIs(t, err, domain.ErrVersionConflict)
		require.Equal(t, 1, calls)
	})

	t.Run("is not tried again for ever", func(t *testing.T) {
		t.Parallel()
		calls, err := race(t, 0, 100)
		require.ErrorIs(t, err, domain.ErrVersionConflict)
		require.Equal(t, 3, calls)
	})
}

func TestGetOrder(t *testing.T) {
	t.Parallel()
	orders, cache := newMockReader(t), newMockCache(t)
	orders.EXPECT().Get(mock.Anything, "shop", "o-1").Return(pending(1), nil)
	cache.EXPECT().Get(mock.Anything, "shop", "o-1", mock.Anything).RunAndReturn(
		func(ctx context.Context, _, _ string, load func(context.Context) (domain.Snapshot, error)) (domain.Snapshot, error) {
			return load(ctx)
		})
	got, err := (&usecase.GetOrder{Orders: orders, Cache: cache}).Execute(t.Context(), "shop", "o-1")
	require.NoError(t, err)
	require.Equal(t, pending(1), got)
}

func TestListOrders(t *testing.T) {
	t.Parallel()
	orders := func(n int) (list []domain.Snapshot) {
		for i := range n {
			list = append(list, domain.Snapshot{ID: "o-" + strconv.Itoa(i)})
		}
		return list
	}
	for name, row := range map[string]struct {
		size, asked, found, page int
		next                     string
	}{
		"no size means the default":          {size: 0, asked: 21, found: 3, page: 3},
		"a full last page has no next":       {size: 3, asked: 4, found: 3, page: 3},
		"one more than a page is not shown":  {size: 3, asked: 4, found: 4, page: 3, next: "o-2"},
		"an empty list is the last page too": {size: 3, asked: 4, found: 0, page: 0},
	} {
		reader := newMockReader(t)
		f := usecase.Filter{Owner: "shop"}
		reader.EXPECT().List(mock.Anything, f, row.asked).Return(orders(row.found), nil)
		page, next, err := (&usecase.ListOrders{Orders: reader}).Execute(t.Context(), f, row.size)
		require.NoError(t, err, name)
		require.Len(t, page, row.page, name)
		require.Equal(t, row.next, next, name)
	}
}

func TestWatchOrder(t *testing.T) {
	t.Parallel()
	setup := func(t *testing.T) (*usecase.WatchOrder, *mockReader, chan struct{}, *bool) {
		t.Helper()
		reader, changes := newMockReader(t), newMockChanges(t)
		changed, ended := make(chan struct{}, 1), false
		changes.EXPECT().Subscribe("o-1").Return(changed, func() { ended = true }, nil)
		return &usecase.WatchOrder{Orders: reader, Changes: changes}, reader, changed, &ended
	}
	cancelled := pending(2)
	cancelled.Status = domain.Cancelled

	t.Run("sends the state, then each change, and ends with the final one", func(t *testing.T) {
		t.Parallel()
		watch, reader, changed, ended := setup(t)
		reader.EXPECT().Get(mock.Anything, "shop", "o-1").Return(pending(1), nil).Twice()
		reader.EXPECT().Get(mock.Anything, "shop", "o-1").Return(cancelled, nil).Once()
		var sent []domain.Snapshot
		changed <- struct{}{} // wakes it although nothing has changed: nothing may be sent twice
		err := watch.Execute(t.Context(), "shop", "o-1", 0, func(s domain.Snapshot) error {
			sent = append(sent, s)
			if len(sent) == 1 {
				go func() { changed <- struct{}{} }()
			}
			return nil
		})
		require.NoError(t, err)
		require.Equal(t, []domain.Snapshot{pending(1), cancelled}, sent)
		require.True(t, *ended)
	})

	t.Run("sends a slow caller the latest state, not each one in between", func(t *testing.T) {
		t.Parallel()
		watch, reader, changed, _ := setup(t)
		state := pending(1)
		reader.EXPECT().Get(mock.Anything, "shop", "o-1").RunAndReturn(
			func(context.Context, string, string) (domain.Snapshot, error) { return state, nil })
		var sent []int64
		err := watch.Execute(t.Context(), "shop", "o-1", 0, func(s domain.Snapshot) error {
			sent = append(sent, s.Version)
			state.Version, state.Status = 7, domain.Cancelled // What happens while this caller reads.
			changed <- struct{}{}
			return nil
		})
		require.NoError(t, err)
		require.Equal(t, []int64{1, 7}, sent)
	})

	t.Run("sends nothing that the caller knows", func(t *testing.T) {
		t.Parallel()
		watch, reader, _, _ := setup(t)
		reader.EXPECT().Get(mock.Anything, "shop", "o-1").Return(cancelled, nil)
		require.NoError(t, watch.Execute(t.Context(), "shop", "o-1", 2, func(domain.Snapshot) error {
			t.Error("sent a version that the caller knows")
			return nil
		}))
	})

	t.Run("ends with the cause of its context", func(t *testing.T) {
		t.Parallel()
		watch, reader, _, ended := setup(t)
		ctx, cancel := context.WithCancelCause(t.Context())
		reader.EXPECT().Get(mock.Anything, "shop", "o-1").Return(pending(1), nil)
		err := watch.Execute(ctx, "shop", "o-1", 0, func(domain.Snapshot) error { cancel(errDisk); return nil })
		require.ErrorIs(t, err, errDisk)
		require.True(t, *ended)
	})

	t.Run("ends when the caller cannot be reached or the order is not there", func(t *testing.T) {
		t.Parallel()
		watch, reader, _, _ := setup(t)
		reader.EXPECT().Get(mock.Anything, "shop", "o-1").Return(pending(1), nil)
		require.ErrorIs(t, watch.Execute(t.Context(), "shop", "o-1", 0, func(domain.Snapshot) error { return errDisk }), errDisk)

		watch, reader, _, _ = setup(t)
		reader.EXPECT().Get(mock.Anything, "shop", "o-1").Return(domain.Snapshot{}, domain.ErrNotFound)
		require.ErrorIs(t, watch.Execute(t.Context(), "shop", "o-1", 0, nil), domain.ErrNotFound)
	})
}
