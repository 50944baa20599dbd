package platformfx

import (
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/trace"
	"go.uber.org/fx"
	"go.uber.org/zap"

	"github.com/slipwayhq/slipway/platform/grpcserver"
	"github.com/slipwayhq/slipway/platform/saga/sagapg"
)

// Saga provides the runner of the sagas that SagaDefinition adds, and runs it over the provided pool.
// It stops with the intake: steps on their way are finished, another replica goes on.
func Saga(cfg sagapg.Config) fx.Option {
	return fx.Options(
		fx.Provide(func(p sagaParams) (*sagapg.Runner, error) {
			return sagapg.NewRunner(p.Pool, p.Definitions, cfg, p.Logger, p.Registerer, p.Tracer)
		}),
		Loop[*sagapg.Runner]("saga runner", grpcserver.StageIntake),
	)
}

// SagaDefinition adds a saga to the runner. A constructor takes what it needs and returns a
// sagapg.Definition.
func SagaDefinition(constructor any) fx.Option {
	return fx.Provide(fx.Annotate(constructor, fx.As(new(sagapg.Definition)), fx.ResultTags(`group:"sagas"`)))
}

type sagaParams struct {
	fx.In

	Pool        *pgxpool.Pool
	Definitions []sagapg.Definition `group:"sagas"`
	Logger      *zap.Logger
	Registerer  prometheus.Registerer
	Tracer      trace.TracerProvider
}
