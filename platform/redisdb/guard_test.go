package redisdb

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
)

func TestGuard_do(t *testing.T) {
	t.Parallel()
	down := errors.New("down")

	t.Run("after a failure Redis is left alone for a second, then probed by one call", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			g := newGuard(nil, "g")
			require.ErrorIs(t, g.do(func() error { return down }), down)
			require.ErrorIs(t, g.do(unexpected(t)), errBypassed)

			<-time.After(pause)
			require.ErrorIs(t, g.do(func() error {
				require.ErrorIs(t, g.do(unexpected(t)), errBypassed, "only one probes")
				return down
			}), down)
			require.ErrorIs(t, g.do(unexpected(t)), errBypassed, "the probe failed")

			<-time.After(pause)
			require.NoError(t, g.do(func() error { return nil }))
			require.NoError(t, g.do(func() error { return nil }), "healed")
		})
	})

	t.Run("a probe that never returns is followed by another", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			g := newGuard(nil, "g")
			_ = g.do(func() error { return down })
			<-time.After(pause)
			release := make(chan struct{})
			go func() { _ = g.do(func() error { <-release; return down }) }()
			synctest.Wait()
			<-time.After(pause)
			require.NoError(t, g.do(func() error { return nil }))
			close(release)
		})
	})

	t.Run("a missing key is an answer", func(t *testing.T) {
		t.Parallel()
		g := newGuard(nil, "g")
		require.ErrorIs(t, g.do(func() error { return redis.Nil }), redis.Nil)
		require.NoError(t, g.do(func() error { return nil }))
	})

	t.Run("only the changes are logged", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			core, logs := observer.New(zap.DebugLevel)
			g := newGuard(zap.New(core), "orders")
			for range 3 {
				_ = g.do(func() error { return down })
				<-time.After(pause)
			}
			for range 3 {
				_ = g.do(func() error { return nil })
			}
			require.Equal(t, 2, logs.Len())
			require.Equal(t, "redis is bypassed until it answers", logs.All()[0].Message)
			require.Equal(t, map[string]any{"name": "orders", "error": "down"}, logs.All()[0].ContextMap())
			require.Equal(t, "redis answers again", logs.All()[1].Message)
		})
	})
}

func unexpected(t *testing.T) func() error {
	t.Helper()
	return func() error {
		t.Error("Redis was called")
		return nil
	}
}
