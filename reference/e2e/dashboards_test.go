package e2e_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/slipwayhq/slipway/ops/grafana"
)

// TestDashboards asks Prometheus and Loki everything that the dashboards ask, while the system is in
// use. Each query must have an answer, unless its panel says that an empty one is healthy (noValue); and
// every metric, label and value that it names must be there in any case.
func TestDashboards(t *testing.T) {
	dev := startDev(t)
	if dev.components["prometheus"] == "" {
		t.Skip("no prometheus on this machine: install it, or build it with: make stack")
	}
	dev.shop(t, 10)
	dashboards, err := grafana.Dashboards()
	require.NoError(t, err)
	var open []grafana.Query
	skipped := map[string]int{} // by reason
	for _, d := range dashboards {
		for _, q := range d.Queries() {
			if why := dev.unanswerable(t, q); why != "" {
				skipped[why]++
				continue
			}
			open = append(open, bind(q))
		}
	}
	all, wrong := len(open), map[string][]string{} // by query
	assert.Eventually(t, func() bool {             // a rate needs two scrapes
		open = slices.DeleteFunc(open, func(q grafana.Query) bool {
			wrong[q.From] = dev.ask(t, q)
			return len(wrong[q.From]) == 0
		})
		return len(open) == 0
	}, 3*patience, time.Second)
	for _, q := range open {
		t.Errorf("%s: %s\n\t%s", q.From, strings.Join(wrong[q.From], "; "), q.Expr)
	}
	t.Logf("%d of %d queries have been answered", all-len(open), all)
	for why, n := range skipped {
		t.Run(why, func(t *testing.T) { t.Skipf("%d queries are not asked: %s", n, why) })
	}
	t.Run("a name that does not exist is noticed", func(t *testing.T) {
		dev.requireRefused(t)
	})
}

// bind chooses everything and the least window that Grafana would.
func bind(q grafana.Query) grafana.Query {
	return q.Expand(map[string]string{"service": ".+", "instance": ".+", "server": ".+", "__rate_interval": "1m"})
}

var jobs = regexp.MustCompile(`job="([a-z]+)"`)

// components maps a job of Prometheus to what it scrapes.
var components = map[string]string{"postgres": "postgres_exporter"}

// unanswerable says what is missing on this machine to answer q.
func (d *devSystem) unanswerable(t *testing.T, q grafana.Query) string {
	t.Helper()
	need := []string{q.Source}
	for _, m := range jobs.FindAllStringSubmatch(q.Expr, -1) {
		if name := m[1]; name != "slipway" {
			need = append(need, name)
		}
	}
	if q.Source == "loki" {
		need = append(need, "otelcol")
	}
	for _, name := range need {
		if other, ok := components[name]; ok {
			name = other
		}
		if d.components[name] == "" {
			return "no " + name + " on this machine: build it with: make stack"
		}
	}
	switch {
	case strings.Contains(q.Expr, "backend_type") && !d.exports(t, "backend_type="):
		return "the postgres_exporter of this machine knows no backend_type: build a later one with: make stack"
	case strings.Contains(q.Expr, "otelcol_exporter_queue") && d.components["loki"] == "" && d.components["tempo"] == "":
		return "without loki and tempo the collector has no queues: build them with: make stack"
	}
	return ""
}

// exports tells whether the metrics of PostgreSQL have something.
func (d *devSystem) exports(t *testing.T, text string) (has bool) {
	t.Helper()
	require.Eventually(t, func() bool {
		metrics, ok := d.fetch(t, d.components["postgres_exporter"]+"/metrics")
		has = strings.Contains(string(metrics), text)
		return ok && strings.Contains(string(metrics), "pg_stat_activity_count")
	}, patience, 100*time.Millisecond)
	return has
}

// requireRefused asks for what is not there.
func (d *devSystem) requireRefused(t *testing.T) {
	t.Helper()
	const good = `sum by (service) (rate(grpc_server_handled_total{job="slipway", grpc_code="OK"}[1m]))`
	require.Empty(t, d.ask(t, grafana.Query{Source: "prometheus", Expr: good, Legend: "{{service}}"}))
	for _, change := range [][2]string{
		{"grpc_server_handled_total", "grpc_server_handled"},
		{"grpc_code=", "code="},
		{`"OK"`, `"Fine"`},
		{"by (service)", "by (app)"},
	} {
		broken := strings.Replace(good, change[0], change[1], 1)
		for _, mayBeEmpty := range []bool{false, true} {
			require.NotEmpty(t, d.ask(t, grafana.Query{Source: "prometheus", Expr: broken, MayBeEmpty: mayBeEmpty}), broken)
		}
	}
	require.NotEmpty(t, d.ask(t, grafana.Query{Source: "prometheus", Expr: good, Legend: "{{app}}"}))
	require.NotEmpty(t, d.ask(t, grafana.Query{Source: "prometheus", Expr: good + " > 1e9"}))
	require.NotEmpty(t, d.ask(t, grafana.Query{Source: "prometheus", Expr: good + ")"}))
	if d.components["loki"] == "" {
		return
	}
	for _, broken := range []string{`{service="order"}`, `{service_name="order"} | sagas!=""`, `{service_name=~".*"}`, `{service_name="order"`} {
		require.NotEmpty(t, d.ask(t, grafana.Query{Source: "loki", Expr: broken, MayBeEmpty: true}), broken)
	}
}

// ask returns what is wrong with a query or its answer.
func (d *devSystem) ask(t *testing.T, q grafana.Query) []string {
	t.Helper()
	if q.Source == "loki" {
		return d.askLoki(t, q)
	}
	p := grafana.Parse(q.Expr)
	var problems []string
	known := map[string]bool{}
	for _, s := range p.Selectors {
		if s.Metric == "ALERTS" {
			s.Text = s.Metric // which alerts fire is not for the dashboards to say
		}
		all, err := d.series(t, s.Metric)
		if err == nil && len(all) == 0 {
			err = fmt.Errorf("there is no metric %s", s.Metric)
		}
		if err != nil {
			return []string{err.Error()}
		}
		labels := labelsOf(all)
		problems = append(problems, absent(labels, s.Labels, s.Metric+" has no label %s")...)
		if some, err := d.series(t, s.Text); err != nil || len(some) == 0 {
			problems = append(problems, fmt.Sprintf("there is no %s (%v)", s.Text, err))
		}
		maps.Copy(known, labels)
	}
	problems = append(problems, absent(known, append(p.Grouping, q.LegendLabels()...), "no metric of it has the label %s")...)
	answer, err := d.answer(t, q)
	if err != nil {
		return append(problems, err.Error())
	}
	if len(answer) == 0 && !q.MayBeEmpty {
		problems = append(problems, "the answer is empty")
	}
	if len(answer) > 0 {
		problems = append(problems, absent(labelsOf(answer), q.LegendLabels(), "the answer has no label %s")...)
	}
	return problems
}

func absent(known map[string]bool, wanted []string, format string) []string {
	var problems []string
	for _, label := range wanted {
		if !known[label] && label != "le" {
			problems = append(problems, fmt.Sprintf(format, label))
		}
	}
	return problems
}

// labelsOf returns the labels that any of the series has.
func labelsOf(series []map[string]string) map[string]bool {
	known := map[string]bool{}
	for _, s := range series {
		for label := range s {
			known[label] = true
		}
	}
	return known
}

// series returns the series that a selector finds at present.
func (d *devSystem) series(t *testing.T, selector string) ([]map[string]string, error) {
	t.Helper()
	var found []map[string]string
	err := d.get(t, "prometheus", "/api/v1/series", url.Values{"match[]": {selector}}, &found)
	return found, err
}

// answer returns the series of the last minutes in which q has a value.
func (d *devSystem) answer(t *testing.T, q grafana.Query) ([]map[string]string, error) {
	t.Helper()
	now := time.Now()
	var data struct {
		Result []struct {
			Metric map[string]string
			Values [][2]any
		}
	}
	err := d.get(t, "prometheus", "/api/v1/query_range", url.Values{
		"query": {q.Expr}, "step": {"15"}, "start": {unix(now.Add(-5 * time.Minute))}, "end": {unix(now)},
	}, &data)
	var found []map[string]string
	for _, r := range data.Result {
		if slices.ContainsFunc(r.Values, func(v [2]any) bool { return v[1] != "NaN" }) {
			found = append(found, r.Metric)
		}
	}
	return found, err
}

func unix(at time.Time) string { return strconv.FormatInt(at.Unix(), 10) }

// rare are fields of log lines that only trouble makes, so that there may be none.
var rare = []string{"breaker"}

// field is a condition on a field of a line, in the pipeline of a query of Loki.
var field = regexp.MustCompile(`(\w+)\s*(?:=~|!~|!=|=)\s*"`)

// askLoki demands that the streams exist, and lines with each of the fields. The lines that the
// panel shows are of trouble.
func (d *devSystem) askLoki(t *testing.T, q grafana.Query) []string {
	t.Helper()
	var labels []string
	if err := d.get(t, "loki", "/loki/api/v1/labels", nil, &labels); err != nil {
		return []string{err.Error()}
	}
	_, pipeline, _ := strings.Cut(q.Expr, "}")
	var problems []string
	for _, s := range grafana.Parse(strings.TrimSuffix(q.Expr, pipeline)).Selectors {
		for _, label := range s.Labels {
			if !slices.Contains(labels, label) {
				problems = append(problems, "no stream has the label "+label)
			}
		}
	}
	for _, m := range field.FindAllStringSubmatch(pipeline, -1) {
		if n, err := d.lines(t, `{service_name=~".+"} | `+m[1]+`!=""`); (err != nil || n == 0) && !slices.Contains(rare, m[1]) {
			problems = append(problems, fmt.Sprintf("no line has the field %s (%v)", m[1], err))
		}
	}
	n, err := d.lines(t, q.Expr)
	if err != nil {
		return append(problems, err.Error())
	}
	if n == 0 && !q.MayBeEmpty {
		problems = append(problems, "the answer is empty")
	}
	return problems
}

// lines counts what a query of Loki finds, up to a few.
func (d *devSystem) lines(t *testing.T, expr string) (int, error) {
	t.Helper()
	var data struct{ Result []struct{ Values []any } }
	err := d.get(t, "loki", "/loki/api/v1/query_range", url.Values{"query": {expr}, "limit": {"5"}, "since": {"30m"}}, &data)
	n := 0
	for _, r := range data.Result {
		n += len(r.Values)
	}
	return n, err
}

// get asks a component of the stack.
func (d *devSystem) get(t *testing.T, component, path string, query url.Values, data any) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, d.components[component]+path+"?"+query.Encode(), nil)
	require.NoError(t, err)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	var envelope struct {
		Status string
		Data   json.RawMessage
	}
	if err := json.Unmarshal(text, &envelope); err != nil || envelope.Status != "success" {
		return fmt.Errorf("%s answers %s: %s", component, resp.Status, text)
	}
	return json.Unmarshal(envelope.Data, data)
}
