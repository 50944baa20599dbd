package ops_test

import (
	"context"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/stretchr/testify/require"

	"github.com/slipwayhq/slipway/ops"
	"github.com/slipwayhq/slipway/ops/rules"
)

const runbookURL = "https://github.com/slipwayhq/slipway/blob/main/ops/runbooks/"

// always fires, so that it can be neither silent nor over.
const always = "Watchdog"

func readRules(t *testing.T, pattern string) []rules.File {
	t.Helper()
	files, err := rules.Read(ops.FS, pattern)
	require.NoError(t, err)
	require.NotEmpty(t, files)
	return files
}

// tools finds every version of a program that is here, by where it is. Without one it skips the test.
func tools(t *testing.T, name string) map[string]string {
	t.Helper()
	found := map[string]string{}
	for _, tool := range rules.Tools("..", name) {
		found[path.Dir(tool)] = tool
	}
	if len(found) == 0 {
		t.Skipf("no %s on this machine: install Prometheus and Alertmanager, or build them with: make stack", name)
	}
	return found
}

func newTester(t *testing.T, promtool string, files []rules.File) *rules.Tester {
	t.Helper()
	tester, err := rules.NewTester(promtool, t.TempDir(), files, os.DirFS("prometheus/tests"))
	require.NoError(t, err)
	return tester
}

func TestRules_pass(t *testing.T) {
	t.Parallel()
	files := readRules(t, "prometheus/rules/*.yml")
	for name, tool := range tools(t, "promtool") {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			passed, said, err := newTester(t, tool, files).Test(t.Context())
			require.NoError(t, err)
			require.True(t, passed, said)
		})
	}
}

// misbehaves is how promtool tells of an alert that fires and should not, or the other way round. Where
// both have alerts, labels or annotations differ.
var misbehaves = regexp.MustCompile(`exp:\[\],\s+got:\[\s+0:|\],\s+got:\[\]`)

// The expressions that these alerts are published with elsewhere, in place of ours: each fires in a case
// in which it should not, or is silent in one in which it should fire. Tried with our expression and
// another annotation.
func TestRules_publishedFail(t *testing.T) {
	t.Parallel()
	files := readRules(t, "prometheus/rules/*.yml")
	published := rules.Alerts(readRules(t, "prometheus/published.yml"))
	require.Len(t, published, 6)
	for name, tool := range tools(t, "promtool") {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tester := newTester(t, tool, files)
			for _, p := range published {
				at := slices.IndexFunc(files, func(f rules.File) bool { return f.Has(p.Alert) })
				require.GreaterOrEqual(t, at, 0, p.Alert)
				said := testWith(t, tester, files[at], p.Alert, func(r *rules.Rule) {
					require.Equal(t, p.For, r.For, "%s waits as published", p.Alert)
					r.Expr, r.KeepFiringFor = p.Expr, ""
				})
				require.Regexp(t, misbehaves, said, "%s differs only in what it says", p.Alert)
			}
		})
	}
}

// testWith demands that the tests of an alert fail once it is changed.
func testWith(t *testing.T, tester *rules.Tester, f rules.File, alert string, change func(*rules.Rule)) string {
	t.Helper()
	passed, said, err := tester.TestWith(context.WithoutCancel(t.Context()), f.For(alert).With(alert, change), alert)
	require.NoError(t, err)
	require.False(t, passed, "%s: the tests do not notice", alert)
	return said
}

func TestRules_areComplete(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for _, r := range rules.Alerts(readRules(t, "prometheus/rules/*.yml")) {
		require.False(t, seen[r.Alert], "%s is there twice", r.Alert)
		seen[r.Alert] = true
		if !strings.Contains(r.Labels["severity"], "{{") {
			require.Contains(t, []string{"page", "ticket", "none"}, r.Labels["severity"], r.Alert)
		}
		require.NotEmpty(t, r.Labels["owner"], r.Alert)
		require.NotEmpty(t, r.Annotations["summary"], r.Alert)
		require.Regexp(t, `\$value|\| value`, r.Annotations["description"], "%s: the description says how bad it is", r.Alert)
		require.Equal(t, runbookURL+r.Alert+".md", r.Annotations["runbook_url"], r.Alert)
		require.Regexp(t, "^/d/[a-z]+$", r.Annotations["dashboard"], r.Alert)
		require.Len(t, r.Annotations, 4, r.Alert)
	}
	t.Run("each has its runbook and its tests, and there are no others", func(t *testing.T) {
		t.Parallel()
		alerts := slices.Sorted(maps.Keys(seen))
		require.Equal(t, alerts, stems(t, ops.FS, "runbooks/*.md"))
		require.Equal(t, alerts, stems(t, os.DirFS("."), "prometheus/tests/*.yml"))
	})
}

// stems are the names of files without what is behind the last dot.
func stems(t *testing.T, fsys fs.FS, pattern string) []string {
	t.Helper()
	names, err := fs.Glob(fsys, pattern)
	require.NoError(t, err)
	for i, n := range names {
		names[i] = strings.TrimSuffix(path.Base(n), path.Ext(n))
	}
	slices.Sort(names)
	return names
}

// ruleTest is a case of a file of promtool's tests.
type ruleTest struct {
	Name   string
	Alerts []struct {
		At  string `yaml:"eval_time"`
		Exp []any  `yaml:"exp_alerts"`
	} `yaml:"alert_rule_test"`
	Queries []struct {
		Expr string
		Exp  []any `yaml:"exp_samples"`
	} `yaml:"promql_expr_test"`
}

// course is what the alert does in the case: f when it fires, s when it is silent.
func (c ruleTest) course() (course string) {
	for _, a := range c.Alerts {
		course += map[bool]string{true: "f", false: "s"}[len(a.Exp) > 0]
	}
	for _, q := range c.Queries {
		course += map[bool]string{true: "f", false: "s"}[len(q.Exp) > 0]
	}
	return course
}

func TestRules_areTested(t *testing.T) {
	t.Parallel()
	for _, r := range rules.Alerts(readRules(t, "prometheus/rules/*.yml")) {
		text, err := os.ReadFile("prometheus/tests/" + r.Alert + ".yml")
		require.NoError(t, err)
		var file struct{ Tests []ruleTest }
		require.NoError(t, yaml.Unmarshal(text, &file), r.Alert)
		silent, begins, ends := 0, false, false
		names := map[string]bool{}
		for _, c := range file.Tests {
			require.True(t, strings.HasPrefix(c.Name, r.Alert+" "), c.Name)
			require.False(t, names[c.Name], "%s is there twice", c.Name)
			names[c.Name] = true
			course := c.course()
			require.NotEmpty(t, course, c.Name)
			if !strings.Contains(course, "f") {
				silent++
			}
			begins = begins || strings.Contains(course, "sf")
			ends = ends || strings.Contains(course, "fs")
		}
		if r.Alert == always {
			continue
		}
		require.True(t, begins, "%s: no test is silent just before it fires", r.Alert)
		require.True(t, ends, "%s: no test sees it resolve", r.Alert)
		require.GreaterOrEqual(t, silent, 2, "%s: two cases stay silent", r.Alert)
	}
}

func TestRunbooks(t *testing.T) {
	t.Parallel()
	names, err := fs.Glob(ops.FS, "runbooks/*.md")
	require.NoError(t, err)
	for _, name := range names {
		text, err := fs.ReadFile(ops.FS, name)
		require.NoError(t, err)
		rest := string(text)
		title := "# " + strings.TrimSuffix(path.Base(name), ".md") + "\n"
		require.True(t, strings.HasPrefix(rest, title), "%s begins with its alert", name)
		for _, section := range []string{"Meaning", "Impact", "Diagnosis", "Mitigation"} {
			_, after, found := strings.Cut(rest, fmt.Sprintf("\n## %s\n", section))
			require.True(t, found, "%s has no %s, or not in its place", name, section)
			require.NotEmpty(t, strings.TrimSpace(strings.Split(after, "\n## ")[0]), "%s: %s is empty", name, section)
			rest = "\n" + after
		}
	}
}

// Prometheus understands what the runbooks ask it. Tried with a bracket left out.
func TestRunbooks_queries(t *testing.T) {
	t.Parallel()
	names, err := fs.Glob(ops.FS, "runbooks/*.md")
	require.NoError(t, err)
	all := rules.File{Groups: []rules.Group{{Name: "runbooks"}}}
	for _, name := range names {
		text, err := fs.ReadFile(ops.FS, name)
		require.NoError(t, err)
		for i, query := range rules.RunbookQueries(string(text)) {
			record := fmt.Sprintf("%s_%d", strings.TrimSuffix(path.Base(name), ".md"), i)
			all.Groups[0].Rules = append(all.Groups[0].Rules, rules.Rule{Record: record, Expr: query})
		}
	}
	text, err := yaml.Marshal(all)
	require.NoError(t, err)
	file := filepath.Join(t.TempDir(), "runbooks.yml")
	require.NoError(t, os.WriteFile(file, text, 0o644))
	for name, promtool := range tools(t, "promtool") {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			said, err := exec.Command(promtool, "check", "rules", "--lint=none", file).CombinedOutput()
			require.NoError(t, err, "%s", said)
		})
	}
}
