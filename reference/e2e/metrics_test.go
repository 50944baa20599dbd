package e2e_test

import (
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"github.com/stretchr/testify/require"

	orderv1 "github.com/slipwayhq/slipway/gen/slipway/order/v1"
	"github.com/slipwayhq/slipway/ops"
	"github.com/slipwayhq/slipway/ops/grafana"
	"github.com/slipwayhq/slipway/ops/rules"
)

// published are the names that keep to what they are known by, although gauges should not end so.
var published = []string{"outbox_unsent_events_total", "saga_stuck_total"}

// budget is how many series a metric of one replica may have; a histogram counts once for each set of
// labels. More is for those that say so: each has a label for the RPC method, or one for each outcome.
const budget = 40

var largeBudgets = map[string]int{
	"grpc_server_handled_total":     220, // 17 codes for each method
	"grpc_client_handled_total":     220,
	"payment_provider_call_seconds": 60,
}

// wholeBudget is how many series, each bucket counted, one replica may have in all.
const wholeBudget = 2000

// targetLabels are added to every series when it is scraped.
var targetLabels = []string{"job", "instance", "service"}

// foreign are the metrics of others that rules may name, with their labels.
var foreign = map[string][]string{
	"up": nil, // Prometheus, of each target
	// postgres_exporter, collectors stat_activity and settings; backend_type since 0.12.
	"pg_stat_activity_count":                     {"server", "datname", "state", "backend_type"},
	"pg_settings_max_connections":                {"server"},
	"pg_settings_superuser_reserved_connections": {"server"},
	// The collector's own telemetry, of the exporters and of the tail sampling, there once something is
	// lost: ops, TestCollector_countsWhatItLoses.
	"otelcol_exporter_send_failed_spans_total":                               {"exporter"},
	"otelcol_exporter_send_failed_log_records_total":                         {"exporter"},
	"otelcol_exporter_enqueue_failed_spans_total":                            {"exporter"},
	"otelcol_exporter_enqueue_failed_log_records_total":                      {"exporter"},
	"otelcol_processor_tail_sampling_sampling_trace_dropped_too_early_total": nil,
}

// TestMetrics looks at what the three services really export, after an order has gone through them.
func TestMetrics(t *testing.T) {
	t.Parallel()
	exported := map[string]map[string]*dto.MetricFamily{} // by service and name
	for name, text := range scraped(t) {
		parser := expfmt.NewTextParser(model.UTF8Validation)
		families, err := parser.TextToMetricFamilies(strings.NewReader(text))
		require.NoError(t, err, name)
		exported[name] = families

		t.Run(name+" names its metrics well", func(t *testing.T) {
			t.Parallel()
			problems, err := promlint.New(strings.NewReader(text)).Lint()
			require.NoError(t, err)
			for _, p := range problems {
				if !slices.Contains(published, p.Metric) {
					t.Errorf("%s: %s", p.Metric, p.Text)
				}
			}
		})
		t.Run(name+" stays within the budget of series", func(t *testing.T) {
			t.Parallel()
			for metric, f := range families {
				require.LessOrEqual(t, len(f.GetMetric()), max(budget, largeBudgets[metric]), metric)
			}
			require.LessOrEqual(t, samples(text), wholeBudget)
		})
	}
	known := map[string][]string{}
	for metric, labels := range foreign {
		known[metric] = slices.Concat(labels, targetLabels)
	}
	for _, families := range exported {
		for _, f := range families {
			add(known, f)
		}
	}
	files, err := rules.Read(ops.FS, "prometheus/rules/*.yml")
	require.NoError(t, err)
	for _, r := range rules.Rules(files) {
		for _, query := range r.Queries() {
			require.Empty(t, unknown(known, query), r.Name())
		}
		if r.Record != "" {
			known[r.Record] = slices.Concat(grafana.Parse(r.Expr).Grouping, targetLabels)
		}
	}
	names, err := fs.Glob(ops.FS, "runbooks/*.md")
	require.NoError(t, err)
	for _, name := range names {
		text, err := fs.ReadFile(ops.FS, name)
		require.NoError(t, err)
		for _, query := range rules.RunbookQueries(string(text)) {
			require.Empty(t, unknown(known, query), name)
		}
	}
	t.Run("a name that nobody exports is noticed", func(t *testing.T) {
		t.Parallel()
		for _, broken := range []string{
			`outbox_unsent > 1`, `rate(grpc_server_handling_seconds[5m])`, `outbox_unsent_events_total{topic="x"}`, `sum by (pod) (up)`,
		} {
			require.NotEmpty(t, unknown(known, broken), broken)
		}
		require.Empty(t, unknown(known, `sum by (le, sink) (rate(outbox_publish_latency_seconds_bucket{job="slipway"}[5m]))`))
	})
}

// scraped returns the metrics of each service, after an order has gone through all of them.
func scraped(t *testing.T) map[string]string {
	t.Helper()
	s := &shop{system: newSystem(t), programs: binaries, groups: map[string]*group{}, initial: map[string]int64{}, ledger: filepath.Join(t.TempDir(), "ledger.jsonl")}
	const loud = "LOG_LEVEL=info" // it says where it serves metrics
	s.startProvider(t)
	s.add(t, "payment", 1, "PROVIDER_URL="+s.providerURL(t), loud)
	s.add(t, "inventory", 1, loud)
	s.add(t, "order", 1, "REDIS_URL=redis://"+s.redis.Addr(), loud,
		"INVENTORY_TARGET="+s.groups["inventory"].front.addr(), "PAYMENT_TARGET="+s.groups["payment"].front.addr())
	client := s.orders(t)
	placed, err := client.PlaceOrder(t.Context(), wants("metrics-of-all", "tok_ok", 1))
	require.NoError(t, err)
	// There is no stock, so that it is undone as well.
	require.Equal(t, orderv1.OrderStatus_ORDER_STATUS_CANCELLED, outcome(t, client, placed.GetOrder().GetId()).GetStatus())
	texts := map[string]string{}
	for name, g := range s.groups {
		texts[name] = g.replicas[0].run.get(t, "/metrics")
	}
	return texts
}

// samples counts the lines that are no comment.
func samples(text string) (n int) {
	for line := range strings.Lines(text) {
		if !strings.HasPrefix(line, "#") {
			n++
		}
	}
	return n
}

// add notes the labels of a metric, under the names by which it is asked for.
func add(known map[string][]string, f *dto.MetricFamily) {
	names := []string{f.GetName()}
	extra := slices.Clone(targetLabels)
	if f.GetType() == dto.MetricType_HISTOGRAM {
		names = []string{f.GetName() + "_bucket", f.GetName() + "_sum", f.GetName() + "_count"}
		extra = append(extra, "le")
	}
	for _, m := range f.GetMetric() {
		for _, l := range m.GetLabel() {
			extra = append(extra, l.GetName())
		}
	}
	slices.Sort(extra)
	for _, name := range names {
		known[name] = slices.Compact(slices.Sorted(slices.Values(slices.Concat(known[name], extra))))
	}
}

// unknown lists what an expression names and nobody exports.
func unknown(known map[string][]string, expr string) (problems []string) {
	p := grafana.Parse(expr)
	var all []string
	for _, s := range p.Selectors {
		labels, ok := known[s.Metric]
		if !ok {
			problems = append(problems, "there is no metric "+s.Metric)
		}
		for _, l := range s.Labels {
			if !slices.Contains(labels, l) {
				problems = append(problems, s.Metric+" has no label "+l)
			}
		}
		all = append(all, labels...)
	}
	for _, l := range p.Grouping {
		if !slices.Contains(all, l) {
			problems = append(problems, "no metric has the label "+l)
		}
	}
	return problems
}
