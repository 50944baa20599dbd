package telemetry

import (
	"context"
	"fmt"
	"io"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
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
	// Registry collects the metrics of the service, with those of the Go runtime and the process.
	Registry *prometheus.Registry

	provider *sdktrace.TracerProvider
	cfg      Config
}

// New builds the telemetry of a service. Log lines go to out, one Write each. It fails on a bad
// configuration, and never because a collector is away.
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
	provider, err := newTracerProvider(ctx, cfg, registry, logger.Named("telemetry"))
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
		cfg:            cfg,
	}, nil
}

// Shutdown sends the spans that have ended, within Config.FlushTimeout and ctx. Spans that end
// later are lost. What could not be sent in time is counted, and reported as an error.
func (t *Telemetry) Shutdown(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, t.cfg.FlushTimeout)
	defer cancel()
	if err := t.provider.Shutdown(ctx); err != nil {
		return fmt.Errorf("flush spans: %w", err)
	}
	return nil
}

func newRegistry(cfg Config) (*prometheus.Registry, error) {
	r := prometheus.NewRegistry()
	info := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "service_info",
		Help: "Always 1; the labels say what is running.",
		ConstLabels: prometheus.Labels{
			"service": cfg.ServiceName, "version": cfg.ServiceVersion, "environment": string(cfg.Environment),
		},
	})
	info.Set(1)
	for _, c := range []prometheus.Collector{
		info, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	} {
		if err := r.Register(c); err != nil {
			return nil, fmt.Errorf("register metrics of the process: %w", err)
		}
	}
	return r, nil
}
