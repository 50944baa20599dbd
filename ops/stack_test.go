package ops_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/stretchr/testify/require"
)

// tree is YAML of any shape.
type tree = map[string]any

func TestCompose(t *testing.T) {
	t.Parallel()
	services := documents(t, "compose/compose.yml")[0]["services"].(tree)

	t.Run("pins every image to a release, the same as make stack builds", func(t *testing.T) {
		t.Parallel()
		pinned := regexp.MustCompile(`^[\w./-]+:v?\d+\.\d+\.\d+$`)
		for name, s := range services {
			require.Regexp(t, pinned, s.(tree)["image"], name)
		}
		for service, pin := range map[string]struct{ file, pattern string }{
			"alertmanager":      {"alertmanager/go.mod", `prometheus/alertmanager v(\S+)`},
			"loki":              {"loki/go.mod", `grafana/loki/v3 v(\S+)`},
			"postgres-exporter": {"postgres-exporter/go.mod", `postgres_exporter v(\S+)`},
			"prometheus":        {"prometheus/go.mod", `prometheus/prometheus v0\.3(\S+)`},
			"otelcol":           {"otelcol/go.mod", `collector/otelcol v(\S+)`},
		} {
			text, err := os.ReadFile(filepath.Join("../tools", pin.file))
			require.NoError(t, err)
			version := regexp.MustCompile(pin.pattern).FindSubmatch(text)
			require.NotNil(t, version, pin)
			want := string(version[1])
			if service == "prometheus" { // its module calls 3.16.0 v0.316.0
				want = "3." + want
			}
			image := services[service].(tree)["image"].(string)
			require.Equal(t, want, strings.TrimPrefix(image[strings.LastIndex(image, ":")+1:], "v"), service)
		}
	})

	t.Run("gives the containers files that are there", func(t *testing.T) {
		t.Parallel()
		for name, s := range services {
			volumes, _ := s.(tree)["volumes"].([]any)
			for _, v := range volumes {
				source, _, _ := strings.Cut(v.(string), ":")
				if strings.HasPrefix(source, ".") {
					_, err := os.Stat(filepath.Join("compose", source))
					require.NoError(t, err, name)
				}
			}
		}
	})

	t.Run("scrapes every job of Prometheus", func(t *testing.T) {
		t.Parallel()
		for _, job := range documents(t, "prometheus/prometheus.yml")[0]["scrape_configs"].([]any) {
			name := job.(tree)["job_name"].(string)
			require.FileExists(t, filepath.Join("compose/targets", name+".yml"))
		}
	})
}

func TestKubernetesCollectors(t *testing.T) {
	t.Parallel()
	one := documents(t, "otel/collector.yml")[0]
	gateway, sampler := inConfigMap(t, "otel/kubernetes/gateway.yml"), inConfigMap(t, "otel/kubernetes/sampler.yml")

	t.Run("decide as the collector of one tier", func(t *testing.T) {
		t.Parallel()
		want, got := one["processors"].(tree)["tail_sampling"].(tree), sampler["processors"].(tree)["tail_sampling"].(tree)
		require.Equal(t, want["policies"], got["policies"])
		require.Equal(t, want["decision_cache"], got["decision_cache"])
		for _, key := range []string{"decision_wait", "num_traces", "expected_new_traces_per_sec"} {
			require.Contains(t, want[key], ":-"+toText(got[key])+"}", key)
		}
		require.NotContains(t, gateway["processors"], "tail_sampling")
	})

	t.Run("limit their memory first", func(t *testing.T) {
		t.Parallel()
		for _, config := range []tree{one, gateway, sampler} {
			for name, p := range config["service"].(tree)["pipelines"].(tree) {
				require.Equal(t, "memory_limiter", p.(tree)["processors"].([]any)[0], name)
			}
		}
	})

	t.Run("are accepted by a collector", func(t *testing.T) {
		t.Parallel()
		require.NoError(t, validate(t, sampler))
		require.NoError(t, validate(t, gateway))
		gateway["exporters"].(tree)["loadbalancing"].(tree)["protocol"].(tree)["otlp"].(tree)["no_such_key"] = 1
		require.Error(t, validate(t, gateway))
	})
}

// documents parses a file of YAML.
func documents(t *testing.T, file string) []tree {
	t.Helper()
	text, err := os.ReadFile(file)
	require.NoError(t, err)
	var all []tree
	for part := range strings.SplitSeq(string(text), "\n---\n") {
		var doc tree
		require.NoError(t, yaml.Unmarshal([]byte(part), &doc), file)
		all = append(all, doc)
	}
	return all
}

// inConfigMap returns the configuration of the collector in a manifest.
func inConfigMap(t *testing.T, file string) tree {
	t.Helper()
	config := documents(t, file)[0]
	require.Equal(t, "ConfigMap", config["kind"])
	var doc tree
	require.NoError(t, yaml.Unmarshal([]byte(config["data"].(tree)["collector.yml"].(string)), &doc))
	return doc
}

// validate has the collector check a configuration, or skips the test.
func validate(t *testing.T, config tree) error {
	t.Helper()
	text, err := yaml.Marshal(config)
	require.NoError(t, err)
	file := filepath.Join(t.TempDir(), "collector.yml")
	require.NoError(t, os.WriteFile(file, text, 0o644))
	cluster := filepath.Join(t.TempDir(), "kubeconfig")
	require.NoError(t, os.WriteFile(cluster, []byte(`{apiVersion: v1, kind: Config, current-context: none,
		clusters: [{name: none, cluster: {server: "http://127.0.0.1:1"}}], contexts: [{name: none, context: {cluster: none}}]}`), 0o600))
	cmd := exec.Command(otelcol(t), "validate", "--config", file)
	cmd.Env = append(os.Environ(), "KUBECONFIG="+cluster) // the gateway's resolver wants one, and does not ask it
	out, err := cmd.CombinedOutput()
	t.Logf("%s", out)
	return err
}

// otelcol returns where the collector of make stack is, or skips the test.
func otelcol(t *testing.T) string {
	t.Helper()
	program, err := filepath.Abs("../.bin/otelcol")
	require.NoError(t, err)
	if _, err := os.Stat(program); err != nil {
		t.Skip("no otelcol: build it with: make stack")
	}
	return program
}

func toText(v any) string {
	text, _ := yaml.Marshal(v)
	return string(bytes.TrimSpace(text))
}
