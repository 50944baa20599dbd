package broker

import (
	"context"

	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"github.com/slipwayhq/slipway/platform/internal/correlation"
)

// Origin returns the span that the message comes from, invalid if its headers name
// none. A consumer links it rather than continue it: its own work may come hours
// later, and would make one long trace that looks slow.
func Origin(m Message) trace.SpanContext {
	ctx := propagation.TraceContext{}.Extract(context.Background(), propagation.MapCarrier(m.Headers))
	return trace.SpanContextFromContext(ctx)
}

// Context returns ctx with the baggage of the message and its correlation id, cut to
// what is safe in logs and headers. A message that brings no correlation id is
// known by the trace that it comes from.
func Context(ctx context.Context, m Message) context.Context {
	ctx = propagation.Baggage{}.Extract(ctx, propagation.MapCarrier(m.Headers))
	id := m.Headers[correlation.Key]
	if id == "" {
		id = correlation.Given(ctx)
	}
	if id = correlation.Sanitize(id); id == "" {
		if origin := Origin(m); origin.HasTraceID() {
			id = origin.TraceID().String()
		}
	}
	return correlation.With(ctx, id)
}

// Inject puts the trace context, the baggage and the correlation id of ctx into the
// headers, where they are not set. It returns the headers, new ones for nil.
func Inject(ctx context.Context, headers map[string]string) map[string]string {
	if headers == nil {
		headers = map[string]string{}
	}
	carrier := propagation.MapCarrier{}
	propagation.TraceContext{}.Inject(ctx, carrier)
	propagation.Baggage{}.Inject(ctx, carrier)
	if id := correlation.ID(ctx); id != "" {
		carrier[correlation.Key] = id
	}
	for key, value := range carrier {
		if _, set := headers[key]; !set {
			headers[key] = value
		}
	}
	return headers
}
