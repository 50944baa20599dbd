package main

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/slipwayhq/slipway/ops"
	"github.com/slipwayhq/slipway/ops/rules"
)

func texts(expr string) []string {
	var all []string
	for _, c := range changes(expr) {
		all = append(all, c.text)
	}
	return all
}

func TestChanges(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, expr string
		want       []string
	}{
		{"change a threshold and the comparison", "up > 5", []string{
			"up_other > 5", "up < 5", "up >= 5", "up > 4", "up > 6.25",
		}},
		{"leave equality to what is no whole number", "up > 0.5", []string{
			"up_other > 0.5", "up < 0.5", "up > 0.4", "up > 0.625",
		}},
		{"go to both sides of zero", "up == 0", []string{"up_other == 0", "up != 0", "up == -1", "up == 1"}},
		{"change the aggregation and each of its labels", "sum by (a, b) (x)", []string{
			"max by (a, b) (x)", "min by (a, b) (x)", "sum by (b ) (x)", "sum by (a ) (x)", "sum by (a, b) (x_other)",
		}},
		{"leave out matchers, turn them around, and shorten patterns", `x{a="1", b!~"c|d"}[5m]`, []string{
			`x_other{a="1", b!~"c|d"}[5m]`, `x{ b!~"c|d"}[5m]`, `x{a!="1", b!~"c|d"}[5m]`, `x{a="1", }[5m]`, `x{a="1", b=~"c|d"}[5m]`,
			`x{a="1", b!~"d"}[5m]`, `x{a="1", b!~"c"}[5m]`,
		}},
		{"change how sets are put together", "x unless on (a) y", []string{
			"x_other unless on (a) y", "x and on (a) y", "x unless on ( ) y", "x unless on (a) y_other",
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			require.Equal(t, c.want, texts(c.expr))
		})
	}
}

func TestMutants(t *testing.T) {
	t.Parallel()
	file := rules.File{Groups: []rules.Group{{Rules: []rules.Rule{
		{Record: "a:b", Expr: "1"}, {Alert: "A", Expr: "x", For: "5m", KeepFiringFor: "90s"},
	}}}}
	var got []string
	for _, m := range mutants(file) {
		got = append(got, m.String())
		require.NotEqual(t, file, m.file)
	}
	require.Equal(t, []string{
		`a:b: 1 -> 0.8 after "" at 0`, `a:b: 1 -> 1.25 after "" at 0`, `A: x -> x_other after "" at 0`,
		"A: for: 5m -> 2m30s", "A: keep_firing_for: 90s -> 45s", "A: for: 5m -> 10m", "A: keep_firing_for: 90s -> 3m",
	}, got)
}

func TestEquivalents(t *testing.T) {
	t.Parallel()
	files, err := rules.Read(ops.FS, "prometheus/rules/*.yml")
	require.NoError(t, err)
	known := map[string]bool{}
	for _, f := range files {
		for _, m := range mutants(f) {
			known[m.rule+": "+plain(m.what)] = true
		}
	}
	require.Greater(t, len(known), 400)
	for name := range equivalents {
		require.True(t, known[name], "there is no mutant %s", name)
	}
}
