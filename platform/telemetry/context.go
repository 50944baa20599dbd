package telemetry

import (
	"cmp"
	"context"
	"encoding/hex"

	"go.opentelemetry.io/otel/trace"
	"go.uber.org/zap"

	"github.com/slipwayhq/slipway/platform/internal/correlation"
)

// Fields returns trace_id, span_id and correlation_id of ctx as log fields; what ctx does not have
// is left out. Without any of them nothing is allocated, with a trace it is the fields and one
// string.
func Fields(ctx context.Context) []zap.Field {
	given := correlation.Given(ctx)
	sc := trace.SpanContextFromContext(ctx)
	switch {
	case sc.IsValid():
		traceID, spanID := hexIDs(sc)
		return []zap.Field{
			zap.String("trace_id", traceID),
			zap.String("span_id", spanID),
			zap.String(correlation.Key, cmp.Or(given, traceID)),
		}
	case given != "":
		return []zap.Field{zap.String(correlation.Key, given)}
	}
	return nil
}

// hexIDs returns both ids as parts of one string.
func hexIDs(sc trace.SpanContext) (traceID, spanID string) {
	t, s := sc.TraceID(), sc.SpanID()
	var text [2 * (len(t) + len(s))]byte
	hex.Encode(text[:2*len(t)], t[:])
	hex.Encode(text[2*len(t):], s[:])
	both := string(text[:])
	return both[:2*len(t)], both[2*len(t):]
}

// WithContext returns logger with the [Fields] of ctx.
func WithContext(ctx context.Context, logger *zap.Logger) *zap.Logger {
	return logger.With(Fields(ctx)...)
}

// CorrelationID returns the id that ties together everything that one business request caused: the
// one that came with it, else its trace id, else "".
func CorrelationID(ctx context.Context) string { return correlation.ID(ctx) }

// WithCorrelationID returns a context that carries id to every service and event from here on. An
// id that baggage cannot carry leaves ctx as it is.
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
