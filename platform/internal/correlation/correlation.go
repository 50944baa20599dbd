// Package correlation carries the id that ties together everything that one business request
// caused, across services, queues and time. It travels as the baggage member "correlation_id",
// so that W3C propagation takes it wherever trace context goes. A request that brings none is
// known by its trace id: in the usual case nothing has to be stored or sent.
package correlation

import (
	"context"
	"strings"

	"go.opentelemetry.io/otel/baggage"
	"go.opentelemetry.io/otel/trace"
)

// Key is the name of the baggage member and of the field in log lines.
const Key = "correlation_id"

// ID returns the correlation id of ctx: the one that was [Given], else the trace id, else "".
func ID(ctx context.Context) string {
	if id := Given(ctx); id != "" {
		return id
	}
	if sc := trace.SpanContextFromContext(ctx); sc.HasTraceID() {
		return sc.TraceID().String()
	}
	return ""
}

// Given returns the id that was set with [With] or received as baggage, else "". It is what the
// sender wrote, of any length: an edge that strangers reach checks it and sets what it accepts.
func Given(ctx context.Context) string {
	return baggage.FromContext(ctx).Member(Key).Value()
}

// With returns a context with the given correlation id beside the baggage that is there. An id
// that baggage cannot carry, or that would exceed its limits, leaves ctx as it is.
func With(ctx context.Context, id string) context.Context {
	member, err := baggage.NewMemberRaw(Key, id)
	if err != nil {
		return ctx
	}
	bag, err := baggage.FromContext(ctx).SetMember(member)
	if err != nil {
		return ctx
	}
	return baggage.ContextWithBaggage(ctx, bag)
}

// maxLength is of what [Sanitize] keeps, in bytes.
const maxLength = 128

// Sanitize keeps of a stranger's id what is safe in logs and headers.
func Sanitize(id string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', strings.ContainsRune("-_.:", r):
			return r
		default:
			return -1
		}
	}, id[:min(len(id), maxLength)])
}
