package app_test

import (
	"bytes"
	"io"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/fx"

	"github.com/slipwayhq/slipway/platform/platformfx"
	"github.com/slipwayhq/slipway/reference/order/app"
)

// environ is what the service needs to know.
var environ = []string{
	"DATABASE_URL=postgres://x", "REDIS_URL=redis://x", "BROKER_URL=nats://x", "INVENTORY_TARGET=x:1", "PAYMENT_TARGET=x:2",
}

func TestNew_graphIsComplete(t *testing.T) {
	t.Parallel()
	cfg, err := app.Load(environ)
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
		"the version":            {args: "-version", stdout: "order "},
		"help":                   {args: "-help", stderr: "-config"},
		"an unknown flag":        {args: "-confg", code: platformfx.ExitUsage, stderr: "-confg"},
		"an argument":            {args: "serve", code: platformfx.ExitUsage, stderr: "serve"},
		"the configuration":      {args: "-config", environ: environ, stdout: "DRAIN_TIMEOUT"},
		"no configuration":       {code: platformfx.ExitFailed, stderr: "DATABASE_URL"},
		"no configuration shown": {args: "-config", code: platformfx.ExitFailed, stderr: "REDIS_URL"},
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
