package health_test

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/slipwayhq/slipway/platform/health"
)

func TestMonitor_Run_hangingCheck(t *testing.T) {
	t.Parallel()
	t.Run("that ignores its context is down, and called only once", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			var calls atomic.Int32
			release := make(chan struct{})
			m, err := health.New(health.Config{Critical: []string{"db"}}, []health.Dependency{{Name: "db", Check: func(context.Context) error {
				if calls.Add(1) == 1 {
					<-release
				}
				return nil
			}}}, nil, nil)
			require.NoError(t, err)
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan error, 1)
			go func() { done <- m.Run(ctx) }()

			time.Sleep(2100 * time.Millisecond)
			require.ErrorContains(t, m.Ready(), "no answer within 2s")
			time.Sleep(time.Hour)
			require.EqualValues(t, 1, calls.Load())
			require.ErrorContains(t, m.Ready(), "has not returned yet")

			close(release)
			time.Sleep(time.Minute)
			require.NoError(t, m.Ready())
			cancel()
			require.NoError(t, <-done)
		})
	})
	t.Run("does not hold up the others, nor the end", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			release := make(chan struct{})
			hang := func(context.Context) error { <-release; return nil }
			pass := func(context.Context) error { return nil }
			m, err := health.New(health.Config{}, []health.Dependency{{Name: "search", Check: hang}, {Name: "postgres", Check: pass}}, nil, nil)
			require.NoError(t, err)
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan error, 1)
			go func() { done <- m.Run(ctx) }()
			synctest.Wait()
			require.NoError(t, m.Ready())
			start := time.Now()
			cancel()
			require.NoError(t, <-done)
			require.LessOrEqual(t, time.Since(start), time.Second)
			close(release)
		})
	})
	t.Run("that heeds its context has ended when Run returns", func(t *testing.T) {
		t.Parallel()
		var ended atomic.Bool
		entered := make(chan struct{})
		m, err := health.New(health.Config{Timeout: time.Hour}, []health.Dependency{{Name: "db", Check: func(ctx context.Context) error {
			close(entered)
			<-ctx.Done()
			ended.Store(true)
			return ctx.Err()
		}}}, nil, nil)
		require.NoError(t, err)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- m.Run(ctx) }()
		<-entered
		cancel()
		require.NoError(t, <-done)
		require.True(t, ended.Load())
	})
}

func TestMonitor_Run_panickingCheckFails(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m, err := health.New(health.Config{}, []health.Dependency{{Name: "postgres", Check: func(context.Context) error { panic("boom") }}}, nil, nil)
		require.NoError(t, err)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- m.Run(ctx) }()
		synctest.Wait()
		require.ErrorContains(t, m.Ready(), "check panicked: boom")
		cancel()
		require.NoError(t, <-done)
	})
}

func TestMonitor_Run_interval(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var times []time.Time
		m, err := health.New(health.Config{}, []health.Dependency{{Name: "postgres", Check: func(context.Context) error {
			times = append(times, time.Now())
			return nil
		}}}, nil, nil)
		require.NoError(t, err)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		start := time.Now()
		go func() { done <- m.Run(ctx) }()
		time.Sleep(10 * time.Minute)
		cancel()
		require.NoError(t, <-done)

		require.Equal(t, start, times[0], "the first check is made at once")
		distinct := map[time.Duration]bool{}
		for i := range times[1:] {
			gap := times[i+1].Sub(times[i])
			distinct[gap] = true
			require.InDelta(t, 10*time.Second, gap, float64(time.Second))
		}
		require.Greater(t, len(distinct), 10, "replicas do not check in step")
	})
}
