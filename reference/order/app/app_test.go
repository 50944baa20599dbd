package app_test

import (
	"io"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/fx"

	"github.com/slipwayhq/slipway/reference/order/app"
)

func TestNew_graphIsComplete(t *testing.T) {
	t.Parallel()
	cfg, err := app.Load([]string{"DATABASE_URL=postgres://x", "REDIS_URL=redis://x"})
	require.NoError(t, err)
	require.NoError(t, fx.ValidateApp(fx.NopLogger, app.New(cfg, io.Discard)))
}
