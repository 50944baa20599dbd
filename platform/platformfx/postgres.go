package platformfx

import (
	"context"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/trace"
	"go.uber.org/fx"
	"go.uber.org/zap"

	"github.com/slipwayhq/slipway/platform/grpcserver"
	"github.com/slipwayhq/slipway/platform/health"
	"github.com/slipwayhq/slipway/platform/postgres"
)

// Postgres provides the connection pool and watches the database as the dependency "postgres",
// over a connection of its own.
func Postgres(cfg postgres.Config) fx.Option {
	return fx.Options(
		fx.Provide(func(logger *zap.Logger, reg prometheus.Registerer, tp trace.TracerProvider) (*pgxpool.Pool, error) {
			return postgres.Open(context.Background(), cfg, logger, reg, tp)
		}),
		fx.Invoke(func(s *grpcserver.Server, pool *pgxpool.Pool) {
			s.OnShutdown(grpcserver.StageClose, "postgres", func(context.Context) error { pool.Close(); return nil })
		}),
		Dependency(func() health.Dependency {
			check, _ := postgres.HealthCheck(cfg)
			return health.Dependency{Name: "postgres", Check: check}
		}),
	)
}
