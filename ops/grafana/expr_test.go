package grafana_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/slipwayhq/slipway/ops/grafana"
)

func TestParse(t *testing.T) {
	t.Parallel()

	t.Run("tells metrics from functions, labels and texts", func(t *testing.T) {
		t.Parallel()
		p := grafana.Parse(`histogram_quantile(0.95, sum by (le, service) (rate(a_bucket{job="x", code=~"A{2}|sum(b)"}[$__rate_interval])))
			/ on (service) group_left (team) (max(b) without (instance) > 1e3) and c:d:rate5m offset 5m or vector(0)`)
		require.Equal(t, []grafana.Selector{
			{Text: `a_bucket{job="x", code=~"A{2}|sum(b)"}`, Metric: "a_bucket", Labels: []string{"job", "code"}, Range: "$__rate_interval", Function: "rate"},
			{Text: "b", Metric: "b", Function: "max"},
			{Text: "c:d:rate5m", Metric: "c:d:rate5m"},
		}, p.Selectors)
		require.Equal(t, []string{"le", "service", "service", "team", "instance"}, p.Grouping)
		require.Equal(t, []string{"histogram_quantile", "sum", "rate", "max", "vector"}, p.Functions)
	})

	t.Run("takes a metric before a matching for a metric", func(t *testing.T) {
		t.Parallel()
		p := grafana.Parse("a / on (x) b and ignoring (y) c")
		require.Len(t, p.Selectors, 3)
		require.Empty(t, p.Functions)
	})

	t.Run("finds labels without a metric", func(t *testing.T) {
		t.Parallel()
		require.Equal(t, []grafana.Selector{{Text: `{service="a"}`, Labels: []string{"service"}}}, grafana.Parse(`{service="a"}`).Selectors)
	})
}

func TestQuery_LegendLabels(t *testing.T) {
	t.Parallel()
	require.Equal(t, []string{"service", "pool"}, grafana.Query{Legend: "{{service}} of {{ pool }}"}.LegendLabels())
}

func TestVariable_Values(t *testing.T) {
	t.Parallel()
	selector, label, ok := grafana.Variable{Type: "query", Query: []byte(`{"query": "label_values(up{job=\"a\", b=\"c\"}, service)"}`)}.Values()
	require.True(t, ok)
	require.Equal(t, `up{job="a", b="c"}`, selector)
	require.Equal(t, "service", label)
}
