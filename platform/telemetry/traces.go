package telemetry

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.uber.org/zap"
)

// newTracerProvider returns a provider that samples as cfg says and exports to its endpoint. It
// does not wait for the collector.
func newTracerProvider(ctx context.Context, cfg Config, reg prometheus.Registerer, logger *zap.Logger) (*sdktrace.TracerProvider, error) {
	sampler, share, err := newSampler(cfg, time.Now)
	if err != nil {
		return nil, err
	}
	metrics, err := newSpanMetrics(reg)
	if err != nil {
		return nil, err
	}
	if err := reg.Register(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "trace_sampling_ratio",
		Help: "Share of new traces that the service keeps at the moment.",
	}, share)); err != nil {
		return nil, err
	}
	res, err := newResource(ctx, cfg)
	if err != nil {
		return nil, err
	}
	opts := []sdktrace.TracerProviderOption{sdktrace.WithSampler(sampler), sdktrace.WithResource(res)}
	if cfg.TracesEndpoint != "" {
		exporter, err := otlptracegrpc.New(ctx, otlptracegrpc.WithEndpointURL(cfg.TracesEndpoint))
		if err != nil {
			return nil, fmt.Errorf("create OTLP exporter: %w", err)
		}
		opts = append(opts, sdktrace.WithSpanProcessor(newSpanQueue(exporter, metrics, logger)))
	}
	return sdktrace.NewTracerProvider(opts...), nil
}

// newResource describes this process. The keys are those of OpenTelemetry's semantic conventions,
// without a schema URL, so that merging with another resource never conflicts. The command line is
// left out: it may hold secrets.
func newResource(ctx context.Context, cfg Config) (*resource.Resource, error) {
	attrs := []attribute.KeyValue{
		attribute.String("service.name", cfg.ServiceName),
		attribute.String("service.version", cfg.ServiceVersion),
		attribute.String("service.instance.id", uuid.NewString()),
		attribute.String("deployment.environment.name", string(cfg.Environment)),
	}
	more, err := cfg.resourceAttributes()
	if err != nil {
		return nil, err
	}
	for _, kv := range more {
		attrs = append(attrs, attribute.String(kv[0], kv[1]))
	}
	res, err := resource.New(ctx,
		resource.WithTelemetrySDK(),
		resource.WithHost(),
		resource.WithContainer(),
		resource.WithProcessPID(),
		resource.WithProcessExecutableName(),
		resource.WithProcessRuntimeName(),
		resource.WithProcessRuntimeVersion(),
		resource.WithAttributes(attrs...),
	)
	if err != nil && !errors.Is(err, resource.ErrPartialResource) {
		return nil, fmt.Errorf("describe process: %w", err)
	}
	return resource.NewSchemaless(res.Attributes()...), nil
}
