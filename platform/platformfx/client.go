package platformfx

import (
	"context"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
	"go.uber.org/fx"
	"google.golang.org/grpc"

	"github.com/slipwayhq/slipway/platform/grpcclient"
	"github.com/slipwayhq/slipway/platform/grpcserver"
)

// Client provides what newClient, the constructor of generated code, makes of a connection to a
// service. It connects when it is first called and is closed in the drain.
func Client[T any](cfg grpcclient.Config, newClient func(grpc.ClientConnInterface) T, opts ...grpcclient.Option) fx.Option {
	return fx.Provide(func(p clientParams) (T, error) {
		var none T
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

type clientParams struct {
	fx.In

	Server     *grpcserver.Server
	Tracer     trace.TracerProvider
	Propagator propagation.TextMapPropagator
	Registerer prometheus.Registerer
}
