package telemetry_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/trace"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/slipwayhq/slipway/platform/telemetry"
)

func parseLines(t *testing.T, out *lines) []map[string]any {
	t.Helper()
	var parsed []map[string]any
	for line := range strings.Lines(out.String()) {
		var fields map[string]any
		require.NoError(t, json.Unmarshal([]byte(line), &fields), line)
		parsed = append(parsed, fields)
	}
	return parsed
}

func TestTelemetry_Logger(t *testing.T) {
	t.Parallel()

	t.Run("writes the fields that every line has", func(t *testing.T) {
		t.Parallel()
		tel, out := newTelemetry(t, telemetry.Config{ServiceName: "order", ServiceVersion: "1.2.3", Environment: telemetry.Staging})
		ctx := trace.ContextWithSpanContext(t.Context(), trace.NewSpanContext(trace.SpanContextConfig{
			TraceID: trace.TraceID{0xab}, SpanID: trace.SpanID{0xcd},
		}))
		summer := time.Date(2026, 7, 1, 14, 30, 0, 123456789, time.FixedZone("CEST", 2*60*60))
		logger := telemetry.WithContext(ctx, tel.Logger.Named("grpc").WithOptions(zap.WithClock(&fixedClock{summer})))
		logger.Info("order placed", zap.Error(errors.New("half a problem")),
			zap.Duration("wait_seconds", 1500*time.Millisecond), telemetry.Sensitive("email", "a@example.com"))

		require.Equal(t, map[string]any{
			"ts": "2026-07-01T12:30:00.123456789Z", "level": "info", "msg": "order placed", "logger": "grpc",
			"service": "order", "version": "1.2.3", "environment": "staging",
			"trace_id":       "ab" + strings.Repeat("0", 30),
			"span_id":        "cd" + strings.Repeat("0", 14),
			"correlation_id": "ab" + strings.Repeat("0", 30),
			"error":          "half a problem", "wait_seconds": 1.5, "email": "******",
		}, parseLines(t, out)[0])
	})

	t.Run("changes its level at run time, also in loggers made from it", func(t *testing.T) {
		t.Parallel()
		tel, out := newTelemetry(t, telemetry.Config{Environment: telemetry.Production, LogLevel: "warn"})
		child := tel.Logger.Named("child").With(zap.Int("n", 1))
		require.Equal(t, zap.WarnLevel, zapcore.LevelOf(child.Core()))
		child.Info("not yet")
		tel.Level.SetLevel(zap.DebugLevel)
		child.Debug("now")
		tel.Level.SetLevel(zap.ErrorLevel)
		child.Warn("no longer")
		require.Nil(t, child.Core().Check(zapcore.Entry{Level: zap.WarnLevel}, nil))
		require.Len(t, parseLines(t, out), 1)
		require.Equal(t, "now", parseLines(t, out)[0]["msg"])
	})
}

// fixedClock stops the time of a logger, so that all its lines fall into one second.
type fixedClock struct{ now time.Time }

func (c *fixedClock) Now() time.Time                       { return c.now }
func (c *fixedClock) NewTicker(time.Duration) *time.Ticker { return nil }

func TestTelemetry_Logger_thinning(t *testing.T) {
	t.Parallel()
	for _, env := range []telemetry.Environment{telemetry.Development, telemetry.Staging} {
		t.Run("nothing is left out in "+string(env), func(t *testing.T) {
			t.Parallel()
			tel, out := newTelemetry(t, telemetry.Config{Environment: env})
			repeat(tel.Logger.WithOptions(zap.WithClock(&fixedClock{time.Now()})).Info, 1_000)
			require.Len(t, parseLines(t, out), 1_000)
		})
	}

	t.Run("production keeps the first 100 and every 100th, and counts the rest", func(t *testing.T) {
		t.Parallel()
		tel, out := newTelemetry(t, telemetry.Config{Environment: telemetry.Production, LogLevel: "debug"})
		clock := &fixedClock{time.Now()}
		logger := tel.Logger.WithOptions(zap.WithClock(clock)).With(zap.String("method", "PlaceOrder"))
		repeat(logger.Info, 1_100)
		require.Len(t, parseLines(t, out), 110)
		repeat(logger.Debug, 300)
		require.Len(t, parseLines(t, out), 110+102)
		require.NoError(t, testutil.GatherAndCompare(tel.Registry, strings.NewReader(`
# HELP log_lines_dropped_total Log lines left out because the same message was logged too often within a second.
# TYPE log_lines_dropped_total counter
log_lines_dropped_total{level="debug"} 198
log_lines_dropped_total{level="info"} 990
`), "log_lines_dropped_total"))

		clock.now = clock.now.Add(time.Second)
		repeat(logger.Info, 100)
		require.Len(t, parseLines(t, out), 110+102+100, "a new second begins anew")
	})

	t.Run("production writes every line at warn and above", func(t *testing.T) {
		t.Parallel()
		tel, out := newTelemetry(t, telemetry.Config{Environment: telemetry.Production})
		logger := tel.Logger.WithOptions(zap.WithClock(&fixedClock{time.Now()}))
		repeat(logger.Warn, 1_000)
		repeat(logger.With(zap.Int("n", 1)).Error, 1_000)
		require.Len(t, parseLines(t, out), 2_000)
	})
}

func repeat(log func(string, ...zap.Field), n int) {
	for range n {
		log("the same again")
	}
}
