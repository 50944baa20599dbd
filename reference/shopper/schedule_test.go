package main

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

func TestPace(t *testing.T) {
	t.Parallel()

	t.Run("starts at a constant rate", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			begin := time.Now()
			var starts []time.Duration
			require.Equal(t, 4, pace(t.Context(), 4, 10, func(i int, due time.Time) {
				require.Len(t, starts, i)
				require.Equal(t, time.Since(begin), due.Sub(begin))
				starts = append(starts, time.Since(begin))
			}))
			require.Equal(t, []time.Duration{0, 100 * time.Millisecond, 200 * time.Millisecond, 300 * time.Millisecond}, starts)
		})
	})

	t.Run("a start that is held up does not move the schedule", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			begin := time.Now()
			var due, late []time.Duration
			pace(t.Context(), 5, 10, func(i int, at time.Time) {
				due = append(due, at.Sub(begin))
				late = append(late, time.Since(at))
				if i == 0 {
					<-time.After(250 * time.Millisecond)
				}
			})
			ms := func(values ...int) (d []time.Duration) {
				for _, v := range values {
					d = append(d, time.Duration(v)*time.Millisecond)
				}
				return d
			}
			require.Equal(t, ms(0, 100, 200, 300, 400), due)
			require.Equal(t, ms(0, 150, 50, 0, 0), late)
		})
	})

	t.Run("ends with its context", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 150*time.Millisecond)
			defer cancel()
			require.Equal(t, 2, pace(ctx, 100, 10, func(int, time.Time) {}))
			require.Zero(t, pace(ctx, 100, 10, func(int, time.Time) { t.Error("started") }))
		})
	})
}

func TestArrival(t *testing.T) {
	t.Parallel()
	require.Zero(t, arrival(0, 50))
	require.Equal(t, 10*time.Second, arrival(500, 50))
	require.Equal(t, 2*time.Second, arrival(1, 0.5))
}
