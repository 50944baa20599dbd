package correlation_test

import (
	"context"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/baggage"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"github.com/slipwayhq/slipway/platform/internal/correlation"
)

func TestID(t *testing.T) {
	t.Parallel()
	traced := trace.ContextWithSpanContext(t.Context(), trace.NewSpanContext(trace.SpanContextConfig{
		TraceID: trace.TraceID{1}, SpanID: trace.SpanID{2},
	}))
	require.Empty(t, correlation.ID(t.Context()))
	require.Equal(t, "01"+strings.Repeat("0", 30), correlation.ID(traced))
	require.Empty(t, correlation.Given(traced))

	given := correlation.With(traced, "cart-17")
	require.Equal(t, "cart-17", correlation.ID(given))
	require.Equal(t, "cart-17", correlation.Given(given))
}

func TestWith(t *testing.T) {
	t.Parallel()

	t.Run("travels as baggage and leaves other members alone", func(t *testing.T) {
		t.Parallel()
		other, err := baggage.Parse("tenant=a")
		require.NoError(t, err)
		ctx := correlation.With(baggage.ContextWithBaggage(t.Context(), other), "cart 17/ü")

		carrier := propagation.MapCarrier{}
		propagation.Baggage{}.Inject(ctx, carrier)
		received := propagation.Baggage{}.Extract(context.Background(), carrier)
		require.Equal(t, "cart 17/ü", correlation.ID(received))
		require.Equal(t, "a", baggage.FromContext(received).Member("tenant").Value())
	})

	t.Run("ignores what baggage cannot carry", func(t *testing.T) {
		t.Parallel()
		require.Empty(t, correlation.ID(correlation.With(t.Context(), string([]byte{0xff}))))
	})
}

func TestSanitize(t *testing.T) {
	t.Parallel()
	require.Equal(t, "cart-17_a.b:Z", correlation.Sanitize("cart-17_a.b:Z"))
	require.Equal(t, "abc", correlation.Sanitize("a\nb\x00 \"c\"é"))
	require.Len(t, correlation.Sanitize(strings.Repeat("a", 500)), 128)
}
