package main

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestMedian(t *testing.T) {
	t.Parallel()
	require.InDelta(t, 2.0, median([]float64{3, 1, 2}), 0)
	require.InDelta(t, 2.5, median([]float64{4, 1, 2, 3}), 0)
}

func TestSubject_ratio(t *testing.T) {
	t.Parallel()
	costs := func(us ...time.Duration) *subject {
		s := &subject{}
		for _, d := range us {
			s.costs = append(s.costs, cost{cpu: d * time.Microsecond})
		}
		return s
	}
	t.Run("rounds are compared in pairs, so that a slow minute counts for both", func(t *testing.T) {
		t.Parallel()
		require.InDelta(t, 0.5, costs(20, 200, 20).ratio(costs(40, 400, 40)), 0)
	})
}
