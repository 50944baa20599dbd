// Package slipway_test holds the import laws of the tree, so that they hold without a linter.
package slipway_test

import (
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const module = "github.com/slipwayhq/slipway/"

// law says what the packages under a path may import beside the standard library and themselves.
// The most specific law for a path applies; patterns are path.Match patterns, and a trailing
// "/..." stands for everything below.
type law struct {
	scope string
	// own lists what may be imported of this module.
	own []string
	// foreign tells whether other modules may be imported; foreignOnly, if set, limits which.
	foreign     bool
	foreignOnly []string
	because     string
}

var laws = []law{
	{scope: "platform/fault", because: "errors are the vocabulary of every layer: they cost nobody a dependency"},
	{scope: "platform/failpoint", because: "it is called from everywhere"},
	{scope: "platform/saga", because: "saga definitions live beside the domain"},
	{scope: "platform/breaker", foreignOnly: []string{"github.com/sony/gobreaker/...", "github.com/prometheus/client_golang/..."}, foreign: true, because: "its core is gobreaker and the standard library"},
	{scope: "platform/config", foreign: true, own: []string{"platform/fault"}, because: "each platform package is usable alone"},
	{scope: "platform/telemetry", foreign: true, own: []string{"platform/fault", "platform/internal/..."}, because: "each platform package is usable alone"},
	{scope: "platform/health", foreign: true, own: []string{"platform/fault", "platform/internal/..."}, because: "each platform package is usable alone"},
	{scope: "platform/grpcserver", foreign: true, own: []string{"platform/failpoint", "platform/health", "platform/fault", "platform/internal/..."}, because: "the drain needs health, the error table needs fault"},
	{scope: "platform/bearer", foreign: true, own: []string{"platform/fault", "platform/grpcserver"}, because: "it is an option of the server"},
	{scope: "platform/grpcclient", foreign: true, own: []string{"platform/breaker", "platform/fault", "platform/internal/..."}, because: "each platform package is usable alone"},
	{scope: "platform/postgres", foreign: true, own: []string{"platform/failpoint", "platform/fault", "platform/internal/...", "platform/postgres/..."}, because: "each platform package is usable alone"},
	{scope: "platform/redisdb", foreign: true, own: []string{"platform/fault", "platform/internal/...", "platform/redisdb/..."}, because: "each platform package is usable alone"},
	{scope: "platform/broker", foreign: true, own: []string{"platform/failpoint", "platform/fault", "platform/internal/...", "platform/broker/..."}, because: "each platform package is usable alone"},
	{scope: "platform/outbox", foreign: true, own: []string{"platform/failpoint", "platform/fault", "platform/internal/...", "platform/postgres/...", "platform/broker"}, because: "drivers of brokers are chosen by the application"},
	{scope: "platform/inbox", foreign: true, own: []string{"platform/fault", "platform/internal/...", "platform/postgres/...", "platform/broker"}, because: "drivers of brokers are chosen by the application"},
	{scope: "platform/saga/sagatest", own: []string{"platform/saga"}, because: "a definition is tested where it lives"},
	{scope: "platform/saga/sagapg", foreign: true, own: []string{"platform/failpoint", "platform/fault", "platform/internal/...", "platform/postgres/...", "platform/saga"}, because: "each platform package is usable alone"},
	{scope: "platform/saga/barrier", foreign: true, own: []string{"platform/fault", "platform/internal/...", "platform/postgres/..."}, because: "a participant needs no saga of its own"},
	{scope: "platform/internal", foreign: true, own: []string{"platform/internal/..."}, because: "helpers know no package they help"},
	{scope: "platform/platformfx", foreign: true, own: []string{"platform/..."}, because: "the wiring knows every part"},

	{scope: "reference/*/domain", because: "business rules outlive every library"},
	{scope: "reference/*/usecase", own: []string{"reference/$1/domain", "platform/saga", "platform/fault"}, because: "use cases know ports, never technology"},
	{scope: "reference/*/adapter/*", foreign: true, own: []string{"reference/$1/domain", "reference/$1/usecase", "platform/...", "!platform/platformfx", "gen/..."}, because: "an adapter knows no other adapter"},
	{scope: "reference/*/app", foreign: true, own: []string{"reference/$1/...", "platform/...", "gen/..."}, because: "only here is a service put together"},
	{scope: "reference/*/migrations", because: "SQL files and one embed"},
	{scope: "reference/*", own: []string{"reference/$1/...", "platform/...", "gen/..."}, foreign: true, because: "services never import each other"},

	{scope: "cmd/slipway", foreign: true, own: []string{"cmd/slipway/...", "platform/...", "ops/..."}, because: "the command runs any project, not only the reference"},
	{scope: "gen", foreign: true, own: []string{"gen/..."}, because: "generated"},
}

func TestImportLaws(t *testing.T) {
	t.Parallel()
	checked := 0
	for file, imports := range importsOfTree(t) {
		dir := path.Dir(file)
		rule, service, ok := lawFor(dir)
		if !ok {
			continue
		}
		checked++
		for _, imported := range imports {
			if why := rule.breach(dir, service, imported); why != "" {
				t.Errorf("%s imports %s: %s (%s)", file, imported, why, rule.because)
			}
		}
	}
	require.Greater(t, checked, 10, "the walk found too few files: is the test run at the module's root?")
}

func TestImportLaws_breachesAreSeen(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ dir, imported string }{
		{"platform/fault", "go.uber.org/zap"},
		{"platform/telemetry", "go.uber.org/fx"},
		{"platform/telemetry", module + "platform/postgres"},
		{"platform/grpcserver", module + "platform/telemetry"},
		{"reference/order/domain", "github.com/google/uuid"},
		{"reference/order/usecase", module + "platform/postgres"},
		{"reference/order/usecase", module + "reference/payment/domain"},
		{"reference/order/adapter/grpcapi", module + "reference/order/adapter/store"},
		{"reference/order/adapter/store", module + "platform/platformfx"},
		{"reference/order/app", module + "reference/payment/app"},
		{"cmd/slipway/internal/dev", module + "reference/order/app"},
	} {
		rule, service, ok := lawFor(c.dir)
		require.True(t, ok, c.dir)
		require.NotEmpty(t, rule.breach(c.dir, service, c.imported), "%s may import %s", c.dir, c.imported)
	}
}

// heavy are modules that a user of one package must not get with it.
var heavy = map[string]string{
	"pgx": "github.com/jackc/pgx/", "redis": "github.com/redis/go-redis/", "nats": "github.com/nats-io/",
	"grpc": "google.golang.org/grpc", "fx": "go.uber.org/fx", "otlp": "go.opentelemetry.io/otel/exporters/",
	"atlas": "ariga.io/atlas", "protovalidate": "buf.build/go/protovalidate",
	"testcontainers": "github.com/testcontainers/", "miniredis": "github.com/alicebob/miniredis",
}

// TestDependencies lists what each package pulls in of the heavy modules, and fails on anything more.
func TestDependencies(t *testing.T) {
	t.Parallel()
	for pkg, want := range map[string][]string{
		"platform/fault":             {},
		"platform/config":            {},
		"platform/health":            {"grpc"},
		"platform/telemetry":         {"grpc", "otlp"}, // the OTLP exporter speaks gRPC
		"platform/grpcserver":        {"grpc", "protovalidate"},
		"platform/bearer":            {"grpc", "protovalidate"},
		"platform/breaker":           {},
		"platform/grpcclient":        {"grpc"},
		"platform/postgres":          {"pgx"},
		"platform/postgres/migrate":  {"atlas", "pgx"},
		"platform/postgres/pgserver": {},
		"platform/broker":            {},
		"platform/broker/nats":       {"nats"},
		"platform/outbox":            {"atlas", "pgx"},
		"platform/inbox":             {"atlas", "pgx"},
		"platform/saga":              {},
		"platform/saga/sagatest":     {},
		"platform/saga/barrier":      {"atlas", "pgx"},
		"platform/saga/sagapg":       {"atlas", "pgx"},
		"platform/redisdb":           {"redis"},
		"cmd/slipway":                {"atlas", "grpc", "miniredis", "nats", "pgx"},
	} {
		t.Run(pkg, func(t *testing.T) {
			t.Parallel()
			out, err := exec.CommandContext(t.Context(), "go", "list", "-deps", "./"+pkg).Output()
			require.NoError(t, err)
			var got []string
			for name, prefix := range heavy {
				if strings.Contains("\n"+string(out), "\n"+prefix) {
					got = append(got, name)
				}
			}
			require.ElementsMatch(t, want, got)
		})
	}
}

// breach returns why imported must not stand in dir, or "".
func (l law) breach(dir, service, imported string) string {
	own, inModule := strings.CutPrefix(imported, module)
	switch {
	case !inModule && !strings.Contains(strings.SplitN(imported, "/", 2)[0], "."):
		return "" // standard library
	case strings.HasPrefix(imported, "go.uber.org/fx") && strings.HasPrefix(dir, "platform/") && dir != "platform/platformfx":
		return "only platformfx knows Fx"
	case !inModule && !l.foreign:
		return "only the standard library is allowed here"
	case !inModule:
		if len(l.foreignOnly) > 0 && !matchesAny(l.foreignOnly, imported, "") {
			return "this module is not allowed here"
		}
		return ""
	case strings.HasPrefix(own+"/", dir+"/") || matchesAny(l.own, own, service):
		return ""
	}
	return "this package is not allowed here"
}

// lawFor finds the law with the longest scope that covers dir, and what its first * stood for.
func lawFor(dir string) (found law, service string, ok bool) {
	depth := -1
	parts := strings.Split(dir, "/")
	for _, l := range laws {
		n := strings.Count(l.scope, "/") + 1
		if n > len(parts) || n <= depth {
			continue
		}
		if matched, _ := path.Match(l.scope, strings.Join(parts[:n], "/")); matched {
			found, depth, ok = l, n, true
			if strings.HasPrefix(l.scope, "reference/*") {
				service = parts[1]
			}
		}
	}
	return found, service, ok
}

func matchesAny(patterns []string, name, service string) bool {
	allowed := false
	for _, p := range patterns {
		p, negated := strings.CutPrefix(strings.ReplaceAll(p, "$1", service), "!")
		base, deep := strings.CutSuffix(p, "/...")
		if name == base || deep && strings.HasPrefix(name, base+"/") {
			allowed = !negated
		}
	}
	return allowed
}

// importsOfTree maps each non-test Go file of this module to what it imports.
func importsOfTree(t *testing.T) map[string][]string {
	t.Helper()
	files := map[string][]string{}
	err := filepath.WalkDir(".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (strings.HasPrefix(d.Name(), ".") && name != "." || d.Name() == "tools" || d.Name() == "bench" || d.Name() == "testdata") {
			return filepath.SkipDir
		}
		if !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") {
			return nil
		}
		f, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		for _, spec := range f.Imports {
			imported, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				return err
			}
			files[filepath.ToSlash(name)] = append(files[filepath.ToSlash(name)], imported)
		}
		return nil
	})
	require.NoError(t, err)
	return files
}

var quoted = regexp.MustCompile("`(?:((?:platform|reference|cmd)/[\\w/]+): )?(Test\\w+)`")

// TestGuaranteesNameTheirTests looks for the tests that docs/architecture.md names. A name without a package
// is of the package before it.
func TestGuaranteesNameTheirTests(t *testing.T) {
	text, err := os.ReadFile("docs/architecture.md")
	require.NoError(t, err)
	folder := ""
	found := quoted.FindAllStringSubmatch(string(text), -1)
	require.Greater(t, len(found), 30)
	for _, m := range found {
		if m[1] != "" {
			folder = m[1]
		}
		require.True(t, hasTest(t, folder, m[2]), "%s: %s does not exist", folder, m[2])
	}
}

func hasTest(t *testing.T, folder, name string) bool {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(folder, "*_test.go"))
	require.NoError(t, err)
	for _, file := range files {
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		if strings.Contains(string(text), "func "+name+"(") {
			return true
		}
	}
	return false
}
