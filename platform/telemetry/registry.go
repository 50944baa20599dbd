package telemetry

import (
	"cmp"
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
)

// newRegistry returns a registry with the metrics of the Go runtime, of the process and of the
// build.
func newRegistry(cfg Config) (*prometheus.Registry, error) {
	r := prometheus.NewRegistry()
	info := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "build_info",
		Help: "Always 1; the labels say what is running.",
		ConstLabels: prometheus.Labels{
			"service":     cfg.ServiceName,
			"version":     cfg.ServiceVersion,
			"environment": string(cfg.Environment),
			"revision":    cmp.Or(buildSetting("vcs.revision"), "unknown"),
			"goversion":   runtime.Version(),
		},
	})
	info.Set(1)
	err := registerAll(r, info,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return r, err
}

func registerAll(reg prometheus.Registerer, all ...prometheus.Collector) error {
	for _, c := range all {
		if err := reg.Register(c); err != nil {
			return fmt.Errorf("register metric: %w", err)
		}
	}
	return nil
}

// buildVersion is the main module's version, else the revision it was built from.
func buildVersion() string {
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" && info.Main.Version != "(devel)" {
		return info.Main.Version
	}
	revision := buildSetting("vcs.revision")
	return cmp.Or(revision[:min(12, len(revision))], "unknown")
}

// buildSetting returns what the Go toolchain recorded under key, else "".
func buildSetting(key string) string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return ""
	}
	for _, s := range info.Settings {
		if s.Key == key {
			return s.Value
		}
	}
	return ""
}
