package store

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/slipwayhq/slipway/reference/inventory/domain"
)

func TestGate_enter(t *testing.T) {
	t.Parallel()
	tea := []domain.Line{{SKU: "TEA-1", Quantity: 1}}

	t.Run("lets so many in, and the next one when one leaves", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			g := newGate()
			var leave func()
			for range width {
				var err error
				leave, err = g.enter(t.Context(), tea)
				require.NoError(t, err)
			}
			inside := false
			go func() {
				_, err := g.enter(t.Context(), tea)
				inside = err == nil
			}()
			synctest.Wait()
			require.False(t, inside)
			leave()
			synctest.Wait()
			require.True(t, inside)
		})
	})

	t.Run("who gives up leaves nothing taken", func(t *testing.T) {
		t.Parallel()
		g := newGate()
		var all []domain.Line
		for i := range 26 {
			all = append(all, domain.Line{SKU: string(rune('A' + i)), Quantity: 1})
		}
		for range width {
			_, err := g.enter(t.Context(), all[13:14])
			require.NoError(t, err)
		}
		ctx, cancel := context.WithCancelCause(t.Context())
		cancel(errors.New("enough"))
		for range 100 { // Often enough for each place to be full, if any were kept.
			_, err := g.enter(ctx, all)
			require.ErrorIs(t, err, context.Canceled)
		}
		taken := 0
		for _, place := range g.places {
			taken += len(place)
		}
		require.Equal(t, width, taken)
	})
}
