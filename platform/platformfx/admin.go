package platformfx

import (
	"go.uber.org/fx"
	"go.uber.org/zap"

	"github.com/slipwayhq/slipway/platform/grpcserver"
	"github.com/slipwayhq/slipway/platform/health"
	"github.com/slipwayhq/slipway/platform/telemetry"
)

// Admin serves metrics, readiness, the log level and, when switched on, profiles over HTTP. It
// keeps serving until the drain is over, so that the last scrape sees the last request.
func Admin(cfg telemetry.AdminConfig) fx.Option {
	return fx.Options(
		fx.Provide(func(t *telemetry.Telemetry, m *health.Monitor) (*telemetry.Admin, error) {
			return telemetry.NewAdmin(cfg, t, m.Ready)
		}),
		Loop[*telemetry.Admin]("admin server", grpcserver.StageFlush),
		fx.Invoke(func(lc fx.Lifecycle, a *telemetry.Admin, logger *zap.Logger) {
			lc.Append(fx.StartHook(func() { logger.Info("serving admin", zap.Stringer("addr", a.Addr())) }))
		}),
	)
}
