package figure_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/slipwayhq/slipway/bench/internal/figure"
)

func ExampleLine() {
	fmt.Println(figure.NewLine("B1").Rate("ours", 201_234.6).Text("peer_name", "queue 1000").
		Ratio("ratio", 3.14159).Millis("p99_ms", 12_345*time.Microsecond).Int("runs", 3))
	// Output: B1 ours=201235 peer_name=queue_1000 ratio=3.142 p99_ms=12.3 runs=3
}

func TestLine_Text(t *testing.T) {
	t.Parallel()
	t.Run("keeps pairs apart whatever is in them", func(t *testing.T) {
		t.Parallel()
		require.Equal(t, "B5 a_b=c_d_e", figure.NewLine("B5").Text("a=b", "c d\ne").String())
	})
	t.Run("refuses a key twice", func(t *testing.T) {
		t.Parallel()
		require.Panics(t, func() { figure.NewLine("B5").Int("runs", 1).Int("runs", 2) })
	})
}

func TestMedian(t *testing.T) {
	t.Parallel()
	values := []float64{3, 1, 2}
	require.InDelta(t, 2, figure.Median(values), 0)
	require.Equal(t, []float64{3, 1, 2}, values, "the order of the runs is kept, for pairs")
	require.InDelta(t, 2.5, figure.Median([]float64{4, 1, 2, 3}), 0)
	require.Zero(t, figure.Median(nil))
}

func TestSpread(t *testing.T) {
	t.Parallel()
	require.InDelta(t, 0.1, figure.Spread([]float64{105, 95, 100}), 1e-9)
	require.Zero(t, figure.Spread([]float64{0, 0}))
}

func TestPairedRatio(t *testing.T) {
	t.Parallel()
	t.Run("is not moved by a slow round that meets both", func(t *testing.T) {
		t.Parallel()
		require.InDelta(t, 0.5, figure.PairedRatio([]float64{20, 200, 20}, []float64{40, 400, 40}), 0)
		require.Zero(t, figure.PairedSpread([]float64{20, 200, 20}, []float64{40, 400, 40}))
	})
	t.Run("leaves out rounds without a base", func(t *testing.T) {
		t.Parallel()
		require.InDelta(t, 2, figure.PairedRatio([]float64{2, 5}, []float64{1, 0}), 0)
	})
}

func TestPairedInterval(t *testing.T) {
	t.Parallel()
	numbers := func(n int) (values, base []float64) {
		for i := range n {
			values, base = append(values, float64(n-i)), append(base, 1)
		}
		return values, base
	}
	for _, c := range []struct {
		pairs     int
		low, high float64
	}{ // ranks as in the tables of the sign test
		{0, 0, 0}, {1, 1, 1}, {5, 1, 5}, {6, 1, 6}, {8, 1, 8}, {9, 2, 8}, {24, 7, 18}, {50, 18, 33},
	} {
		t.Run(fmt.Sprint(c.pairs), func(t *testing.T) {
			t.Parallel()
			low, high := figure.PairedInterval(numbers(c.pairs))
			require.InDelta(t, c.low, low, 0)
			require.InDelta(t, c.high, high, 0)
		})
	}
}

func TestPercentile(t *testing.T) {
	t.Parallel()
	var values []time.Duration
	for i := range 100 {
		values = append(values, time.Duration(100-i))
	}
	require.EqualValues(t, 99, figure.Percentile(values, 99))
	require.EqualValues(t, 50, figure.Percentile(values, 50))
	require.EqualValues(t, 100, figure.Percentile(values, 100))
	require.EqualValues(t, 1, figure.Percentile(values, 0))
	require.EqualValues(t, 7, figure.Percentile([]time.Duration{7}, 99))
	require.Zero(t, figure.Percentile(nil, 99))
}
