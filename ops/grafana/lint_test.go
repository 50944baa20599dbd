package grafana_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/slipwayhq/slipway/ops/grafana"
)

// lint lists what is wrong with a dashboard, whose JSON is text.
func lint(text []byte) []string {
	var d grafana.Dashboard
	if err := json.Unmarshal(text, &d); err != nil {
		return []string{err.Error()}
	}
	l := &linter{dashboard: d}
	l.head()
	for _, p := range d.Panels {
		l.panel(p)
	}
	for _, q := range d.Queries() {
		l.query(q)
	}
	l.grid()
	l.variables(string(text))
	return l.problems
}

type linter struct {
	dashboard grafana.Dashboard
	problems  []string
}

func (l *linter) demand(ok bool, format string, args ...any) {
	if !ok {
		l.problems = append(l.problems, fmt.Sprintf(format, args...))
	}
}

// schemaVersion is that of Grafana 11.6; a newer Grafana brings it up to date by itself.
const schemaVersion = 41

func (l *linter) head() {
	d := l.dashboard
	l.demand(d.Title != "" && d.Description != "", "the dashboard has no title or no description")
	l.demand(slices.Contains(d.Tags, "slipway"), "the tag slipway is missing: the others do not link here")
	l.demand(d.SchemaVersion >= schemaVersion, "schemaVersion %d is below %d", d.SchemaVersion, schemaVersion)
	for _, a := range d.Annotations.List {
		if a.BuiltIn == 0 {
			l.source("annotation "+a.Name, a.Datasource)
		}
	}
	ids := map[int]bool{}
	for _, p := range d.Panels {
		l.demand(p.ID > 0 && !ids[p.ID], "%s: the id %d is not the only one", p.Title, p.ID)
		ids[p.ID] = true
	}
}

func (l *linter) panel(p grafana.Panel) {
	l.demand(p.Title != "", "panel %d has no title", p.ID)
	if p.Type == "row" {
		return
	}
	l.demand(slices.Contains([]string{"timeseries", "stat", "logs"}, p.Type), "%s: the type %q is not among ours", p.Title, p.Type)
	l.demand(p.FieldConfig.Defaults.Unit != "", "%s: no unit", p.Title)
	l.demand(strings.HasSuffix(p.Description, "."), "%s: no description, or no sentence", p.Title)
	l.source(p.Title, p.Datasource)
	l.demand(len(p.Targets) > 0, "%s: asks nothing", p.Title)
	refs := map[string]bool{}
	for _, t := range p.Targets {
		l.demand(t.RefID != "" && !refs[t.RefID], "%s: the refId %q is not the only one", p.Title, t.RefID)
		l.demand(t.LegendFormat != "" || p.Type == "logs", "%s: %s has no legend", p.Title, t.RefID)
		refs[t.RefID] = true
	}
}

// source demands a variable, so that a Grafana with other data sources can be chosen from.
func (l *linter) source(at string, d grafana.Datasource) {
	l.demand(slices.Contains([]string{"prometheus", "loki"}, d.Type) && d.UID == "${"+d.Type+"}", "%s: the data source is %+v", at, d)
}

func (l *linter) query(q grafana.Query) {
	p := grafana.Parse(q.Expr)
	l.demand(len(p.Selectors) > 0, "%s: no metric in %s", q.From, q.Expr)
	if q.Source == "loki" {
		l.demand(strings.HasPrefix(q.Expr, `{service_name=~"$service"`), "%s: no selector on service_name", q.From)
		return
	}
	for _, s := range p.Selectors {
		l.demand(s.Metric != "", "%s: %s names no metric", q.From, s.Text)
		l.demand(s.Metric == "ALERTS" || slices.Contains(s.Labels, "job") || slices.Contains(s.Labels, "service"), "%s: %s has no selector on job or service", q.From, s.Metric)
		l.demand(!slices.Contains([]string{"rate", "irate", "deriv", "changes"}, s.Function) || s.Range == "$__rate_interval",
			"%s: the window of %s over %s is %q, not $__rate_interval", q.From, s.Function, s.Metric, s.Range)
	}
	l.demand(!slices.Contains(p.Functions, "histogram_quantile") || slices.Contains(p.Grouping, "le"), "%s: a quantile without by (le)", q.From)
	for _, label := range q.LegendLabels() {
		l.demand(len(p.Grouping) == 0 || slices.Contains(p.Grouping, label), "%s: the legend shows %s, which the query aggregates away", q.From, label)
	}
}

// columns is the width of Grafana's grid.
const columns = 24

func (l *linter) grid() {
	taken := map[[2]int]string{}
	for _, p := range l.dashboard.Panels {
		g := p.GridPos
		l.demand(g.W > 0 && g.H > 0 && g.X >= 0 && g.X+g.W <= columns, "%s: is not on the grid", p.Title)
		for x := g.X; x < g.X+g.W; x++ {
			for y := g.Y; y < g.Y+g.H; y++ {
				if other, ok := taken[[2]int{x, y}]; ok {
					l.demand(false, "%s: overlaps %s", p.Title, other)
					x, y = columns, g.Y+g.H // one complaint is enough
				}
				taken[[2]int{x, y}] = p.Title
			}
		}
	}
}

var reference = regexp.MustCompile(`\$\{?([a-zA-Z]\w*)`)

func (l *linter) variables(text string) {
	defined := map[string]bool{}
	for _, v := range l.dashboard.Templating.List {
		defined[v.Name] = true
		switch v.Type {
		case "datasource":
			l.demand(v.Current.Value == v.Name, "$%s: the default is not the data source %s", v.Name, v.Name)
		case "query":
			_, _, ok := v.Values()
			l.demand(ok, "$%s: is not of the form label_values(series, label)", v.Name)
			l.source("$"+v.Name, v.Datasource)
			l.demand(v.AllValue == ".+", "$%s: allValue is not .+, which Loki takes too", v.Name)
		default:
			l.demand(false, "$%s: the type %q is not among ours", v.Name, v.Type)
		}
	}
	used := map[string]bool{}
	for _, m := range reference.FindAllStringSubmatch(text, -1) {
		used[m[1]] = true
		l.demand(defined[m[1]], "$%s is not defined", m[1])
	}
	for name := range defined {
		l.demand(used[name], "$%s is not used", name)
	}
}

func TestDashboards(t *testing.T) {
	t.Parallel()
	dashboards, err := grafana.Dashboards()
	require.NoError(t, err)
	for i, file := range files(t) {
		t.Run(filepath.Base(file), func(t *testing.T) {
			t.Parallel()
			text, err := os.ReadFile(file)
			require.NoError(t, err)
			require.Equal(t, dashboards[i].UID+".json", filepath.Base(file))
			require.Empty(t, lint(text))
		})
	}
}

// TestLint breaks a dashboard in each way that the linter is there for.
func TestLint(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("dashboards/saga.json")
	require.NoError(t, err)
	for _, m := range []struct{ old, broken, complaint string }{
		{`"schemaVersion": 41`, `"schemaVersion": 16`, "schemaVersion 16 is below"},
		{`"tags": ["slipway"]`, `"tags": []`, "the tag slipway is missing"},
		{`"id": 2,`, `"id": 1,`, "the id 1 is not the only one"},
		{`"unit": "short"`, `"unit": ""`, "no unit"},
		{`"title": "Stuck"`, `"title": ""`, "has no title"},
		{`"description": "Age of`, `"description": "", "was": "Age of`, "no description"},
		{`"type": "stat"`, `"type": "graph"`, `the type "graph" is not among ours`},
		{`"uid": "${prometheus}"`, `"uid": "PBFA97CFB590B2093"`, "the data source is"},
		{`"refId": "B"`, `"refId": "A"`, `the refId "A" is not the only one`},
		{`"legendFormat": "sagas"`, `"legendFormat": ""`, "has no legend"},
		{`{job=\"slipway\", service=~\"$service\", instance=~\"$instance\"}`, ``, "has no selector on job or service"},
		{`[$__rate_interval]`, `[5m]`, `is "5m", not $__rate_interval`},
		{`by (le, `, `by (`, "a quantile without by (le)"},
		{`{{saga}} {{state}}`, `{{sage}} {{state}}`, "the legend shows sage"},
		{`{"h": 4, "w": 4, "x": 4, "y": 0}`, `{"h": 4, "w": 4, "x": 3, "y": 0}`, "Stuck: overlaps Not over"},
		{`{"h": 4, "w": 4, "x": 20, "y": 0}`, `{"h": 4, "w": 5, "x": 20, "y": 0}`, "is not on the grid"},
		{`{service_name=~\"$service\", `, `{`, "no selector on service_name"},
		{`service=~\"$service\"`, `service=~\"$services\"`, "$services is not defined"},
		{`"name": "instance"`, `"name": "replica"`, "$replica is not used"},
		{`"allValue": ".+"`, `"allValue": ".*"`, "allValue is not .+"},
		{`"query": "label_values(`, `"query": "metrics(`, "is not of the form label_values"},
		{`"value": "prometheus"`, `"value": "mimir"`, "the default is not the data source prometheus"},
	} {
		t.Run(m.complaint, func(t *testing.T) {
			t.Parallel()
			require.Contains(t, string(text), m.old)
			require.Contains(t, strings.Join(lint([]byte(strings.Replace(string(text), m.old, m.broken, 1))), "\n"), m.complaint)
		})
	}
}

func files(t *testing.T) []string {
	t.Helper()
	found, err := filepath.Glob("dashboards/*.json")
	require.NoError(t, err)
	require.NotEmpty(t, found)
	return found
}
