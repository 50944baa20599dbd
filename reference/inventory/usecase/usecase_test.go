package usecase_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/mock"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/slipwayhq/slipway/reference/inventory/domain"
	"github.com/slipwayhq/slipway/reference/inventory/usecase"
)

var (
	start = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	later = start.Add(time.Minute)
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func now() time.Time { return later }

// held is what a store has of an order.
func held(status domain.Status) domain.Snapshot {
	return domain.Snapshot{
		ID: "r-1", Key: "saga/reserve", OrderID: "o-1", Status: status,
		Lines: []domain.Line{{SKU: "CUP-9", Quantity: 1}, {SKU: "TEA-1", Quantity: 5}}, Version: 1, CreatedAt: start, UpdatedAt: start,
	}
}

func TestReserve(t *testing.T) {
	t.Parallel()
	command := func() usecase.ReserveCommand {
		return usecase.ReserveCommand{
			Key: "saga/reserve", OrderID: "o-1",
			Lines: []domain.Line{{SKU: "TEA-1", Quantity: 2}, {SKU: "CUP-9", Quantity: 1}, {SKU: "TEA-1", Quantity: 3}},
		}
	}
	setup := func(t *testing.T) (*usecase.Reserve, *mockReserver) {
		t.Helper()
		store := newMockReserver(t)
		return &usecase.Reserve{Reservations: store, NewID: func() string { return "r-2" }, Now: now}, store
	}

	t.Run("stores a new reservation", func(t *testing.T) {
		t.Parallel()
		reserve, store := setup(t)
		store.EXPECT().Reserve(mock.Anything, mock.Anything).RunAndReturn(
			func(_ context.Context, r *domain.Reservation) (domain.Snapshot, error) { return r.Snapshot(), nil })
		got, err := reserve.Execute(t.Context(), command())
		require.NoError(t, err)
		want := held(domain.Reserved)
		want.ID, want.CreatedAt, want.UpdatedAt = "r-2", later, later
		require.Equal(t, want, got)
	})

	t.Run("repeated, it says what became of the first", func(t *testing.T) {
		t.Parallel()
		for status, want := range map[domain.Status]error{domain.Reserved: nil, domain.Committed: nil, domain.Released: domain.ErrReleased} {
			reserve, store := setup(t)
			store.EXPECT().Reserve(mock.Anything, mock.Anything).Return(held(status), nil)
			got, err := reserve.Execute(t.Context(), command())
			require.ErrorIs(t, err, want, status)
			if want == nil {
				require.Equal(t, held(status), got)
			}
		}
	})

	t.Run("a key is for one request", func(t *testing.T) {
		t.Parallel()
		for _, change := range []func(*usecase.ReserveCommand){
			func(c *usecase.ReserveCommand) { c.OrderID = "o-2" },
			func(c *usecase.ReserveCommand) { c.Lines = c.Lines[:2] },
		} {
			reserve, store := setup(t)
			store.EXPECT().Reserve(mock.Anything, mock.Anything).Return(held(domain.Released), nil)
			cmd := command()
			change(&cmd)
			_, err := reserve.Execute(t.Context(), cmd)
			require.ErrorIs(t, err, domain.ErrIdempotencyMismatch)
		}
	})

	t.Run("what cannot be held is refused", func(t *testing.T) {
		t.Parallel()
		reserve, store := setup(t)
		store.EXPECT().Reserve(mock.Anything, mock.Anything).Return(domain.Snapshot{}, domain.ErrOutOfStock)
		_, err := reserve.Execute(t.Context(), command())
		require.ErrorIs(t, err, domain.ErrOutOfStock)
		_, err = reserve.Execute(t.Context(), usecase.ReserveCommand{Key: "saga/reserve", OrderID: "o-1"})
		require.ErrorIs(t, err, domain.ErrInvalidReservation)
	})
}

func TestRelease(t *testing.T) {
	t.Parallel()
	setup := func(t *testing.T, status domain.Status) *usecase.Release {
		t.Helper()
		store := newMockReserver(t)
		store.EXPECT().Undo(mock.Anything, "saga/reserve", mock.Anything).RunAndReturn(
			func(_ context.Context, _ string, change func(*domain.Reservation) error) (domain.Snapshot, bool, error) {
				if status == "" {
					return domain.Snapshot{}, false, nil
				}
				r := domain.Rehydrate(held(status))
				err := change(r)
				return r.Snapshot(), err == nil, err
			})
		return &usecase.Release{Reservations: store, Now: now}
	}
	command := usecase.ReleaseCommand{Key: "saga/reserve", OrderID: "o-1"}

	t.Run("gives back what is held", func(t *testing.T) {
		t.Parallel()
		got, found, err := setup(t, domain.Reserved).Execute(t.Context(), command)
		require.NoError(t, err)
		require.True(t, found)
		want := held(domain.Released)
		want.Version, want.UpdatedAt = 2, later
		require.Equal(t, want, got)
	})

	t.Run("nothing to give back is no failure", func(t *testing.T) {
		t.Parallel()
		_, found, err := setup(t, "").Execute(t.Context(), command)
		require.NoError(t, err)
		require.False(t, found)
	})

	t.Run("what has left cannot be given back", func(t *testing.T) {
		t.Parallel()
		_, _, err := setup(t, domain.Committed).Execute(t.Context(), command)
		require.ErrorIs(t, err, domain.ErrInvalidTransition)
	})

	t.Run("a key is for one order", func(t *testing.T) {
		t.Parallel()
		_, _, err := setup(t, domain.Reserved).Execute(t.Context(), usecase.ReleaseCommand{Key: "saga/reserve", OrderID: "o-2"})
		require.ErrorIs(t, err, domain.ErrIdempotencyMismatch)
	})
}

func TestCommit(t *testing.T) {
	t.Parallel()
	for status, want := range map[domain.Status]error{
		domain.Reserved: nil, domain.Committed: nil, domain.Released: domain.ErrInvalidTransition,
	} {
		store := newMockUpdater(t)
		store.EXPECT().UpdateOfOrder(mock.Anything, "o-1", mock.Anything).RunAndReturn(
			func(_ context.Context, _ string, change func(*domain.Reservation) error) (domain.Snapshot, error) {
				r := domain.Rehydrate(held(status))
				return r.Snapshot(), change(r)
			})
		_, err := (&usecase.Commit{Reservations: store, Now: now}).Execute(t.Context(), "o-1")
		require.ErrorIs(t, err, want, status)
	}
}

func TestSetStock(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct {
		cmd  usecase.SetStockCommand
		want error
	}{
		"any version":      {cmd: usecase.SetStockCommand{SKU: "TEA-1", OnHand: 8}},
		"that version":     {cmd: usecase.SetStockCommand{SKU: "TEA-1", OnHand: 8, ExpectedVersion: 7}},
		"another version":  {usecase.SetStockCommand{SKU: "TEA-1", OnHand: 8, ExpectedVersion: 6}, domain.ErrVersionConflict},
		"less than is due": {usecase.SetStockCommand{SKU: "TEA-1", OnHand: 2}, domain.ErrStockReserved},
	} {
		warehouse := newMockWarehouse(t)
		warehouse.EXPECT().UpdateStock(mock.Anything, "TEA-1", mock.Anything).RunAndReturn(
			func(_ context.Context, _ string, change func(domain.Stock) (domain.Stock, error)) (domain.Stock, error) {
				return change(domain.Stock{SKU: "TEA-1", OnHand: 5, Reserved: 3, Version: 7, UpdatedAt: start})
			})
		got, err := (&usecase.SetStock{Warehouse: warehouse, Now: now}).Execute(t.Context(), row.cmd)
		require.ErrorIs(t, err, row.want, name)
		if row.want == nil {
			require.Equal(t, domain.Stock{SKU: "TEA-1", OnHand: 8, Reserved: 3, Version: 8, UpdatedAt: later}, got)
		}
	}
}
