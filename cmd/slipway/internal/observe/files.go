package observe

import (
	"cmp"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"

	"github.com/slipwayhq/slipway/ops"
)

// write copies the files of ops/ to where the components read them. They are unchanged
// but for what Transform does and for the receivers' addresses, if those were asked for.
func (s *Stack) write() error {
	err := fs.WalkDir(ops.FS, ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || !read(name) {
			return err
		}
		text, err := fs.ReadFile(ops.FS, name)
		if err != nil {
			return err
		}
		if text, err = s.transform(name, text); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		return put(s.file(name), text)
	})
	if err != nil {
		return fmt.Errorf("write configuration of the stack: %w", err)
	}
	if err := s.writeSinks(); err != nil {
		return err
	}
	return s.SetTargets(s.opts.Targets)
}

// read tells whether a component reads the file.
func read(name string) bool {
	for _, pattern := range []string{
		"prometheus/prometheus.yml", "prometheus/rules/*", "alertmanager/*", "otel/collector.yml", "loki/*", "tempo/*",
	} {
		if ok, _ := path.Match(pattern, name); ok {
			return true
		}
	}
	return false
}

// transform applies what the options change in a file.
func (s *Stack) transform(name string, text []byte) ([]byte, error) {
	if s.opts.Transform != nil {
		var err error
		if text, err = s.opts.Transform(name, text); err != nil {
			return nil, err
		}
	}
	if path.Dir(name) == "alertmanager" && s.opts.Webhook != "" {
		return redirect(text, s.opts.Webhook)
	}
	return text, nil
}

// put replaces a file. Prometheus and the collector never read half of it.
func put(file string, text []byte) error {
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(file+".new", text, 0o644); err != nil {
		return err
	}
	return os.Rename(file+".new", file)
}

// group is an element of a file of Prometheus' file_sd.
type group struct {
	Targets []string          `yaml:"targets"`
	Labels  map[string]string `yaml:"labels,omitempty"`
}

// SetTargets replaces what Prometheus scrapes beside the stack itself. Prometheus sees
// the change by itself, within seconds.
func (s *Stack) SetTargets(targets []Target) error {
	jobs := map[string][]group{"slipway": nil}
	for _, t := range slices.Concat(s.own(), targets) {
		jobs[t.Job] = append(jobs[t.Job], group{Targets: []string{t.Address}, Labels: t.Labels})
	}
	for job, groups := range jobs {
		slices.SortFunc(groups, func(a, b group) int { return cmp.Compare(a.Targets[0], b.Targets[0]) })
		text, err := yaml.Marshal(groups)
		if err != nil {
			return fmt.Errorf("encode targets: %w", err)
		}
		if err := put(s.file("prometheus/targets/"+job+".yml"), text); err != nil {
			return fmt.Errorf("write targets: %w", err)
		}
	}
	return nil
}

// own are the targets that the stack itself consists of.
func (s *Stack) own() []Target {
	var targets []Target
	for c := range s.found {
		t := Target{Job: string(c), Address: loopback(s.opts.Ports.of(c))}
		if c == PostgresExporter {
			t.Job, t.Labels = "postgres", map[string]string{"instance": "postgres"}
		}
		targets = append(targets, t)
	}
	return targets
}

// sinksFile is what the collector reads beside its configuration when Tempo or Loki is
// missing.
const sinksFile = "otel/sinks.yml"

// writeSinks tells the collector to put what has no store into files.
func (s *Stack) writeSinks() error {
	exporters, pipelines := map[string]any{}, map[string]any{}
	for c, signal := range map[Component]string{Tempo: "traces", Loki: "logs"} {
		if s.Has(c) {
			continue
		}
		exporters["file/"+signal] = map[string]any{
			"path":     s.Kept(signal),
			"rotation": map[string]int{"max_megabytes": 50, "max_backups": 1},
		}
		pipelines[signal] = map[string]any{"exporters": []string{"file/" + signal}}
	}
	if len(exporters) == 0 {
		return nil
	}
	text, err := yaml.Marshal(map[string]any{"exporters": exporters, "service": map[string]any{"pipelines": pipelines}})
	if err != nil {
		return fmt.Errorf("encode sinks of the collector: %w", err)
	}
	if err := put(s.file(sinksFile), text); err != nil {
		return fmt.Errorf("write sinks of the collector: %w", err)
	}
	return nil
}

// Kept returns the file that gets the signal, "traces" or "logs", as OTLP in JSON, a
// batch each line, while its store is missing.
func (s *Stack) Kept(signal string) string {
	return filepath.Join(s.data(Collector), signal+".jsonl")
}

// redirect gives every webhook of an Alertmanager configuration the address base and
// its receiver's name.
func redirect(text []byte, base string) ([]byte, error) {
	var config yaml.MapSlice
	if err := yaml.UnmarshalWithOptions(text, &config, yaml.UseOrderedMap()); err != nil {
		return nil, err
	}
	for _, item := range config {
		if item.Key != "receivers" {
			continue
		}
		receivers, _ := item.Value.([]any)
		for _, r := range receivers {
			redirectReceiver(asMap(r), strings.TrimRight(base, "/"))
		}
	}
	return yaml.Marshal(config)
}

func redirectReceiver(receiver yaml.MapSlice, base string) {
	values := receiver.ToMap()
	hooks, _ := values["webhook_configs"].([]any)
	for _, h := range hooks {
		hook := asMap(h)
		for i := range hook {
			if hook[i].Key == "url" {
				hook[i].Value = fmt.Sprintf("%s/%s", base, values["name"])
			}
		}
	}
}

func asMap(v any) yaml.MapSlice {
	m, _ := v.(yaml.MapSlice)
	return m
}
