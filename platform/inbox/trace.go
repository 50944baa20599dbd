package inbox

import (
	"context"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"
	"go.uber.org/zap"

	"github.com/slipwayhq/slipway/platform/broker"
	"github.com/slipwayhq/slipway/platform/internal/correlation"
)

// startSpan begins a trace for the work on the message, linked to the one that it
// comes from.
func (c *Consumer) startSpan(ctx context.Context, m broker.Message) (context.Context, trace.Span) {
	options := []trace.SpanStartOption{
		trace.WithNewRoot(), trace.WithSpanKind(trace.SpanKindConsumer),
		trace.WithAttributes(
			attribute.String("messaging.operation.type", "process"),
			attribute.String("messaging.consumer.group.name", c.cfg.Name),
			attribute.String("messaging.destination.name", m.Subject),
			attribute.String("messaging.message.id", m.ID),
		),
	}
	if origin := broker.Origin(m); origin.IsValid() {
		options = append(options, trace.WithLinks(trace.Link{SpanContext: origin}))
	}
	return c.tracer.Start(broker.Context(ctx, m), "process "+m.Subject, options...)
}

// log returns a logger for lines about the message.
func (c *Consumer) log(ctx context.Context, m broker.Message) *zap.Logger {
	fields := []zap.Field{
		zap.String("message_id", m.ID), zap.String("subject", m.Subject), zap.String("key", m.Key),
		zap.String(correlation.Key, correlation.ID(ctx)),
	}
	if sc := trace.SpanContextFromContext(ctx); sc.IsValid() {
		fields = append(fields, zap.String("trace_id", sc.TraceID().String()), zap.String("span_id", sc.SpanID().String()))
	}
	return c.logger.With(fields...)
}

// report counts, traces and logs what became of a delivery.
func (c *Consumer) report(ctx context.Context, l letter, outcome result, err error) {
	c.metrics.messages[outcome].Inc()
	span := trace.SpanFromContext(ctx)
	span.SetAttributes(attribute.String("inbox.result", string(outcome)))
	if err != nil {
		span.RecordError(err)
		span.SetStatus(codes.Error, string(outcome))
	}
	switch outcome {
	case applied:
		if at, ok := l.storedAt(); ok {
			c.metrics.lag.Observe(max(0, time.Since(at).Seconds()))
		}
	case retried:
		c.log(ctx, l.Message).Warn("message failed, trying again", zap.Error(err))
	case dead:
		c.log(ctx, l.Message).Error("message is a dead letter", zap.Error(err))
	default: // the counter says it all
	}
}
