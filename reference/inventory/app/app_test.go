package app_test

import (
	"bytes"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/fx"

	"github.com/slipwayhq/slipway/platform/platformfx"
	"github.com/slipwayhq/slipway/reference/inventory/app"
)

func load(environ ...string) (app.Config, error) {
	return app.Load(append([]string{"DATABASE_URL=postgres://db/inventory", "BROKER_URL=nats://broker"}, environ...))
}

func TestNew_graphIsComplete(t *testing.T) {
	t.Parallel()
	cfg, err := load()
	require.NoError(t, err)
	require.NoError(t, fx.ValidateApp(fx.NopLogger, app.New(cfg, io.Discard)))
}

// TestMain_withoutServing covers the calls that end by themselves.
func TestMain_withoutServing(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct {
		args           string
		environ        []string
		code           int
		stdout, stderr string
	}{
		"the version":            {args: "-version", stdout: "inventory "},
		"help":                   {args: "-help", stderr: "-config"},
		"an unknown flag":        {args: "-confg", code: platformfx.ExitUsage, stderr: "-confg"},
		"an argument":            {args: "serve", code: platformfx.ExitUsage, stderr: "serve"},
		"the configuration":      {args: "-config", environ: []string{"DATABASE_URL=postgres://x", "BROKER_URL=nats://x"}, stdout: "BARRIER_RETENTION"},
		"no configuration":       {code: platformfx.ExitFailed, stderr: "DATABASE_URL"},
		"no configuration shown": {args: "-config", code: platformfx.ExitFailed, stderr: "BROKER_URL"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var stdout, stderr bytes.Buffer
			require.Equal(t, row.code, app.Main(strings.Fields(row.args), row.environ, &stdout, &stderr))
			require.Contains(t, stdout.String(), row.stdout)
			require.Contains(t, stderr.String(), row.stderr)
			require.True(t, stdout.Len() == 0 || stderr.Len() == 0, "one of both: %s%s", &stdout, &stderr)
		})
	}
}

func TestLoad(t *testing.T) {
	t.Parallel()

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
			require.Equal(t, ":50053 127.0.0.1:9466", cfg.Server.Addr+" "+cfg.Admin.Addr)
			require.Equal(t, "inventory", cfg.Telemetry.ServiceName)
		}
	})

	t.Run("a variable that is set wins over what the environment suggests", func(t *testing.T) {
		t.Parallel()
		cfg, err := load("ENVIRONMENT=production", "DRAIN_DELAY=0s", "GRPC_REFLECTION=true", "GRPC_ADDR=:1", "AUTH_MODE=token", "AUTH_TOKENS_FILE=x")
		require.NoError(t, err)
		require.Zero(t, cfg.Server.DrainDelay)
		require.True(t, cfg.Server.Reflection)
		require.Equal(t, ":1", cfg.Server.Addr)
	})

	t.Run("no service without authentication outside development", func(t *testing.T) {
		t.Parallel()
		for _, environment := range []string{"staging", "production"} {
			_, err := load("ENVIRONMENT=" + environment)
			require.ErrorContains(t, err, "AUTH_MODE")
		}
	})

	t.Run("everything that is wrong is named", func(t *testing.T) {
		t.Parallel()
		_, err := load("BARRIER_RETENTION=1m", "AUTH_MODE=token", "DATABASE_MAX_CONNS=-1")
		for _, name := range []string{"BARRIER_RETENTION", "AUTH_TOKENS_FILE", "DATABASE_MAX_CONNS"} {
			require.ErrorContains(t, err, name)
		}
	})
}
