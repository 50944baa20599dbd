package correlation_test

import (
	"context"
	"fmt"

	"go.opentelemetry.io/otel/trace"

	"github.com/slipwayhq/slipway/platform/internal/correlation"
)

func Example() {
	ctx := trace.ContextWithSpanContext(context.Background(), trace.NewSpanContext(trace.SpanContextConfig{
		TraceID: trace.TraceID{0x0a, 0xf7}, SpanID: trace.SpanID{1},
	}))
	fmt.Println(correlation.ID(ctx))
	fmt.Println(correlation.ID(correlation.With(ctx, "cart-17")))
	// Output:
	// 0af70000000000000000000000000000
	// cart-17
}
