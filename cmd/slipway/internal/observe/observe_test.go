package observe_test

import (
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/slipwayhq/slipway/cmd/slipway/internal/observe"
	"github.com/slipwayhq/slipway/cmd/slipway/internal/proc"
	"github.com/slipwayhq/slipway/ops"
)

// patience is how long a test waits for what must come, and tick how often it looks.
const (
	patience = 60 * time.Second
	tick     = 20 * time.Millisecond
)

// fake tells this program to be a component that is ready.
const fake = "OBSERVE_FAKE"

func TestMain(m *testing.M) {
	if _, ok := os.LookupEnv(fake); ok {
		for _, arg := range append(os.Args, "--web.listen-address="+os.Getenv("HEALTH_ADDR")) {
			if addr, ok := strings.CutPrefix(arg, "--web.listen-address="); ok {
				fmt.Println(http.ListenAndServe(addr, http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})))
			}
		}
		os.Exit(1)
	}
	goleak.VerifyTestMain(m)
}

// install makes programs out of shell scripts, by their names, in a new folder.
func install(t *testing.T, scripts map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, script := range scripts {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte("#!/bin/sh\n"+script+"\n"), 0o755))
	}
	return dir
}

// serving is the script of a component that starts.
func serving() string { return fake + `=1 exec "` + os.Args[0] + `" "$@"` }

func start(t *testing.T, opts observe.Options) *observe.Stack {
	t.Helper()
	s, err := observe.Start(t.Context(), opts)
	require.NoError(t, err)
	t.Cleanup(func() { _ = s.Stop(t.Context()) })
	return s
}

func TestStart(t *testing.T) {
	t.Parallel()

	t.Run("runs what is there and lists what is missing", func(t *testing.T) {
		t.Parallel()
		bin := install(t, map[string]string{"prometheus": serving(), "prometheus-alertmanager": serving()})
		s := start(t, observe.Options{Dir: t.TempDir(), ProgramDirs: []string{bin}})
		running := s.Running()
		require.Len(t, running, 2)
		require.Equal(t, observe.Prometheus, running[0].Component)
		require.Equal(t, filepath.Join(bin, "prometheus-alertmanager"), running[1].Program)
		require.Equal(t, s.URL(observe.Alertmanager), running[1].URL)
		var missing []observe.Component
		for _, m := range s.Missing() {
			missing = append(missing, m.Component)
			require.Contains(t, m.Reason, "make stack")
		}
		require.Equal(t, []observe.Component{observe.Collector, observe.Loki, observe.Tempo}, missing, "without a database postgres_exporter is not wanted")
		require.Empty(t, s.OTLP())
		require.Empty(t, s.URL(observe.Loki))
	})

	t.Run("leaves nothing running when a component does not start", func(t *testing.T) {
		t.Parallel()
		bin := install(t, map[string]string{"prometheus": serving(), "alertmanager": "echo no such receiver; exit 3"})
		dir := t.TempDir()
		_, err := observe.Start(t.Context(), observe.Options{Dir: dir, ProgramDirs: []string{bin}})
		require.ErrorContains(t, err, "alertmanager ("+filepath.Join(bin, "alertmanager")+") ended by itself, with exit status 3")
		require.ErrorContains(t, err, "no such receiver")
		require.Empty(t, proc.Records{Dir: filepath.Join(dir, "run")}.List())
	})

	t.Run("gives the programs the files of ops unchanged", func(t *testing.T) {
		t.Parallel()
		dir := t.TempDir()
		start(t, observe.Options{Dir: dir, Components: []observe.Component{observe.Prometheus}, ProgramDirs: []string{install(t, nil)}})
		for _, pattern := range []string{"prometheus/prometheus.yml", "prometheus/rules/*.yml", "alertmanager/*.yml", "otel/collector.yml", "loki/*.yml", "tempo/*.yml"} {
			names, err := fs.Glob(ops.FS, pattern)
			require.NoError(t, err)
			for _, name := range names {
				want, err := fs.ReadFile(ops.FS, name)
				require.NoError(t, err)
				got, err := os.ReadFile(filepath.Join(dir, "ops", name))
				require.NoError(t, err)
				require.Equal(t, string(want), string(got), name)
			}
		}
		require.NoDirExists(t, filepath.Join(dir, "ops/compose"), "nobody reads it")
	})

	t.Run("changes the files as it is told", func(t *testing.T) {
		t.Parallel()
		dir := t.TempDir()
		start(t, observe.Options{
			Dir: dir, ProgramDirs: []string{install(t, nil)},
			Transform: func(name string, text []byte) ([]byte, error) { return append([]byte("# "+name+"\n"), text...), nil },
		})
		got, err := os.ReadFile(filepath.Join(dir, "ops/loki/loki.yml"))
		require.NoError(t, err)
		require.True(t, strings.HasPrefix(string(got), "# loki/loki.yml\n"))

		_, err = observe.Start(t.Context(), observe.Options{Dir: t.TempDir(), Transform: func(string, []byte) ([]byte, error) { return nil, os.ErrInvalid }})
		require.ErrorIs(t, err, os.ErrInvalid)
	})

	t.Run("names what Prometheus scrapes", func(t *testing.T) {
		t.Parallel()
		dir := t.TempDir()
		s := start(t, observe.Options{
			Dir: dir, ProgramDirs: []string{install(t, map[string]string{"postgres_exporter": serving()})}, PostgresURL: "postgres://x",
			Targets: []observe.Target{{Job: "slipway", Address: "127.0.0.1:1", Labels: map[string]string{"service": "order"}}},
		})
		targets := func(job string) string {
			text, err := os.ReadFile(filepath.Join(dir, "ops/prometheus/targets", job+".yml"))
			require.NoError(t, err)
			return string(text)
		}
		require.YAMLEq(t, `[{targets: ["127.0.0.1:1"], labels: {service: order}}]`, targets("slipway"))
		exporter := strings.TrimPrefix(s.URL(observe.PostgresExporter), "http://")
		require.YAMLEq(t, `[{targets: ["`+exporter+`"], labels: {instance: postgres}}]`, targets("postgres"))
		require.NoError(t, s.SetTargets(nil))
		require.YAMLEq(t, `[]`, targets("slipway"))
	})
}

func TestStack_StopComponent(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := start(t, observe.Options{Dir: dir, ProgramDirs: []string{install(t, map[string]string{"prometheus": serving(), "alertmanager": serving()})}})
	before := s.Running()
	require.NoError(t, s.StopComponent(t.Context(), observe.Prometheus))
	require.Len(t, s.Running(), 1)
	require.NotEmpty(t, s.URL(observe.Prometheus), "it can be started again, there")
	require.NoError(t, s.StopComponent(t.Context(), observe.Prometheus), "to stop twice does no harm")

	require.NoError(t, s.StartComponent(t.Context(), observe.Prometheus))
	again := s.Running()
	require.Len(t, again, 2)
	require.NotEqual(t, before[0].PID, again[0].PID)
	require.Equal(t, before[1].PID, again[1].PID)
	require.ErrorContains(t, s.StartComponent(t.Context(), observe.Loki), "its program is missing")

	require.NoError(t, s.Stop(t.Context()))
	require.Empty(t, s.Running())
	require.Empty(t, proc.Records{Dir: filepath.Join(dir, "run")}.List())
	require.Empty(t, s.Died(), "nobody died by itself")
}

// The collector ends first: what it still has it sends to the others. If all end at once, they are gone
// before it, which takes its time here.
func TestStack_Stop(t *testing.T) {
	t.Parallel()
	order := filepath.Join(t.TempDir(), "order")
	ending := func(name, after string) string {
		return `trap '` + after + `; echo ` + name + ` >>"` + order + `"; kill $child; exit 0' TERM
` + strings.Replace(serving(), "exec ", "", 1) + ` & child=$!
wait $child`
	}
	s := start(t, observe.Options{Dir: t.TempDir(), ProgramDirs: []string{install(t, map[string]string{
		"otelcol": ending("collector", "sleep 0.3"), "prometheus": ending("prometheus", ":"),
	})}})
	require.Len(t, s.Running(), 2)
	require.NoError(t, s.Stop(t.Context()))
	text, err := os.ReadFile(order)
	require.NoError(t, err)
	require.Equal(t, "collector\nprometheus\n", string(text))
}

func TestStack_Died(t *testing.T) {
	t.Parallel()
	s := start(t, observe.Options{Dir: t.TempDir(), ProgramDirs: []string{install(t, map[string]string{"prometheus": serving()})}})
	require.NoError(t, syscall.Kill(s.Running()[0].PID, syscall.SIGKILL))
	select {
	case err := <-s.Died():
		require.ErrorContains(t, err, "prometheus")
		require.ErrorContains(t, err, "killed")
	case <-time.After(patience):
		require.Fail(t, "its end was not reported")
	}
	require.Empty(t, s.Running())
	require.NoError(t, s.StartComponent(t.Context(), observe.Prometheus), "it can be started again")
}

func TestFind(t *testing.T) {
	t.Parallel()
	path := install(t, map[string]string{"prometheus": "", "prometheus-postgres-exporter": "", "loki": "echo genetics", "tempo": ""})
	built := install(t, map[string]string{"prometheus": "", "loki": ""})
	require.NoError(t, os.Mkdir(filepath.Join(built, "alertmanager"), 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(built, "otelcol"), nil, 0o644))

	found, missing := observe.Find([]string{built}, []string{"PATH=" + path}, observe.Components()...)
	require.Equal(t, map[observe.Component]string{
		observe.Prometheus:       filepath.Join(built, "prometheus"),
		observe.PostgresExporter: filepath.Join(path, "prometheus-postgres-exporter"),
		observe.Loki:             filepath.Join(built, "loki"),
		observe.Tempo:            filepath.Join(path, "tempo"),
	}, found)
	require.Len(t, missing, 2, "a folder and a file that cannot be run are no programs")

	_, missing = observe.Find(nil, []string{"PATH=" + path}, observe.Loki)
	require.Len(t, missing, 1, "that one is another Loki")
	grafana := install(t, map[string]string{"loki": "echo 'loki, version 3.7.8'"})
	_, missing = observe.Find(nil, []string{"PATH=" + path + ":" + grafana}, observe.Loki)
	require.Empty(t, missing)
}

func TestPorts(t *testing.T) {
	t.Parallel()
	usual, moved := observe.UsualPorts(0), observe.UsualPorts(100)
	require.Equal(t, 9090, usual.Prometheus)
	require.Equal(t, usual.TempoOTLP+100, moved.TempoOTLP)
	for _, ports := range []func() observe.Ports{
		func() observe.Ports { return usual },
		func() observe.Ports {
			free, err := observe.FreePorts(t.Context())
			require.NoError(t, err)
			return free
		},
	} {
		seen := map[int]bool{}
		list := ports().List(observe.Components()...)
		require.Len(t, list, 12)
		for _, p := range list {
			require.NotZero(t, p.Number, p.For)
			require.False(t, seen[p.Number], "%d is given out twice", p.Number)
			seen[p.Number] = true
		}
	}
}
