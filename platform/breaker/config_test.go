package breaker_test

import (
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/slipwayhq/slipway/platform/breaker"
)

func TestConfig_SetDefaults(t *testing.T) {
	t.Parallel()
	cfg := breaker.Config{Name: "orders", OpenTimeout: time.Minute}
	cfg.SetDefaults()
	require.Equal(t, breaker.Config{
		Name: "orders", Failures: 10, Ratio: 0.5, MinCalls: 20, Window: 10 * time.Second,
		OpenTimeout: time.Minute, MaxOpen: time.Minute, HalfOpenProbes: 3,
	}, cfg)
	require.NoError(t, cfg.Validate())
}

func TestNew_errors(t *testing.T) {
	t.Parallel()
	t.Run("every bad value is named at once", func(t *testing.T) {
		t.Parallel()
		_, err := breaker.New(breaker.Config{
			Failures: 1 << 40, Ratio: 1.5, MinCalls: -1, Window: time.Millisecond, OpenTimeout: 1, MaxOpen: -1, HalfOpenProbes: -1,
		}, nil)
		for _, text := range []string{
			"name is required", "FAILURES: 1099511627776", "RATIO: 1.5", "MIN_CALLS: -1", "WINDOW: 1ms", "OPEN_TIMEOUT: 1ns",
			"MAX_OPEN: -1ns", "HALF_OPEN_PROBES: -1",
		} {
			require.ErrorContains(t, err, text)
		}
	})
	t.Run("a breaker that would never open", func(t *testing.T) {
		t.Parallel()
		_, err := breaker.New(breaker.Config{Name: "orders", Failures: -1, Ratio: -1}, nil)
		require.ErrorContains(t, err, "would ever open")
	})
	t.Run("metrics of another shape", func(t *testing.T) {
		t.Parallel()
		reg := prometheus.NewRegistry()
		reg.MustRegister(prometheus.NewGauge(prometheus.GaugeOpts{Name: "circuit_breaker_state"}))
		_, err := breaker.New(breaker.Config{Name: "orders"}, reg)
		require.ErrorContains(t, err, "register circuit breaker metrics")
	})
}
