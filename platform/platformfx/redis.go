package platformfx

import (
	"context"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"
	"go.opentelemetry.io/otel/trace"
	"go.uber.org/fx"

	"github.com/slipwayhq/slipway/platform/grpcserver"
	"github.com/slipwayhq/slipway/platform/health"
	"github.com/slipwayhq/slipway/platform/redisdb"
)

// Redis provides the client and watches the server as the dependency "redis".
func Redis(cfg redisdb.Config) fx.Option {
	return fx.Options(
		fx.Provide(func(reg prometheus.Registerer, tp trace.TracerProvider) (*redis.Client, error) {
			return redisdb.Open(cfg, reg, tp)
		}),
		fx.Invoke(func(s *grpcserver.Server, client *redis.Client) {
			s.OnShutdown(grpcserver.StageClose, "redis", func(context.Context) error { return client.Close() })
		}),
		Dependency(func(client *redis.Client) health.Dependency {
			return health.Dependency{Name: "redis", Check: redisdb.HealthCheck(client)}
		}),
	)
}
