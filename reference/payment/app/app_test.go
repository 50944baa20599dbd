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
	"github.com/slipwayhq/slipway/reference/payment/app"
)

func load(environ ...string) (app.Config, error) {
	return app.Load(append([]string{"DATABASE_URL=postgres://db/payment", "BROKER_URL=nats://broker"}, environ...))
}

func TestNew_graphIsComplete(t *testing.T) {
	t.Parallel()
	for _, environ := range [][]string{nil, {"PROVIDER_URL=http://provider"}} {
		cfg, err := load(environ...)
		require.NoError(t, err)
		require.NoError(t, fx.ValidateApp(fx.NopLogger, app.New(cfg, io.Discard)))
	}
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
		"the version":            {args: "-version", stdout: "payment "},
		"help":                   {args: "-help", stderr: "-config"},
		"an unknown flag":        {args: "-confg", code: platformfx.ExitUsage, stderr: "-confg"},
		"an argument":            {args: "serve", code: platformfx.ExitUsage, stderr: "serve"},
		"the configuration":      {args: "-config", environ: []string{"DATABASE_URL=postgres://x", "BROKER_URL=nats://x"}, stdout: "PROVIDER_TIMEOUT"},
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
	production := []string{"ENVIRONMENT=production", "AUTH_MODE=token", "AUTH_TOKENS_FILE=x"}

	t.Run("the environment decides what is safe there", func(t *testing.T) {
		t.Parallel()
		cfg, err := load()
		require.NoError(t, err)
		require.Zero(t, cfg.Server.DrainDelay)
		require.True(t, cfg.Server.Reflection && cfg.MigrateOnStart)
		require.Equal(t, ":50052 127.0.0.1:9465", cfg.Server.Addr+" "+cfg.Admin.Addr)
		require.Equal(t, time.Minute, cfg.SettleAfter)
		cfg, err = load(append(production, "PROVIDER_URL=https://provider")...)
		require.NoError(t, err)
		require.Equal(t, 5*time.Second, cfg.Server.DrainDelay)
		require.False(t, cfg.Server.Reflection || cfg.MigrateOnStart)
	})

	t.Run("outside development there is no payment without a provider", func(t *testing.T) {
		t.Parallel()
		_, err := load(production...)
		require.ErrorContains(t, err, "PROVIDER_URL")
	})

	t.Run("no service without authentication outside development", func(t *testing.T) {
		t.Parallel()
		for _, environment := range []string{"staging", "production"} {
			_, err := load("ENVIRONMENT="+environment, "PROVIDER_URL=https://provider")
			require.ErrorContains(t, err, "AUTH_MODE")
		}
	})

	t.Run("each database has a provider of its own, which a URL replaces", func(t *testing.T) {
		t.Parallel()
		one, err := load()
		require.NoError(t, err)
		require.NotEmpty(t, one.ProviderLedger)
		other, err := load("DATABASE_URL=postgres://db/other")
		require.NoError(t, err)
		require.NotEqual(t, one.ProviderLedger, other.ProviderLedger)
		named, err := load("PROVIDER_LEDGER=/tmp/ledger")
		require.NoError(t, err)
		require.Equal(t, "/tmp/ledger", named.ProviderLedger)
		external, err := load("PROVIDER_URL=http://provider")
		require.NoError(t, err)
		require.Empty(t, external.ProviderLedger)
	})

	t.Run("everything that is wrong is named", func(t *testing.T) {
		t.Parallel()
		_, err := load("PROVIDER_URL=provider", "PROVIDER_LEDGER=x", "PROVIDER_TIMEOUT=20s", "SETTLE_AFTER=-1s", "SETTLE_CONCURRENCY=-1", "BARRIER_RETENTION=1m")
		for _, name := range []string{"PROVIDER_URL", "PROVIDER_LEDGER", "SETTLE_PAUSE", "SETTLE_AFTER", "SETTLE_CONCURRENCY", "BARRIER_RETENTION"} {
			require.ErrorContains(t, err, name)
		}
	})
}
