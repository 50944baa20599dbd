package platformfx

import (
	"context"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
	"go.uber.org/fx"
	"go.uber.org/zap"
	"google.golang.org/grpc"

	"github.com/slipwayhq/slipway/platform/breaker"
	"github.com/slipwayhq/slipway/platform/grpcclient"
	"github.com/slipwayhq/slipway/platform/grpcserver"
)

// Client provides what newClient, the constructor of generated code, makes of a connection to a
// service. It connects when it is first called and is closed in the drain. Changes of its circuit
// breakers are logged, unless the configuration listens to them itself.
func Client[T any](cfg grpcclient.Config, newClient func(grpc.ClientConnInterface) T, opts ...grpcclient.Option) fx.Option {
	return fx.Provide(func(p clientParams) (T, error) {
		var none T
		if cfg.Breaker.OnChange == nil {
			cfg.Breaker.OnChange = logBreaker(p.Logger)
		}
		conn, err := grpcclient.Dial(cfg, append([]grpcclient.Option{
			grpcclient.WithTracerProvider(p.Tracer), grpcclient.WithPropagator(p.Propagator), grpcclient.WithRegisterer(p.Registerer),
		}, opts...)...)
		if err != nil {
			return none, err
		}
		p.Server.OnShutdown(grpcserver.StageClose, "connection to "+cfg.Target, func(context.Context) error { return conn.Close() })
		return newClient(conn), nil
	})
}

func logBreaker(logger *zap.Logger) func(breaker.Change) {
	return func(c breaker.Change) {
		log := logger.Info
		if c.To == breaker.Open {
			log = logger.Warn
		}
		log("circuit breaker is "+string(c.To), zap.String("breaker", c.Name), zap.String("before", string(c.From)),
			zap.String("reason", c.Reason), zap.Duration("retry_after", c.RetryAfter))
	}
}

type clientParams struct {
	fx.In

	Logger     *zap.Logger
	Server     *grpcserver.Server
	Tracer     trace.TracerProvider
	Propagator propagation.TextMapPropagator
	Registerer prometheus.Registerer
}
