package inbox_test

import (
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/slipwayhq/slipway/platform/inbox"
)

func TestConfig(t *testing.T) {
	t.Parallel()
	t.Run("has defaults that are valid", func(t *testing.T) {
		t.Parallel()
		cfg := inbox.Config{Name: "shipping", Subjects: []string{"order.>"}}
		cfg.SetDefaults()
		require.NoError(t, cfg.Validate())
		require.Equal(t, inbox.Config{
			Name: "shipping", Subjects: []string{"order.>"}, Mode: inbox.ByID, Concurrency: 16, AckWait: 30 * time.Second,
			MaxAttempts: 8, MinBackoff: 500 * time.Millisecond, MaxBackoff: time.Minute, HandlerTimeout: 30 * time.Second,
			Retention: 7 * day, Poll: time.Second, MaintenanceInterval: 30 * time.Second,
		}, cfg)
	})
	t.Run("names every fault at once", func(t *testing.T) {
		t.Parallel()
		err := inbox.Config{
			Name: "a b", Mode: "both", JoinLate: true, Concurrency: -1, AckWait: 1, MaxAttempts: -1, MinBackoff: 2 * time.Second,
			MaxBackoff: time.Second, HandlerTimeout: -1, Retention: time.Minute, Poll: -1, MaintenanceInterval: -1,
		}.Validate()
		for _, part := range []string{
			`name: "a b"`, "subjects: none", "mode:", "join late:", "concurrency: -1", "ack wait:", "max attempts: -1",
			"max backoff: 1s is shorter than 2s", "handler timeout:", "retention: 1m0s", "poll:", "maintenance interval:",
		} {
			require.ErrorContains(t, err, part)
		}
		require.ErrorContains(t, inbox.Config{Retention: 1000 * day}.Validate(), "is longer than")
	})
}

func TestNewConsumer(t *testing.T) {
	t.Parallel()
	_, err := inbox.NewConsumer(nil, nil, inbox.Config{}, nil, nil, nil, nil)
	require.ErrorContains(t, err, "check inbox configuration")

	reg := prometheus.NewRegistry()
	for name, fails := range map[string]bool{"one": false, "two": false} {
		_, err := inbox.NewConsumer(nil, nil, quick(name, inbox.ByID), writing, nil, reg, nil)
		require.Equal(t, fails, err != nil)
	}
	_, err = inbox.NewConsumer(nil, nil, quick("one", inbox.ByID), writing, nil, reg, nil)
	require.ErrorContains(t, err, "register inbox metrics")
	families, err := reg.Gather()
	require.NoError(t, err)
	series := map[string]int{}
	for _, f := range families {
		series[f.GetName()] = len(f.GetMetric())
	}
	require.Equal(t, map[string]int{
		"inbox_messages_total": 10, "dead_letters": 2, "inbox_handle_seconds": 2, "inbox_lag_seconds": 2,
		"inbox_early_messages": 2, "inbox_early_oldest_seconds": 2,
	}, series, "all series are there before the first message")
}
