package telemetry

import (
	"context"

	"go.opentelemetry.io/otel/trace"
	"go.uber.org/zap"

	"github.com/slipwayhq/slipway/platform/internal/correlation"
)

// Fields returns trace_id, span_id and correlation_id of ctx as log fields; what ctx does not have
// is left out, and without any of them nothing is allocated.
func Fields(ctx context.Context) []zap.Field {
	id := correlation.ID(ctx)
	if id == "" {
		return nil
	}
	sc := trace.SpanContextFromContext(ctx)
	if !sc.IsValid() {
		return []zap.Field{zap.String(correlation.Key, id)}
	}
	return []zap.Field{
		zap.String("trace_id", sc.TraceID().String()),
		zap.String("span_id", sc.SpanID().String()),
		zap.String(correlation.Key, id),
	}
}

// WithContext returns logger with the [Fields] of ctx.
func WithContext(ctx context.Context, logger *zap.Logger) *zap.Logger {
	return logger.With(Fields(ctx)...)
}

// CorrelationID returns the id that ties together everything that one business request caused: the
// one that came with it, else its trace id, else "".
func CorrelationID(ctx context.Context) string { return correlation.ID(ctx) }

// WithCorrelationID returns a context that carries id to every service and event from here on.
func WithCorrelationID(ctx context.Context, id string) context.Context {
	return correlation.With(ctx, id)
}

// Sensitive is a log field for personal or secret data: it says that there was a value, and
// neither the value nor its length.
func Sensitive(key, value string) zap.Field {
	if value == "" {
		return zap.String(key, "")
	}
	return zap.String(key, "******")
}
