package breaker_test

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/slipwayhq/slipway/platform/breaker"
)

const (
	stateHelp = "# HELP circuit_breaker_state 1 for the state that the circuit breaker is in, 0 for the others.\n" +
		"# TYPE circuit_breaker_state gauge\n"
	rejectionsHelp = "# HELP circuit_breaker_rejections_total Calls that the circuit breaker did not let pass, by the reason.\n" +
		"# TYPE circuit_breaker_rejections_total counter\n"
	transitionsHelp = "# HELP circuit_breaker_transitions_total Changes of the state of the circuit breaker, by their reason.\n" +
		"# TYPE circuit_breaker_transitions_total counter\n"
)

func requireMetrics(t *testing.T, reg prometheus.Gatherer, name, text string) {
	t.Helper()
	require.NoError(t, testutil.GatherAndCompare(reg, strings.NewReader(text), name))
}

func TestBreaker_metrics(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		reg := prometheus.NewRegistry()
		var changes []breaker.Change
		cfg := patient
		cfg.OnChange = func(c breaker.Change) { changes = append(changes, c) }
		b, err := breaker.New(cfg, reg)
		require.NoError(t, err)

		// All series are there before anything has happened.
		requireMetrics(t, reg, "circuit_breaker_state", stateHelp+`
			circuit_breaker_state{name="orders",state="closed"} 1
			circuit_breaker_state{name="orders",state="half_open"} 0
			circuit_breaker_state{name="orders",state="open"} 0
		`)
		requireMetrics(t, reg, "circuit_breaker_rejections_total", rejectionsHelp+`
			circuit_breaker_rejections_total{name="orders",reason="open"} 0
			circuit_breaker_rejections_total{name="orders",reason="too_many_probes"} 0
		`)
		requireMetrics(t, reg, "circuit_breaker_transitions_total", transitionsHelp+`
			circuit_breaker_transitions_total{from="closed",name="orders",reason="consecutive_failures",to="open"} 0
			circuit_breaker_transitions_total{from="closed",name="orders",reason="failure_ratio",to="open"} 0
			circuit_breaker_transitions_total{from="half_open",name="orders",reason="probe_failed",to="open"} 0
			circuit_breaker_transitions_total{from="half_open",name="orders",reason="probes_succeeded",to="closed"} 0
			circuit_breaker_transitions_total{from="open",name="orders",reason="open_time_over",to="half_open"} 0
		`)

		fail(t, b, 3)
		_, _ = call(b, nil), call(b, nil)
		requireMetrics(t, reg, "circuit_breaker_state", stateHelp+`
			circuit_breaker_state{name="orders",state="closed"} 0
			circuit_breaker_state{name="orders",state="half_open"} 0
			circuit_breaker_state{name="orders",state="open"} 1
		`)
		time.Sleep(time.Second) // Nobody calls.
		requireMetrics(t, reg, "circuit_breaker_state", stateHelp+`
			circuit_breaker_state{name="orders",state="closed"} 0
			circuit_breaker_state{name="orders",state="half_open"} 1
			circuit_breaker_state{name="orders",state="open"} 0
		`)
		fail(t, b, 1)
		time.Sleep(2 * time.Second)
		one, err := b.Begin(t.Context())
		require.NoError(t, err)
		two, err := b.Begin(t.Context())
		require.NoError(t, err)
		requireRejected(t, b, breaker.ErrTooManyProbes, time.Second)
		one(nil)
		two(nil)
		requireMetrics(t, reg, "circuit_breaker_rejections_total", rejectionsHelp+`
			circuit_breaker_rejections_total{name="orders",reason="open"} 2
			circuit_breaker_rejections_total{name="orders",reason="too_many_probes"} 1
		`)
		requireMetrics(t, reg, "circuit_breaker_transitions_total", transitionsHelp+`
			circuit_breaker_transitions_total{from="closed",name="orders",reason="consecutive_failures",to="open"} 1
			circuit_breaker_transitions_total{from="closed",name="orders",reason="failure_ratio",to="open"} 0
			circuit_breaker_transitions_total{from="half_open",name="orders",reason="probe_failed",to="open"} 1
			circuit_breaker_transitions_total{from="half_open",name="orders",reason="probes_succeeded",to="closed"} 1
			circuit_breaker_transitions_total{from="open",name="orders",reason="open_time_over",to="half_open"} 2
		`)
		require.Equal(t, []breaker.Change{
			{Name: "orders", From: breaker.Closed, To: breaker.Open, Reason: "consecutive_failures", RetryAfter: time.Second},
			{Name: "orders", From: breaker.Open, To: breaker.HalfOpen, Reason: "open_time_over"},
			{Name: "orders", From: breaker.HalfOpen, To: breaker.Open, Reason: "probe_failed", RetryAfter: 2 * time.Second},
			{Name: "orders", From: breaker.Open, To: breaker.HalfOpen, Reason: "open_time_over"},
			{Name: "orders", From: breaker.HalfOpen, To: breaker.Closed, Reason: "probes_succeeded"},
		}, changes)
	})
}

func TestBreaker_metrics_areShared(t *testing.T) {
	t.Parallel()
	reg := prometheus.NewRegistry()
	one, err := breaker.New(lasting, reg)
	require.NoError(t, err)
	two, err := breaker.New(lasting, reg)
	require.NoError(t, err)
	fail(t, one, 3)
	requireMetrics(t, reg, "circuit_breaker_state", stateHelp+`
		circuit_breaker_state{name="orders",state="closed"} 0
		circuit_breaker_state{name="orders",state="half_open"} 0
		circuit_breaker_state{name="orders",state="open"} 1
	`)
	require.Equal(t, breaker.Closed, two.State())
}

// One state is 1 and the others are 0 in every scrape, while calls change it all the time.
func TestBreaker_metrics_oneStateAtATime(t *testing.T) {
	t.Parallel()
	reg := prometheus.NewRegistry()
	last, transitions := breaker.Closed, 0
	cfg := patient
	cfg.OpenTimeout, cfg.MaxOpen, cfg.Failures, cfg.HalfOpenProbes = time.Millisecond, time.Millisecond, 1, 1
	cfg.OnChange = func(c breaker.Change) { // under the breaker's lock
		if c.From != last {
			t.Errorf("from %s to %s in state %s", c.From, c.To, last)
		}
		last = c.To
		transitions++
	}
	b, err := breaker.New(cfg, reg)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var callers errgroup.Group
	for i := range 4 {
		callers.Go(func() error {
			for n := i; ctx.Err() == nil; n++ {
				_ = call(b, []error{nil, errDown, errAway}[n%3])
			}
			return nil
		})
	}
	seen := map[string]int{}
	for end := time.Now().Add(time.Minute); len(seen) < 3 && time.Now().Before(end); {
		for range 1000 {
			seen[stateOf(t, reg)]++
		}
	}
	cancel()
	require.NoError(t, callers.Wait())
	require.Len(t, seen, 3, "changes: %d", transitions)
	t.Logf("scrapes: %v, changes: %d", seen, transitions)
}

// stateOf returns the state that is 1, and fails if it is not the only one.
func stateOf(t *testing.T, reg prometheus.Gatherer) string {
	t.Helper()
	families, err := reg.Gather()
	require.NoError(t, err)
	var ones []string
	for _, f := range families {
		if f.GetName() != "circuit_breaker_state" {
			continue
		}
		require.Len(t, f.GetMetric(), 3)
		for _, m := range f.GetMetric() {
			if m.GetGauge().GetValue() != 0 {
				require.InDelta(t, 1, m.GetGauge().GetValue(), 0)
				ones = append(ones, m.GetLabel()[1].GetValue())
			}
		}
	}
	require.Len(t, ones, 1)
	return ones[0]
}
