package telemetry_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
	"go.uber.org/zap"

	"github.com/slipwayhq/slipway/platform/telemetry"
)

func traced(ctx context.Context) context.Context {
	return trace.ContextWithSpanContext(ctx, trace.NewSpanContext(trace.SpanContextConfig{
		TraceID: trace.TraceID{1, 2, 3}, SpanID: trace.SpanID{4, 5},
	}))
}

const (
	traceHex = "01020300000000000000000000000000"
	spanHex  = "0405000000000000"
)

func TestFields(t *testing.T) {
	t.Parallel()
	require.Nil(t, telemetry.Fields(t.Context()))
	require.Equal(t, []zap.Field{
		zap.String("trace_id", traceHex), zap.String("span_id", spanHex), zap.String("correlation_id", traceHex),
	}, telemetry.Fields(traced(t.Context())))
	require.Equal(t, []zap.Field{
		zap.String("trace_id", traceHex), zap.String("span_id", spanHex), zap.String("correlation_id", "cart-17"),
	}, telemetry.Fields(telemetry.WithCorrelationID(traced(t.Context()), "cart-17")))
	require.Equal(t, []zap.Field{zap.String("correlation_id", "cart-17")},
		telemetry.Fields(telemetry.WithCorrelationID(t.Context(), "cart-17")))
}

func TestFields_allocations(t *testing.T) {
	for _, row := range []struct {
		name string
		ctx  context.Context
		most float64
	}{
		{"without a trace", context.Background(), 0},
		{"with a trace", traced(context.Background()), 2},
		{"with a correlation id of its own", telemetry.WithCorrelationID(traced(context.Background()), "cart-17"), 2},
	} {
		var fields []zap.Field
		require.LessOrEqual(t, testing.AllocsPerRun(1000, func() { fields = telemetry.Fields(row.ctx) }), row.most, row.name)
		_ = fields
	}
}

func TestWithContext(t *testing.T) {
	t.Parallel()
	logger := zap.NewNop()
	require.Same(t, logger, telemetry.WithContext(t.Context(), logger), "nothing to add")
	require.NotSame(t, zap.NewExample(), telemetry.WithContext(traced(t.Context()), zap.NewExample()))
}

func TestCorrelationID(t *testing.T) {
	t.Parallel()
	require.Empty(t, telemetry.CorrelationID(t.Context()))
	require.Equal(t, traceHex, telemetry.CorrelationID(traced(t.Context())))
	require.Equal(t, "cart-17", telemetry.CorrelationID(telemetry.WithCorrelationID(traced(t.Context()), "cart-17")))
}

func TestSensitive(t *testing.T) {
	t.Parallel()
	require.Equal(t, zap.String("iban", "******"), telemetry.Sensitive("iban", "DE00"))
	require.Equal(t, telemetry.Sensitive("iban", "DE00"), telemetry.Sensitive("iban", "DE00 1234 5678"), "the length shows")
	require.Equal(t, zap.String("iban", ""), telemetry.Sensitive("iban", ""))
}

func TestTelemetry_Propagator(t *testing.T) {
	t.Parallel()
	tel, _ := newTelemetry(t, telemetry.Config{})
	ctx, span := tel.TracerProvider.Tracer("test").Start(t.Context(), "call")
	defer span.End()
	carrier := propagation.MapCarrier{}
	tel.Propagator.Inject(telemetry.WithCorrelationID(ctx, "cart-17"), carrier)
	require.Equal(t, "00-"+span.SpanContext().TraceID().String()+"-"+span.SpanContext().SpanID().String()+"-01", carrier["traceparent"])

	received := tel.Propagator.Extract(context.Background(), carrier)
	require.Equal(t, "cart-17", telemetry.CorrelationID(received))
	require.Equal(t, span.SpanContext().TraceID(), trace.SpanContextFromContext(received).TraceID())
}

func BenchmarkFields(b *testing.B) {
	for name, ctx := range map[string]context.Context{"none": context.Background(), "trace": traced(context.Background())} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				telemetry.Fields(ctx)
			}
		})
	}
}
