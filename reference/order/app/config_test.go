package app_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/slipwayhq/slipway/reference/order/app"
)

func TestLoad(t *testing.T) {
	t.Parallel()
	load := func(environ ...string) (app.Config, error) {
		return app.Load(append([]string{
			"DATABASE_URL=postgres://db/order", "REDIS_URL=redis://cache", "BROKER_URL=nats://broker",
			"INVENTORY_TARGET=inventory:50053", "PAYMENT_TARGET=payment:50052",
			"INVENTORY_TOKEN_FILE=x", "PAYMENT_TOKEN_FILE=x",
		}, environ...))
	}

	t.Run("the environment decides what is safe there", func(t *testing.T) {
		t.Parallel()
		for environment, want := range map[string]struct {
			delay               time.Duration
			reflection, migrate bool
		}{
			"":            {0, true, true},
			"development": {0, true, true},
			"staging":     {5 * time.Second, true, false},
			"production":  {5 * time.Second, false, false},
		} {
			cfg, err := load("ENVIRONMENT="+environment, "AUTH_MODE=token", "AUTH_TOKENS_FILE=x")
			require.NoError(t, err, environment)
			require.Equal(t, want.delay, cfg.Server.DrainDelay, environment)
			require.Equal(t, want.reflection, cfg.Server.Reflection, environment)
			require.Equal(t, want.migrate, cfg.MigrateOnStart, environment)
			require.Equal(t, "order", cfg.Telemetry.ServiceName)
		}
	})

	t.Run("a variable that is set wins over what the environment suggests", func(t *testing.T) {
		t.Parallel()
		cfg, err := load("ENVIRONMENT=production", "DRAIN_DELAY=0s", "GRPC_REFLECTION=true", "AUTH_MODE=token", "AUTH_TOKENS_FILE=x")
		require.NoError(t, err)
		require.Zero(t, cfg.Server.DrainDelay)
		require.True(t, cfg.Server.Reflection)
	})

	t.Run("no service without authentication outside development", func(t *testing.T) {
		t.Parallel()
		for _, environment := range []string{"staging", "production"} {
			_, err := load("ENVIRONMENT=" + environment)
			require.ErrorContains(t, err, "AUTH_MODE")
		}
	})

	t.Run("no calls without a token outside development", func(t *testing.T) {
		t.Parallel()
		for _, missing := range []string{"INVENTORY_TOKEN_FILE", "PAYMENT_TOKEN_FILE"} {
			_, err := load("ENVIRONMENT=production", "AUTH_MODE=token", "AUTH_TOKENS_FILE=x", missing+"=")
			require.ErrorContains(t, err, missing)
		}
	})

	t.Run("everything that is wrong is named", func(t *testing.T) {
		t.Parallel()
		_, err := app.Load([]string{"DATABASE_URL=postgres://db/order", "RATE_LIMIT=-1", "CHECKOUT_TIMEOUT=-1s", "AUTH_MODE=token", "TRACE_SAMPLE_RATIO=0.5"})
		for _, name := range []string{"REDIS_URL", "BROKER_URL", "INVENTORY_TARGET", "PAYMENT_TARGET", "CHECKOUT_TIMEOUT", "RATE_LIMIT", "AUTH_TOKENS_FILE", "TRACE_SAMPLE_RATIO"} {
			require.ErrorContains(t, err, name)
		}
	})
}
