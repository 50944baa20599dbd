package breaker_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/slipwayhq/slipway/platform/breaker"
	"github.com/slipwayhq/slipway/platform/internal/leaktest"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

func succeed(context.Context) error { return nil }

func TestNew(t *testing.T) {
	t.Parallel()
	t.Run("a breaker is closed", func(t *testing.T) {
		t.Parallel()
		b, err := breaker.New(breaker.Config{Name: "orders"}, nil)
		require.NoError(t, err)
		require.Equal(t, breaker.Closed, b.State())
		require.NoError(t, b.Do(t.Context(), succeed))
	})
}

func BenchmarkBreaker_Do(b *testing.B) {
	closed, err := breaker.New(breaker.Config{Name: "orders"}, nil)
	require.NoError(b, err)
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			_ = closed.Do(context.Background(), succeed)
		}
	})
}
