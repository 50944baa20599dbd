package platformfx

import (
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/fx"
	"go.uber.org/zap"

	"github.com/slipwayhq/slipway/platform/grpcserver"
	"github.com/slipwayhq/slipway/platform/health"
)

// Health provides the dependency monitor and keeps it running. What it checks are the
// dependencies that other options provide with [Dependency].
func Health(cfg health.Config) fx.Option {
	return fx.Options(
		fx.Provide(fx.Annotate(
			func(deps []health.Dependency, logger *zap.Logger, reg prometheus.Registerer) (*health.Monitor, error) {
				return health.New(cfg, deps, logger, reg)
			},
			fx.ParamTags(dependencyGroup),
		)),
		Loop[*health.Monitor]("health monitor", grpcserver.StageClose),
	)
}

// Dependency adds what constructor returns, a [health.Dependency], to those that are checked.
func Dependency(constructor any) fx.Option {
	return fx.Provide(fx.Annotate(constructor, fx.ResultTags(dependencyGroup)))
}

const dependencyGroup = `group:"dependencies"`
