package telemetry

import (
	"context"
	"fmt"
	"io"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/propagation"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
	"go.uber.org/zap"
)

// Telemetry holds the signals of one service. All fields are safe for concurrent use.
type Telemetry struct {
	// Logger writes a JSON object a line.
	Logger *zap.Logger
	// Level changes what Logger writes, at run time.
	Level zap.AtomicLevel
	// TracerProvider makes tracers; without an endpoint its spans have ids and go nowhere.
	TracerProvider trace.TracerProvider
	// Propagator carries W3C trace context and baggage over process borders.
	Propagator propagation.TextMapPropagator
	// Registry collects the metrics of the service, with those of the Go runtime, the process and
	// the build.
	Registry *prometheus.Registry

	provider *sdktrace.TracerProvider
	queue    *spanQueue // nil if nothing is exported
	cfg      Config
}

// New builds the telemetry of a service. Log lines go to out, one Write each. It fails on a bad
// configuration, and never because a collector is away; it does not wait for one.
func New(ctx context.Context, cfg Config, out io.Writer) (*Telemetry, error) {
	cfg.SetDefaults()
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("configure telemetry: %w", err)
	}
	registry, err := newRegistry(cfg)
	if err != nil {
		return nil, err
	}
	logger, level, err := newLogger(cfg, out, registry)
	if err != nil {
		return nil, err
	}
	provider, queue, err := newTracerProvider(ctx, cfg, registry, logger.Named("telemetry"))
	if err != nil {
		return nil, err
	}
	return &Telemetry{
		Logger:         logger,
		Level:          level,
		TracerProvider: provider,
		Propagator:     propagation.NewCompositeTextMapPropagator(propagation.TraceContext{}, propagation.Baggage{}),
		Registry:       registry,
		provider:       provider,
		queue:          queue,
		cfg:            cfg,
	}, nil
}

// Shutdown sends the spans that have ended, within Config.FlushTimeout and ctx; spans that end later
// are lost. A collector that does not take them in time is no error: they are counted, and their
// number is logged. Further calls do nothing.
func (t *Telemetry) Shutdown(ctx context.Context) error {
	// A fifth of the time is for giving up in order, with every span accounted for.
	flush, cancel := context.WithTimeout(ctx, t.cfg.FlushTimeout/5*4)
	defer cancel()
	bound, cancelBound := context.WithTimeout(context.WithoutCancel(ctx), t.cfg.FlushTimeout)
	defer cancelBound()
	if t.queue != nil {
		defer context.AfterFunc(flush, t.queue.giveUp)()
	}
	if err := t.provider.Shutdown(bound); err != nil {
		return fmt.Errorf("flush spans: %w", err)
	}
	return nil
}
