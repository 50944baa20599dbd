package observe_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"github.com/slipwayhq/slipway/cmd/slipway/internal/observe"
)

func TestStores(t *testing.T) {
	t.Parallel()
	logs := t.TempDir()
	opts := observe.Options{LogFiles: filepath.Join(logs, "*.json"), Environ: []string{"DECISION_WAIT=1s"}}
	s := startReal(t, opts, observe.Collector, observe.Loki, observe.Tempo)
	exporter, err := otlptracegrpc.New(t.Context(), otlptracegrpc.WithEndpointURL(s.OTLP()))
	require.NoError(t, err)
	provider := sdktrace.NewTracerProvider(sdktrace.WithBatcher(exporter),
		sdktrace.WithResource(resource.NewSchemaless(attribute.String("service.name", "order"))))
	t.Cleanup(func() { require.NoError(t, provider.Shutdown(context.WithoutCancel(t.Context()))) })

	ctx := span(t.Context(), provider.Tracer("test"), "PlaceOrder", time.Millisecond, codes.Error)
	sc := trace.SpanContextFromContext(ctx)
	span(ctx, provider.Tracer("test"), "Authorize", time.Millisecond, codes.Error)
	require.NoError(t, provider.ForceFlush(t.Context()))
	line := fmt.Sprintf(`{"ts":%q,"level":"error","msg":"charge card","service":"order","environment":"development","trace_id":"%s","span_id":"%s","correlation_id":"c-1","attempts":3}`,
		time.Now().UTC().Format(time.RFC3339Nano), sc.TraceID(), sc.SpanID())
	require.NoError(t, os.WriteFile(filepath.Join(logs, "order.json"), []byte(line+"\n"), 0o644))

	t.Run("a line is found by its trace, and only four labels are indexed", func(t *testing.T) {
		query := `{service_name="order",deployment_environment_name="development",level="error",service_namespace="default"}` +
			fmt.Sprintf(` | trace_id="%s" | span_id="%s" | correlation_id="c-1" | attempts="3"`, sc.TraceID(), sc.SpanID())
		var answer struct {
			Data struct {
				Result []struct{ Values [][2]string }
			}
		}
		eventually(t, s.URL(observe.Loki)+"/loki/api/v1/query_range?query="+url.QueryEscape(query), &answer, func() bool { return len(answer.Data.Result) == 1 })
		require.Equal(t, "charge card", answer.Data.Result[0].Values[0][1])
		var labels struct{ Data []string }
		eventually(t, s.URL(observe.Loki)+"/loki/api/v1/labels", &labels, func() bool { return len(labels.Data) > 0 })
		slices.Sort(labels.Data)
		require.Equal(t, []string{"deployment_environment_name", "level", "service_name", "service_namespace"}, labels.Data)
	})

	t.Run("the trace is found by its id, and by its service", func(t *testing.T) {
		var found struct {
			Batches []struct {
				ScopeSpans, InstrumentationLibrarySpans []struct{ Spans []struct{ Name string } }
			}
		}
		names := func() (names []string) {
			for _, b := range found.Batches {
				for _, scope := range slices.Concat(b.ScopeSpans, b.InstrumentationLibrarySpans) {
					for _, sp := range scope.Spans {
						names = append(names, sp.Name)
					}
				}
			}
			slices.Sort(names)
			return names
		}
		eventually(t, s.URL(observe.Tempo)+"/api/traces/"+sc.TraceID().String(), &found, func() bool { return len(names()) == 2 })
		require.Equal(t, []string{"Authorize", "PlaceOrder"}, names())
		var search struct {
			Traces []struct{ RootTraceName string }
		}
		eventually(t, s.URL(observe.Tempo)+"/api/search?tags="+url.QueryEscape("service.name=order status.code=error"), &search, func() bool { return len(search.Traces) == 1 })
		require.Equal(t, "PlaceOrder", search.Traces[0].RootTraceName)
	})

	t.Run("what is stored survives a restart", func(t *testing.T) {
		for _, c := range []observe.Component{observe.Loki, observe.Tempo} {
			require.NoError(t, s.StopComponent(t.Context(), c))
			require.NoError(t, s.StartComponent(t.Context(), c))
		}
		var logs, traces map[string]any
		start := strconv.FormatInt(time.Now().Add(-time.Hour).UnixNano(), 10)
		eventually(t, s.URL(observe.Loki)+"/loki/api/v1/query_range?start="+start+"&query="+url.QueryEscape(`{service_name="order"}`), &logs, func() bool {
			data, _ := logs["data"].(map[string]any)
			result, _ := data["result"].([]any)
			return len(result) == 1
		})
		eventually(t, s.URL(observe.Tempo)+"/api/traces/"+sc.TraceID().String(), &traces, func() bool { return traces["batches"] != nil })
	})
}

// eventually asks until the answer is good.
func eventually(t *testing.T, address string, answer any, good func() bool) {
	t.Helper()
	var last string
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	require.Eventually(t, func() bool {
		resp, err := client.Get(address)
		if err != nil {
			last = err.Error()
			return false
		}
		defer resp.Body.Close()
		text, _ := io.ReadAll(resp.Body)
		last = string(text)
		return resp.StatusCode == http.StatusOK && json.Unmarshal(text, answer) == nil && good()
	}, patience, 10*tick, "%s answers %s", address, &last)
}
