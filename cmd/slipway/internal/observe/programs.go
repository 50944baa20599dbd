package observe

import (
	"path/filepath"
	"strconv"
)

// program is how a component is run.
type program struct {
	// names are those of its file: ours, and Debian's.
	names []string
	// isIt tells a program of that name on the PATH from a stranger. nil trusts the name.
	isIt func(file string) bool
	args func(*Stack) []string
	env  func(*Stack) []string
	// ready is the path that answers 200 when the component is ready.
	ready string
	// idles says that it writes what it has when it is asked to end, but then waits for
	// half a minute: it is killed meanwhile.
	idles bool
}

func noEnv(*Stack) []string { return nil }

var programs = map[Component]program{
	Prometheus: {
		names: []string{"prometheus"}, ready: "/-/ready", env: noEnv,
		args: func(s *Stack) []string {
			return []string{
				"--config.file=" + s.file("prometheus/prometheus.yml"),
				"--storage.tsdb.path=" + s.data(Prometheus), "--storage.tsdb.retention.time=7d",
				"--web.listen-address=" + loopback(s.opts.Ports.Prometheus), "--web.enable-lifecycle",
				"--enable-feature=exemplar-storage", "--log.level=warn",
			}
		},
	},
	Alertmanager: {
		names: []string{"alertmanager", "prometheus-alertmanager"}, ready: "/-/ready", env: noEnv,
		args: func(s *Stack) []string {
			return []string{
				"--config.file=" + s.file("alertmanager/alertmanager.yml"), "--storage.path=" + s.data(Alertmanager),
				"--web.listen-address=" + loopback(s.opts.Ports.Alertmanager),
				"--cluster.listen-address=", "--log.level=warn", // one alone has nobody to gossip with
			}
		},
	},
	PostgresExporter: {
		names: []string{"postgres_exporter", "prometheus-postgres-exporter"}, ready: "/",
		env: func(s *Stack) []string { return []string{"DATA_SOURCE_NAME=" + s.opts.PostgresURL} },
		args: func(s *Stack) []string {
			return []string{"--web.listen-address=" + loopback(s.opts.Ports.PostgresExporter), "--log.level=warn"}
		},
	},
	Collector: {
		names: []string{"otelcol", "otelcol-contrib"}, ready: "/", env: collectorEnv,
		args: func(s *Stack) []string {
			args := []string{"--config=" + s.file("otel/collector.yml")}
			if !s.Has(Tempo) || !s.Has(Loki) {
				args = append(args, "--config="+s.file(sinksFile))
			}
			return args
		},
	},
	Loki: {
		names: []string{"loki"}, isIt: isLoki, ready: "/ready", env: lokiEnv,
		args: func(s *Stack) []string {
			return []string{"-config.file=" + s.file("loki/loki.yml"), "-config.expand-env=true"}
		},
	},
	Tempo: {
		names: []string{"tempo"}, ready: "/ready", env: tempoEnv, idles: true,
		args: func(s *Stack) []string {
			return []string{"-config.file=" + s.file("tempo/tempo.yml"), "-config.expand-env=true"}
		},
	},
}

func collectorEnv(s *Stack) []string {
	p := s.opts.Ports
	return []string{
		"OTLP_GRPC_ADDR=" + loopback(p.OTLPGRPC), "OTLP_HTTP_ADDR=" + loopback(p.OTLPHTTP),
		"HEALTH_ADDR=" + loopback(p.CollectorHealth),
		"METRICS_HOST=127.0.0.1", "METRICS_PORT=" + strconv.Itoa(p.CollectorMetrics),
		"TEMPO_OTLP_ADDR=" + loopback(p.TempoOTLP), "LOKI_OTLP_URL=http://" + loopback(p.Loki) + "/otlp",
		"LOG_FILES=" + s.opts.LogFiles, "STATE_DIR=" + s.data(Collector),
	}
}

func lokiEnv(s *Stack) []string {
	p := s.opts.Ports
	return []string{
		"LISTEN_HOST=127.0.0.1", "HTTP_PORT=" + strconv.Itoa(p.Loki), "GRPC_PORT=" + strconv.Itoa(p.LokiGRPC),
		"DATA_DIR=" + s.data(Loki),
	}
}

func tempoEnv(s *Stack) []string {
	p := s.opts.Ports
	return []string{
		"LISTEN_HOST=127.0.0.1", "HTTP_PORT=" + strconv.Itoa(p.Tempo), "GRPC_PORT=" + strconv.Itoa(p.TempoGRPC),
		"OTLP_ADDR=" + loopback(p.TempoOTLP), "DATA_DIR=" + s.data(Tempo),
	}
}

// file returns where a file of ops/ is for this stack.
func (s *Stack) file(name string) string {
	return filepath.Join(s.opts.Dir, "ops", filepath.FromSlash(name))
}

// data returns the folder of a component's data.
func (s *Stack) data(c Component) string { return filepath.Join(s.opts.Dir, string(c)) }
