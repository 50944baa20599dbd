package ops_test

import (
	"encoding/binary"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"

	"github.com/slipwayhq/slipway/ops"
	"github.com/slipwayhq/slipway/ops/grafana"
	"github.com/slipwayhq/slipway/ops/rules"
)

// What the rules and the runbooks ask of the collector's own metrics, it really counts: our configuration
// with the smallest buffers, no stores, and more than it can take. Tried with a name of the rule changed,
// and without without_type_suffix.
func TestCollector_countsWhatItLoses(t *testing.T) {
	t.Parallel()
	asked := ofCollector(t)
	require.GreaterOrEqual(t, len(asked), 5)
	config := documents(t, "otel/collector.yml")[0]
	for _, e := range config["exporters"].(tree) {
		e.(tree)["sending_queue"] = tree{"num_consumers": 1, "queue_size": 1}
		e.(tree)["retry_on_failure"] = tree{"initial_interval": "100ms", "max_interval": "1s", "max_elapsed_time": "1s"}
	}
	config["processors"].(tree)["batch"] = tree{"send_batch_size": 1, "send_batch_max_size": 1}
	logs := t.TempDir()
	c := startCollector(t, config, "DECISION_WAIT=1s", "NUM_TRACES=100", "STATE_DIR="+t.TempDir(), "LOG_FILES="+filepath.Join(logs, "*.json"),
		"TEMPO_OTLP_ADDR="+free(t), "LOKI_OTLP_URL=http://"+free(t)+"/otlp")
	log, err := os.Create(filepath.Join(logs, "order.json"))
	require.NoError(t, err)
	defer log.Close()

	client, traces := c.client(t), uint64(0)
	lose := func(n int) {
		var spans []*tracepb.Span
		for range n {
			traces++
			spans = append(spans, failedSpan(traces))
		}
		client.send(t, spans...)
	}
	lose(1000) // ten times what it can hold until it decides
	counted, missing := map[string]*dto.MetricFamily{}, []string{}
	assert.Eventually(t, func() bool {
		lose(1)
		_, err := fmt.Fprintln(log, `{"level":"error","msg":"charge card","service":"order"}`)
		require.NoError(t, err)
		counted = c.counted(t)
		missing = slices.DeleteFunc(slices.Sorted(maps.Keys(asked)), func(name string) bool { return counted[name] != nil })
		return len(missing) == 0
	}, patience, tick)
	require.Empty(t, missing, "the collector does not count these; those that it has: %v", slices.Sorted(maps.Keys(counted)))
	others := []string{"job", "service"} // of the scrape, and of the services' part of the rule
	for name, labels := range asked {
		for _, l := range labels {
			require.True(t, slices.Contains(others, l) || hasLabel(counted[name], l), "%s has no label %s", name, l)
		}
	}
}

// ofCollector returns which of its metrics rules and runbooks name, and the labels that they demand.
func ofCollector(t *testing.T) map[string][]string {
	t.Helper()
	var queries []string
	for _, r := range rules.Rules(readRules(t, "prometheus/rules/*.yml")) {
		queries = append(queries, r.Queries()...)
	}
	names, err := fs.Glob(ops.FS, "runbooks/*.md")
	require.NoError(t, err)
	for _, name := range names {
		text, err := fs.ReadFile(ops.FS, name)
		require.NoError(t, err)
		queries = append(queries, rules.RunbookQueries(string(text))...)
	}
	asked := map[string][]string{}
	for _, q := range queries {
		p := grafana.Parse(q)
		for _, s := range p.Selectors {
			if strings.HasPrefix(s.Metric, "otelcol_") {
				asked[s.Metric] = slices.Concat(asked[s.Metric], s.Labels, p.Grouping)
			}
		}
	}
	return asked
}

// failedSpan is of a trace that is kept.
func failedSpan(trace uint64) *tracepb.Span {
	return &tracepb.Span{
		TraceId: binary.BigEndian.AppendUint64(make([]byte, 8, 16), trace), SpanId: binary.BigEndian.AppendUint64(nil, trace),
		Name: "charge", Status: &tracepb.Status{Code: tracepb.Status_STATUS_CODE_ERROR},
	}
}

// counted returns those of its metrics that are above 0.
func (c collector) counted(t *testing.T) map[string]*dto.MetricFamily {
	t.Helper()
	answer, err := http.Get("http://" + c.metrics + "/metrics")
	require.NoError(t, err)
	defer func() { _ = answer.Body.Close() }()
	text, err := io.ReadAll(answer.Body)
	require.NoError(t, err)
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(strings.NewReader(string(text)))
	require.NoError(t, err)
	maps.DeleteFunc(families, func(_ string, f *dto.MetricFamily) bool {
		return !slices.ContainsFunc(f.GetMetric(), func(m *dto.Metric) bool { return m.GetCounter().GetValue() > 0 })
	})
	return families
}

func hasLabel(f *dto.MetricFamily, name string) bool {
	return slices.ContainsFunc(f.GetMetric(), func(m *dto.Metric) bool {
		return slices.ContainsFunc(m.GetLabel(), func(l *dto.LabelPair) bool { return l.GetName() == name })
	})
}
