package main

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestLatencies_quantiles(t *testing.T) {
	t.Parallel()

	t.Run("nothing measured is zero", func(t *testing.T) {
		t.Parallel()
		require.Zero(t, (&latencies{}).quantiles())
	})

	t.Run("one value is every quantile", func(t *testing.T) {
		t.Parallel()
		var l latencies
		l.add(1500 * time.Microsecond)
		require.Equal(t, quantiles{1.5, 1.5, 1.5, 1.5}, l.quantiles())
	})

	t.Run("they are exact, whatever the order", func(t *testing.T) {
		t.Parallel()
		var l latencies
		for _, n := range rand.Perm(1000) {
			l.add(time.Duration(n+1) * time.Millisecond)
		}
		require.Equal(t, quantiles{500, 950, 990, 1000}, l.quantiles())
	})
}

func TestMillis_String(t *testing.T) {
	t.Parallel()
	require.Equal(t, "0.123ms", millis(0.1234).String())
	require.Equal(t, "12.3ms", millis(12.34).String())
	require.Equal(t, "123ms", millis(123.4).String())
	require.Equal(t, "1.23s", millis(1234).String())
}
