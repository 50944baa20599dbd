package platformfx

import (
	"context"
	"io"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
	"go.uber.org/fx"
	"go.uber.org/zap"

	"github.com/slipwayhq/slipway/platform/grpcserver"
	"github.com/slipwayhq/slipway/platform/telemetry"
)

// Telemetry provides the logger, the metrics registry, the tracer provider and the propagator,
// built from cfg. Log lines go to out. The last spans are flushed at the very end of the drain.
func Telemetry(cfg telemetry.Config, out io.Writer) fx.Option {
	return fx.Options(
		fx.Provide(
			func() (*telemetry.Telemetry, error) { return telemetry.New(context.Background(), cfg, out) },
			func(t *telemetry.Telemetry) *zap.Logger { return t.Logger },
			func(t *telemetry.Telemetry) prometheus.Registerer { return t.Registry },
			func(t *telemetry.Telemetry) trace.TracerProvider { return t.TracerProvider },
			func(t *telemetry.Telemetry) propagation.TextMapPropagator { return t.Propagator },
		),
		fx.Invoke(func(s *grpcserver.Server, t *telemetry.Telemetry) {
			s.OnShutdown(grpcserver.StageFlush, "telemetry", t.Shutdown)
		}),
	)
}
