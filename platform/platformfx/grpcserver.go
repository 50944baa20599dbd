package platformfx

import (
	"context"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
	"go.uber.org/fx"
	"go.uber.org/zap"

	"github.com/slipwayhq/slipway/platform/grpcserver"
	"github.com/slipwayhq/slipway/platform/health"
)

type serverParams struct {
	fx.In

	Monitor    *health.Monitor
	Logger     *zap.Logger
	Registerer prometheus.Registerer
	Tracer     trace.TracerProvider
	Propagator propagation.TextMapPropagator
	Options    []grpcserver.Option `group:"grpcserver"`
}

// GRPCServer provides the server and runs it. Stopping the application is the server's Shutdown:
// the one place where the order of the drain is written.
func GRPCServer(cfg grpcserver.Config) fx.Option {
	return fx.Options(
		fx.Provide(func(p serverParams) (*grpcserver.Server, error) {
			opts := append([]grpcserver.Option{
				grpcserver.WithLogger(p.Logger),
				grpcserver.WithRegisterer(p.Registerer),
				grpcserver.WithTracerProvider(p.Tracer),
				grpcserver.WithPropagator(p.Propagator),
			}, p.Options...)
			return grpcserver.New(cfg, p.Monitor, opts...)
		}),
		fx.Invoke(serve),
	)
}

// ServerOption adds what constructor returns, a [grpcserver.Option], to those of the server.
func ServerOption(constructor any) fx.Option {
	return fx.Provide(fx.Annotate(constructor, fx.ResultTags(`group:"grpcserver"`)))
}

func serve(lc fx.Lifecycle, stop fx.Shutdowner, s *grpcserver.Server, logger *zap.Logger) {
	lc.Append(fx.Hook{
		OnStart: func(ctx context.Context) error {
			if err := s.Listen(); err != nil {
				return err
			}
			go func() {
				if err := s.Run(context.WithoutCancel(ctx)); err != nil {
					died(stop, logger, "gRPC server", err)
				}
			}()
			return nil
		},
		OnStop: s.Shutdown,
	})
}
