package telemetry

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	tracepb "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	"go.uber.org/zap"
	"google.golang.org/grpc"
)

// newTracerProvider returns a provider that samples as cfg says and exports to its endpoint, and
// the queue of ended spans, nil without an endpoint. It does not wait for the collector.
func newTracerProvider(ctx context.Context, cfg Config, reg prometheus.Registerer, logger *zap.Logger) (*sdktrace.TracerProvider, *spanQueue, error) {
	sampler, share, err := newSampler(cfg, time.Now)
	if err != nil {
		return nil, nil, err
	}
	metrics, err := newSpanMetrics(reg)
	if err != nil {
		return nil, nil, err
	}
	ratio := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "trace_sampling_ratio",
		Help: "Share of new traces that the service keeps at the moment.",
	}, share)
	if err := registerAll(reg, ratio); err != nil {
		return nil, nil, err
	}
	res, err := newResource(ctx, cfg)
	if err != nil {
		return nil, nil, err
	}
	opts := []sdktrace.TracerProviderOption{sdktrace.WithSampler(sampler), sdktrace.WithResource(res)}
	if cfg.endpoint() == "" {
		return sdktrace.NewTracerProvider(opts...), nil, nil
	}
	exporter, err := newExporter(ctx, cfg.endpoint())
	if err != nil {
		return nil, nil, err
	}
	queue := newSpanQueue(exporter, cfg.QueueSize, metrics, logger)
	return sdktrace.NewTracerProvider(append(opts, sdktrace.WithSpanProcessor(queue))...), queue, nil
}

// newExporter connects to endpoint in the background. Everything else about the connection is what
// the OTEL_EXPORTER_OTLP_* variables say, which the library reads itself.
func newExporter(ctx context.Context, endpoint string) (sdktrace.SpanExporter, error) {
	address := otlptracegrpc.WithEndpoint(endpoint)
	if strings.Contains(endpoint, "://") {
		address = otlptracegrpc.WithEndpointURL(endpoint)
	}
	exporter, err := otlptracegrpc.New(ctx, address, otlptracegrpc.WithDialOption(grpc.WithUnaryInterceptor(readAnswer)))
	if err != nil {
		return nil, fmt.Errorf("create OTLP exporter: %w", err)
	}
	return exporter, nil
}

// answer is what the collector said about one batch. The library folds an acceptance of a part into
// its error, without the number.
type answer struct {
	accepted bool
	rejected int64
}

type answerKey struct{}

// readAnswer notes the collector's answer in the call's [answer].
func readAnswer(ctx context.Context, method string, req, reply any, conn *grpc.ClientConn, call grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	err := call(ctx, method, req, reply, conn, opts...)
	note, ok := ctx.Value(answerKey{}).(*answer)
	if response, is := reply.(*tracepb.ExportTraceServiceResponse); ok && is && err == nil {
		*note = answer{accepted: true, rejected: response.GetPartialSuccess().GetRejectedSpans()}
	}
	return err
}

// newResource describes this process. The keys are those of OpenTelemetry's semantic conventions,
// without a schema URL, so that merging with another resource never conflicts. Config goes before
// the attributes it carries, as the specification says for the service's name. The command line is
// left out: it may hold secrets.
func newResource(ctx context.Context, cfg Config) (*resource.Resource, error) {
	given, err := cfg.resourceAttributes()
	if err != nil {
		return nil, err
	}
	attrs := []attribute.KeyValue{attribute.String("service.instance.id", uuid.NewString())}
	for key, value := range given {
		attrs = append(attrs, attribute.String(key, value))
	}
	attrs = append(attrs,
		attribute.String("service.name", cfg.ServiceName),
		attribute.String("service.version", cfg.ServiceVersion),
		attribute.String("deployment.environment.name", string(cfg.Environment)),
	)
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
