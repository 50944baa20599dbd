package timescale_test

import (
	"io/fs"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/slipwayhq/slipway/cmd/slipway/internal/timescale"
	"github.com/slipwayhq/slipway/ops"
)

func TestExpr(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		`up == 0`:                                       `up == 0`,
		`rate(x[5m]) > 0.05`:                            `rate(x[5s]) > 0.05`,
		`max_over_time(x[10m:1m])`:                      `max_over_time(x[10s:1s])`,
		`x[1h:]`:                                        `x[1m:]`,
		`rate(x{a="[5m]"}[30m])`:                        `rate(x{a="[5m]"}[30s])`,
		"rate(x{a='it\\'s [1h]',b=`[\\`}[1h])":          "rate(x{a='it\\'s [1h]',b=`[\\`}[1m])",
		`x offset 1h - y offset -2h`:                    `x offset 1m - y offset -2m`,
		`offset_total[1h]`:                              `offset_total[1m]`,
		`instance:x:rate5m offset 5m > 300`:             `instance:x:rate5m offset 5s > 300`,
		`rate(x[1m])`:                                   `rate(x[5s])`, // no shorter
		`rate(x[3s])`:                                   `rate(x[3s])`,
		"x # in [5m]\n> y[5m]":                          "x # in [5m]\n> y[5s]",
		`max by (service) (x[3d]) > 1 and x[1d12h] > 0`: `max by (service) (x[1h12m]) > 1 and x[36m] > 0`,
	} {
		got, err := timescale.Expr(in, 60)
		require.NoError(t, err, in)
		require.Equal(t, want, got, in)
	}
	for _, bad := range []string{`x[5m`, `x[five]`, `x offset y`} {
		_, err := timescale.Expr(bad, 60)
		require.ErrorContains(t, err, bad)
	}
}

func TestDuration(t *testing.T) {
	t.Parallel()
	require.Equal(t, 5*time.Second, timescale.Duration(5*time.Minute, 60, time.Second))
	require.Equal(t, time.Second, timescale.Duration(15*time.Second, 60, time.Second))
	require.Equal(t, 500*time.Millisecond, timescale.Duration(500*time.Millisecond, 60, time.Second), "what is shorter already stays")
}

func TestFile(t *testing.T) {
	t.Parallel()
	rules := `groups:
- name: a
  interval: 1m
  rules:
  - alert: A
    expr: rate(x[5m]) > 1
    for: 3m
    keep_firing_for: 10m
    labels:
      for: 5m
    annotations:
      summary: over [5m]
`
	scaled, err := timescale.File("prometheus/rules/a.yml", []byte(rules), 60)
	require.NoError(t, err)
	require.YAMLEq(t, `groups:
- name: a
  interval: 1s
  rules:
  - {alert: A, expr: 'rate(x[5s]) > 1', for: 3s, keep_firing_for: 10s, labels: {for: 5m}, annotations: {summary: 'over [5m]'}}
`, string(scaled))

	routes, err := timescale.File("alertmanager/alertmanager.yml", []byte("route: {group_wait: 30s, routes: [{group_interval: 5m, repeat_interval: 4h}]}"), 60)
	require.NoError(t, err)
	require.YAMLEq(t, "route: {group_wait: 500ms, routes: [{group_interval: 5s, repeat_interval: 4m}]}", string(routes))

	for name, text := range map[string]string{"prometheus/rules/a.yml": rules, "loki/loki.yml": "a: 5m"} {
		same, err := timescale.File(name, []byte(text), map[bool]float64{true: 1, false: 60}[name != "loki/loki.yml"])
		require.NoError(t, err)
		require.Equal(t, text, string(same), name)
	}
	for _, bad := range []string{"a: [", "for: soon"} {
		_, err := timescale.File("prometheus/rules/a.yml", []byte(bad), 60)
		require.ErrorContains(t, err, "prometheus/rules/a.yml")
	}
}

// What is shipped can be scaled.
func TestFile_ops(t *testing.T) {
	t.Parallel()
	files := 0
	require.NoError(t, fs.WalkDir(ops.FS, ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		text, err := fs.ReadFile(ops.FS, name)
		require.NoError(t, err)
		_, err = timescale.File(name, text, 60)
		files++
		return err
	}))
	require.Positive(t, files)
}
