package observe_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"github.com/slipwayhq/slipway/cmd/slipway/internal/observe"
)

// built is where make stack puts the programs.
const built = "../../../../.bin"

// startReal starts the component itself, or skips the test where it is not to be had.
func startReal(t *testing.T, opts observe.Options, components ...observe.Component) *observe.Stack {
	t.Helper()
	bin, err := filepath.Abs(built)
	require.NoError(t, err)
	opts.Dir, opts.ProgramDirs, opts.Components = t.TempDir(), []string{bin}, components
	opts.Environ = append(opts.Environ, "PATH="+os.Getenv("PATH"))
	if _, missing := observe.Find(opts.ProgramDirs, opts.Environ, components...); len(missing) > 0 {
		t.Skip(missing[0].Reason)
	}
	return start(t, opts)
}

func TestCollector_traces(t *testing.T) {
	t.Parallel()
	s := startReal(t, observe.Options{Environ: []string{"DECISION_WAIT=1s"}}, observe.Collector)
	exporter, err := otlptracegrpc.New(t.Context(), otlptracegrpc.WithEndpointURL(s.OTLP()))
	require.NoError(t, err)
	provider := sdktrace.NewTracerProvider(sdktrace.WithBatcher(exporter))
	t.Cleanup(func() { require.NoError(t, provider.Shutdown(context.WithoutCancel(t.Context()))) })
	tracer := provider.Tracer("test")

	const failing, slow, plain = 30, 30, 400
	var first trace.SpanContext
	for i := range failing {
		ctx := span(t.Context(), tracer, fmt.Sprintf("failing-%d", i), 10*time.Millisecond, codes.Error)
		if i == 0 {
			first = trace.SpanContextFromContext(ctx)
		}
	}
	for i := range slow {
		span(t.Context(), tracer, fmt.Sprintf("slow-%d", i), 1001*time.Millisecond, codes.Unset)
	}
	for i := range plain {
		span(t.Context(), tracer, fmt.Sprintf("plain-%d", i), 999*time.Millisecond, codes.Unset)
	}
	require.NoError(t, provider.ForceFlush(t.Context()))
	await(t, s, "failing-", failing)
	await(t, s, "slow-", slow)

	// Decisions are made in the order in which traces came.
	span(t.Context(), tracer, "last", time.Millisecond, codes.Error)
	span(trace.ContextWithSpanContext(t.Context(), first), tracer, "late", time.Millisecond, codes.Unset)
	require.NoError(t, provider.ForceFlush(t.Context()))
	await(t, s, "last", 1)
	await(t, s, "late", 1)
	require.InDelta(t, plain/10, count(t, s, "plain-"), 32, "a tenth of the rest; more than five standard deviations are no chance")
	require.Equal(t, failing, count(t, s, "failing-"))
	require.Equal(t, slow, count(t, s, "slow-"))
}

// span makes one of that duration, which ends now.
func span(ctx context.Context, tracer trace.Tracer, name string, took time.Duration, status codes.Code) context.Context {
	now := time.Now()
	ctx, s := tracer.Start(ctx, name, trace.WithTimestamp(now.Add(-took)))
	s.SetStatus(status, "")
	s.End(trace.WithTimestamp(now))
	return ctx
}

func await(t *testing.T, s *observe.Stack, prefix string, n int) {
	t.Helper()
	require.Eventually(t, func() bool { return count(t, s, prefix) >= n }, patience, tick, "not all %s were kept", prefix)
}

func count(t *testing.T, s *observe.Stack, prefix string) int {
	t.Helper()
	n := 0
	for _, batch := range kept(t, s, "traces") {
		for _, resource := range batch.ResourceSpans {
			for _, scope := range resource.ScopeSpans {
				for _, span := range scope.Spans {
					if strings.HasPrefix(span.Name, prefix) {
						n++
					}
				}
			}
		}
	}
	return n
}

func TestCollector_logs(t *testing.T) {
	t.Parallel()
	const traceID, spanID = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
	logs := t.TempDir()
	s := startReal(t, observe.Options{LogFiles: filepath.Join(logs, "*.json"), Environ: []string{"NAMESPACE=shop"}}, observe.Collector)
	lines := []string{
		`{"ts":"2026-01-02T03:04:05.123456789Z","level":"error","msg":"charge card","logger":"saga","service":"order","version":"1.2","environment":"development","trace_id":"` + traceID + `","span_id":"` + spanID + `","correlation_id":"c-1","attempts":3}`,
		`panic: no such thing`,
		`{"broken`,
	}
	require.NoError(t, os.WriteFile(filepath.Join(logs, "order.json"), []byte(strings.Join(lines, "\n")+"\n"), 0o644))
	var records map[string]record
	require.Eventually(t, func() bool { records = logRecords(t, s); return len(records) == len(lines) }, patience, tick)

	r := records["charge card"]
	require.Equal(t, map[string]any{
		"service.name": "order", "deployment.environment.name": "development", "level": "error", "service.namespace": "shop",
	}, r.resource, "each of these is an index label: there must be no others")
	require.Equal(t, traceID, r.TraceID)
	require.Equal(t, spanID, r.SpanID)
	require.Equal(t, "1767323045123456789", r.TimeUnixNano)
	require.Equal(t, 17, r.SeverityNumber)
	require.Equal(t, map[string]any{
		"logger": "saga", "version": "1.2", "correlation_id": "c-1", "attempts": 3.0, "log.file.name": "order.json",
	}, r.attributes)
	require.Contains(t, records, lines[1])
	require.Contains(t, records, lines[2])
	require.Equal(t, map[string]any{"service.namespace": "shop"}, records[lines[1]].resource)
}

// batch is a line of what the collector puts into a file.
type batch struct {
	ResourceSpans []struct {
		ScopeSpans []struct {
			Spans []struct{ Name string }
		}
	}
	ResourceLogs []struct {
		Resource  struct{ Attributes []keyValue }
		ScopeLogs []struct{ LogRecords []record }
	}
}

type record struct {
	TimeUnixNano, TraceID, SpanID string
	SeverityNumber                int
	Body                          value
	Attributes                    []keyValue

	resource, attributes map[string]any
}

type keyValue struct {
	Key   string
	Value value
}

type value struct {
	StringValue *string
	DoubleValue *float64
}

func (v value) plain() any {
	if v.StringValue != nil {
		return *v.StringValue
	}
	return *v.DoubleValue
}

func asMap(attributes []keyValue) map[string]any {
	m := map[string]any{}
	for _, a := range attributes {
		m[a.Key] = a.Value.plain()
	}
	return m
}

// kept reads what the collector has put into the file of a signal, complete lines only.
func kept(t *testing.T, s *observe.Stack, signal string) []batch {
	t.Helper()
	text, err := os.ReadFile(s.Kept(signal))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	require.NoError(t, err)
	var batches []batch
	for line := range strings.Lines(string(text)) {
		var b batch
		if strings.HasSuffix(line, "\n") {
			require.NoError(t, json.Unmarshal([]byte(line), &b))
			batches = append(batches, b)
		}
	}
	return batches
}

// logRecords returns the kept log by its messages.
func logRecords(t *testing.T, s *observe.Stack) map[string]record {
	t.Helper()
	records := map[string]record{}
	for _, b := range kept(t, s, "logs") {
		for _, resource := range b.ResourceLogs {
			for _, scope := range resource.ScopeLogs {
				for _, r := range scope.LogRecords {
					r.resource, r.attributes = asMap(resource.Resource.Attributes), asMap(r.Attributes)
					records[r.Body.plain().(string)] = r
				}
			}
		}
	}
	return records
}
