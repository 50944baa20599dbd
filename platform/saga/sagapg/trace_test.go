package sagapg_test

import (
	"context"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/attribute"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"
	"go.uber.org/zap/zaptest"

	"github.com/slipwayhq/slipway/platform/saga"
	"github.com/slipwayhq/slipway/platform/saga/sagapg"
)

// Each call is a trace of its own, linked to the one in which the saga was started.
func TestRunner_traces(t *testing.T) {
	t.Parallel()
	pool := setup(t)
	recorder := tracetest.NewSpanRecorder()
	provider := sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(recorder))
	inside := make(chan trace.SpanContext, 2)
	step := func(name string) *saga.Stage[trip] {
		return saga.Step(name, func(ctx context.Context, _ *saga.Call[trip]) error {
			inside <- trace.SpanContextFromContext(ctx)
			return nil
		})
	}
	d := saga.Define("trip", 1, step("hotel"), step("flight"))
	r, err := sagapg.NewRunner(pool, []sagapg.Definition{d}, quick(), zaptest.NewLogger(t), prometheus.NewRegistry(), provider)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	defer func() {
		cancel()
		require.NoError(t, <-done)
	}()

	id := newID()
	var origin trace.SpanContext
	require.NoError(t, inTx(pool, func(ctx context.Context, tx pgx.Tx) error {
		ctx, span := provider.Tracer("test").Start(ctx, "PlaceOrder")
		defer span.End()
		origin = span.SpanContext()
		_, err := sagapg.Start(ctx, tx, nil, d, id, trip{})
		return err
	}))
	ended(t, pool, id)
	seen := map[trace.TraceID]string{origin.TraceID(): "PlaceOrder"}
	for _, s := range recorder.Ended() {
		if s.Name() == "PlaceOrder" {
			continue
		}
		require.False(t, s.Parent().IsValid(), s.Name())
		require.Empty(t, seen[s.SpanContext().TraceID()])
		seen[s.SpanContext().TraceID()] = s.Name()
		require.Contains(t, s.Attributes(), attribute.String("saga.id", id))
		require.Len(t, s.Links(), 1)
		require.Equal(t, origin.TraceID(), s.Links()[0].SpanContext.TraceID())
		require.Equal(t, origin.SpanID(), s.Links()[0].SpanContext.SpanID())
	}
	require.Equal(t, "saga trip hotel", seen[(<-inside).TraceID()])
	require.Equal(t, "saga trip flight", seen[(<-inside).TraceID()])
}
