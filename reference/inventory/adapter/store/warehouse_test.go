package store_test

import (
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/slipwayhq/slipway/reference/inventory/domain"
)

func TestWarehouse_Stocks(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.set(t, "B", 2)
	b.set(t, "A", 1)
	stocks, err := b.Stocks(t.Context(), []string{"C", "B", "A"})
	require.NoError(t, err)
	require.Len(t, stocks, 2)
	require.Equal(t, "B A", stocks[0].SKU+" "+stocks[1].SKU)
}

func TestWarehouse_UpdateStock(t *testing.T) {
	t.Parallel()
	b := setup(t)

	t.Run("what is stored is what is read", func(t *testing.T) {
		t.Parallel()
		for onHand := range int64(3) {
			set, err := b.UpdateStock(t.Context(), "TEA-1", func(s domain.Stock) (domain.Stock, error) { return s.Set(onHand, onHand, now()) })
			require.NoError(t, err)
			require.Equal(t, onHand+1, set.Version)
			got, err := b.Stocks(t.Context(), []string{"TEA-1"})
			require.NoError(t, err)
			require.Equal(t, []domain.Stock{set}, got)
		}
		_, err := b.UpdateStock(t.Context(), "TEA-1", func(s domain.Stock) (domain.Stock, error) { return s.Set(9, 1, now()) })
		require.ErrorIs(t, err, domain.ErrVersionConflict)
		require.Equal(t, "2/0/0", b.stock(t, "TEA-1"))
	})

	t.Run("no change is lost", func(t *testing.T) {
		t.Parallel()
		const callers = 16
		var running sync.WaitGroup
		for range callers {
			running.Go(func() {
				_, err := b.UpdateStock(t.Context(), "MUG-1", func(s domain.Stock) (domain.Stock, error) { return s.Set(s.OnHand+1, 0, now()) })
				assert.NoError(t, err)
			})
		}
		running.Wait()
		require.Equal(t, "16/0/0", b.stock(t, "MUG-1"))
	})

	t.Run("who wanted to be the first changes what the first has stored", func(t *testing.T) {
		t.Parallel()
		calls := 0
		set, err := b.UpdateStock(t.Context(), "CUP-9", func(s domain.Stock) (domain.Stock, error) {
			if calls++; calls == 1 {
				b.set(t, "CUP-9", 5)
			}
			return s.Set(s.OnHand+1, 0, now())
		})
		require.NoError(t, err)
		require.Equal(t, 2, calls)
		require.EqualValues(t, 2, set.Version)
		require.Equal(t, "6/0/0", b.stock(t, "CUP-9"))
	})
}
