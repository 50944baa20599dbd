package redisdb_test

import (
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"github.com/slipwayhq/slipway/platform/fault"
	"github.com/slipwayhq/slipway/platform/redisdb"
	"github.com/slipwayhq/slipway/platform/redisdb/redistest"
)

func TestLimiter_Allow(t *testing.T) {
	t.Parallel()
	hourly := redisdb.LimitConfig{Name: "orders", Rate: 10, Per: time.Hour, Burst: 3}

	t.Run("a burst passes, the next call is told when to come back, other keys are not touched", func(t *testing.T) {
		t.Parallel()
		for name, start := range servers {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				s := start(t)
				l := newLimiter(t, s, hourly, nil)
				for range 3 {
					require.NoError(t, l.Allow(t.Context(), "ann"))
				}
				refusal, ok := fault.From(l.Allow(t.Context(), "ann"))
				require.True(t, ok)
				require.Equal(t, fault.ResourceExhausted, refusal.Code)
				require.Greater(t, refusal.RetryAfter, 5*time.Minute)
				require.LessOrEqual(t, refusal.RetryAfter, 6*time.Minute)
				require.NoError(t, l.Allow(t.Context(), "bob"))
			})
		}
	})

	t.Run("replicas count together", func(t *testing.T) {
		t.Parallel()
		for name, start := range servers {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				s := start(t)
				replicas := []*redisdb.Limiter{newLimiter(t, s, hourly, nil), newLimiter(t, s, hourly, nil)}
				var allowed atomic.Int64
				var callers sync.WaitGroup
				for i := range 40 {
					callers.Go(func() {
						if replicas[i%2].Allow(t.Context(), "ann") == nil {
							allowed.Add(1)
						}
					})
				}
				callers.Wait()
				require.Equal(t, int64(3), allowed.Load())
			})
		}
	})

	t.Run("without Redis everything is allowed and counted", func(t *testing.T) {
		t.Parallel()
		for name, start := range servers {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				s := start(t)
				reg := prometheus.NewPedanticRegistry()
				l := newLimiter(t, s, redisdb.LimitConfig{Name: "orders", Rate: 1, Per: time.Hour}, reg)
				require.NoError(t, l.Allow(t.Context(), "ann"))
				require.Error(t, l.Allow(t.Context(), "ann"))
				s.Stop()
				for range 20 {
					require.NoError(t, l.Allow(t.Context(), "ann"))
				}
				counts := countsOf(t, reg, "rate_limit_decisions_total")
				require.Equal(t, 1, counts["allowed"])
				require.Equal(t, 1, counts["limited"])
				require.Equal(t, 20, counts["error"]+counts["bypass"])
				require.Positive(t, counts["error"])
				require.Greater(t, counts["bypass"], counts["error"])
			})
		}
	})
}

func TestNewLimiter(t *testing.T) {
	t.Parallel()

	t.Run("bad values are named at once", func(t *testing.T) {
		t.Parallel()
		_, err := redisdb.NewLimiter(nil, redisdb.LimitConfig{Rate: -1, Per: -1, Burst: -2}, nil, nil)
		for _, part := range []string{"limit -1", "period -1ns", "burst -2"} {
			require.ErrorContains(t, err, part)
		}
	})

	t.Run("the series are there before the first call", func(t *testing.T) {
		t.Parallel()
		reg := prometheus.NewPedanticRegistry()
		newLimiter(t, redistest.StartMini(t), redisdb.LimitConfig{}, reg)
		require.NoError(t, testutil.GatherAndCompare(reg, strings.NewReader(`
			# HELP rate_limit_decisions_total Calls that asked a rate limiter, by its decision.
			# TYPE rate_limit_decisions_total counter
			rate_limit_decisions_total{limiter="default",result="allowed"} 0
			rate_limit_decisions_total{limiter="default",result="bypass"} 0
			rate_limit_decisions_total{limiter="default",result="error"} 0
			rate_limit_decisions_total{limiter="default",result="limited"} 0
		`)))
	})
}

func newLimiter(t *testing.T, s *redistest.Server, cfg redisdb.LimitConfig, reg prometheus.Registerer) *redisdb.Limiter {
	t.Helper()
	l, err := redisdb.NewLimiter(open(t, s), cfg, nil, reg)
	require.NoError(t, err)
	return l
}

// countsOf returns a counter's values by the label "result".
func countsOf(t *testing.T, reg prometheus.Gatherer, name string) map[string]int {
	t.Helper()
	families, err := reg.Gather()
	require.NoError(t, err)
	counts := map[string]int{}
	for _, family := range families {
		for _, metric := range family.GetMetric() {
			for _, label := range metric.GetLabel() {
				if family.GetName() == name && label.GetName() == "result" {
					counts[label.GetValue()] += int(metric.GetCounter().GetValue())
				}
			}
		}
	}
	return counts
}
