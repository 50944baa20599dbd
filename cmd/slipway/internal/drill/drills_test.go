package drill

import (
	"encoding/xml"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/slipwayhq/slipway/cmd/slipway/internal/command"
	"github.com/slipwayhq/slipway/cmd/slipway/internal/console"
	"github.com/slipwayhq/slipway/cmd/slipway/internal/devenv"
	"github.com/slipwayhq/slipway/cmd/slipway/internal/proc"
	"github.com/slipwayhq/slipway/cmd/slipway/internal/project"
	"github.com/slipwayhq/slipway/ops"
	"github.com/slipwayhq/slipway/ops/rules"
	"github.com/slipwayhq/slipway/platform/postgres/pgserver"
)

// An alert without a drill is one that has never fired.
func TestDrills_coverEveryAlert(t *testing.T) {
	t.Parallel()
	files, err := rules.Read(ops.FS, "prometheus/rules/*.yml")
	require.NoError(t, err)
	var alerts []string
	for _, r := range rules.Alerts(files) {
		alerts = append(alerts, r.Alert)
	}
	slices.Sort(alerts)
	require.Equal(t, slices.Compact(alerts), Alerts())

	names, burnt := map[string]bool{}, false
	for _, d := range Drills() {
		require.False(t, burnt && slices.Contains(d.names(), budget[0]), "%s cannot tell its alert from those of an earlier fault", d.Name)
		burnt = burnt || d.burns()
		require.False(t, names[d.Name], d.Name)
		names[d.Name] = true
		require.NotEmpty(t, d.Fault)
		require.NotNil(t, d.inject)
		for _, a := range slices.Concat(d.Alerts, d.Also, d.Silenced) {
			require.Contains(t, alerts, a.Name, d.Name)
		}
	}
}

func TestMitigation(t *testing.T) {
	t.Parallel()
	var without []string
	for _, a := range Alerts() {
		script, err := mitigation(a)
		if err != nil {
			require.ErrorIs(t, err, errNoCommands)
			without = append(without, a)
			continue
		}
		require.NotContains(t, script, "```")
		require.NotContains(t, script, "kubectl", "what is for people on a cluster is not executed here")
		require.NotRegexp(t, `\b(for|while|xargs)\b`, script, "%s: who pastes this decides about one thing, not about all that there are", a)
	}
	require.Equal(t, []string{"RelayFenced", "TelemetryDropping", "Watchdog"}, without, "one ends by itself; what is away is started again by whoever runs it")

	for _, a := range Alerts() {
		if script, err := mitigation(a); err == nil {
			require.Regexp(t, `kill -CONT|pg_terminate_backend|outbox resume|saga bulk|dead discard`, script, "%s: a command that only looks mends nothing", a)
		}
	}

	script, err := mitigation("OutboxStalled")
	require.NoError(t, err)
	require.Equal(t, "slipway outbox resume --reason \"publishing again\"\n", script)
	_, err = mitigation("Nothing")
	require.ErrorIs(t, err, fs.ErrNotExist)
}

func TestSystem_sh(t *testing.T) {
	t.Parallel()
	s := &System{
		dir: t.TempDir(), environ: os.Environ(), metrics: prometheus{url: "http://127.0.0.1:9"},
		about: []subject{{database: "postgres://one", pid: 11}, {database: "postgres://two", pid: 22}},
	}
	require.NoError(t, s.sh(t.Context(), `echo "$DATABASE_URL $SERVICE_PID $PROMETHEUS_URL" >>seen; command -v slipway >>seen`))
	seen, err := os.ReadFile(filepath.Join(s.dir, "seen"))
	require.NoError(t, err)
	slipway := filepath.Join(s.dir, "path", "slipway") + "\n"
	require.Equal(t, "postgres://one 11 http://127.0.0.1:9\n"+slipway+"postgres://two 22 http://127.0.0.1:9\n"+slipway, string(seen))
	require.ErrorContains(t, s.sh(t.Context(), "echo it will not do >&2; false; echo never"), "commands of the runbook: exit status 1\nit will not do")
}

// What a drill has left that was killed is gone with the next one; what runs is left alone.
func TestSweep(t *testing.T) {
	t.Parallel()
	parent := t.TempDir()
	folder := func(name string) (dir string, records proc.Records) {
		dir = filepath.Join(parent, name)
		require.NoError(t, os.MkdirAll(filepath.Join(dir, "run"), 0o755))
		return dir, proc.Records{Dir: filepath.Join(dir, "run")}
	}
	left, records := folder("drill-left")
	require.NoError(t, os.WriteFile(filepath.Join(left, "run", "lock"), nil, 0o600))
	frozen, err := proc.Start(proc.Spec{Name: "inventory", Path: "/bin/sh", Args: []string{"-c", "sleep 600"}, Output: io.Discard}, proc.Records{Dir: t.TempDir()})
	require.NoError(t, err)
	_, err = records.Add("inventory", frozen.PID(), syscall.SIGTERM)
	require.NoError(t, err)
	_, err = freeze(frozen.PID())
	require.NoError(t, err)

	running, _ := folder("drill-running")
	lock, err := proc.TakeLock(filepath.Join(running, "run", "lock"))
	require.NoError(t, err)
	defer func() { require.NoError(t, lock.Release()) }()
	starting, _ := folder("drill-starting")

	require.NoError(t, sweep(t.Context(), Config{Project: &project.Project{Dir: parent}}, parent))
	require.NoDirExists(t, left)
	require.DirExists(t, running)
	require.DirExists(t, starting)
	<-frozen.Done()
}

// Root hands PostgreSQL over to an account that cannot enter a closed checkout, so that its data are elsewhere. They
// were left there when only the folder of the drill was removed.
func TestSystem_leavesNoDatabaseBehind(t *testing.T) {
	t.Parallel()
	closed := t.TempDir()
	require.NoError(t, os.Chmod(closed, 0o700))
	cfg := Config{Project: &project.Project{Dir: closed}}
	started := func(name string) (dir, data string) {
		dir = filepath.Join(closed, name)
		require.NoError(t, os.MkdirAll(filepath.Join(dir, "run"), 0o755))
		require.NoError(t, os.WriteFile(filepath.Join(dir, "run", "lock"), nil, 0o600))
		place, err := pgserver.Place(filepath.Join(dir, "postgres"))
		require.NoError(t, err)
		t.Cleanup(func() { _ = os.RemoveAll(place) })
		require.NoError(t, os.MkdirAll(filepath.Join(place, "data"), 0o755))
		return dir, place
	}
	dir, data := started("drill-stopped")
	env := devenv.New(devenv.Config{Project: cfg.Project, Console: console.New(nil, io.Discard, io.Discard, nil), Dir: dir})
	require.NoError(t, (&System{dir: dir, env: env}).stop(t.Context()))
	require.NoDirExists(t, dir)
	require.NoDirExists(t, data)

	dir, data = started("drill-killed")
	require.NoError(t, sweep(t.Context(), cfg, closed))
	require.NoDirExists(t, dir)
	require.NoDirExists(t, data)
}

func TestFreeze(t *testing.T) {
	t.Parallel()
	_, err := freeze(1 << 30)
	require.ErrorIs(t, err, syscall.ESRCH)
	data := t.TempDir()
	_, err = postmaster(data)
	require.ErrorIs(t, err, fs.ErrNotExist)
	require.NoError(t, os.Mkdir(filepath.Join(data, "data"), 0o755))
	for text, want := range map[string]int{"4711\n/var/lib\n": 4711, "\n": 0, "1\n": 0, "-5\n": 0} {
		require.NoError(t, os.WriteFile(filepath.Join(data, "data", "postmaster.pid"), []byte(text), 0o600))
		pid, err := postmaster(data)
		require.Equal(t, want, pid)
		require.Equal(t, want == 0, err != nil, text)
	}
}

func seen(name, service string) firing {
	return firing{Labels: map[string]string{"alertname": name, "service": service}, Value: "7"}
}

func results() Result {
	return Result{
		Began: time.Date(2026, 11, 24, 4, 0, 0, 0, time.UTC), Took: 90 * time.Second, Scale: 60,
		Outcomes: []Outcome{
			{Drill: "outbox-paused", Fault: "paused", Alert: Alert{Name: "OutboxBacklog"}, Fired: 14 * time.Second, Delivered: 15 * time.Second, Remedy: 20 * time.Second, Resolved: 6 * time.Second, EndedBy: "the runbook of OutboxBacklog", Evidence: []firing{seen("OutboxBacklog", "order"), seen("OutboxBacklog", "a | b")}},
			{Drill: "callee-frozen", Fault: "frozen", Alert: Alert{Name: "ServiceAbsent"}, Failed: "it <does> not fire\nat all"},
			{Drill: "collector-away", Fault: "stopped", Alert: Alert{Name: "TelemetryDropping"}, Skipped: "needs otelcol"},
		},
		Matrix: map[string][]firing{
			"outbox-paused": {seen("OutboxBacklog", "order"), seen("SlowRequests", "order"), seen("PlaceOrderBurnRateSlow", "order")},
			"callee-frozen": {
				seen("ServiceAbsent", "inventory"), seen("TargetDown", "inventory"), seen("SagaStuck", "order"),
				seen("SagaCompensationFailed", "order"), seen("SagaCompensationFailed", "payment"),
			},
		},
	}
}

func TestResult_Markdown(t *testing.T) {
	t.Parallel()
	text := results().Markdown()
	require.Contains(t, text, "| OutboxBacklog | paused | 14.0 s | 15.0 s | 6.0 s | the runbook of OutboxBacklog | OutboxBacklog{service=a \\| b} 7<br>OutboxBacklog{service=order} 7 | ok |\n")
	require.Contains(t, text, "| FAILED: it <does> not fire at all |\n")
	require.Contains(t, text, "| skipped: needs otelcol |\n")
	lines := map[string][]string{}
	for line := range strings.Lines(text) {
		cells := strings.Split(strings.Trim(line, "|\n "), " | ")
		lines[cells[0]] = cells[1:]
	}
	mark := func(drill, alert string) string { return lines[drill][slices.Index(lines["fault"], alert)] }
	require.Equal(t, "**x**", mark("outbox-paused", "OutboxBacklog"))
	require.Equal(t, "**?**", mark("outbox-paused", "SlowRequests"))
	require.Equal(t, ".", mark("outbox-paused", "OutboxStalled"))
	require.Equal(t, "b", mark("outbox-paused", "PlaceOrderBurnRateSlow"))
	require.Equal(t, "**x**", mark("callee-frozen", "ServiceAbsent"))
	require.Equal(t, "x", mark("callee-frozen", "SagaStuck"))
	require.Equal(t, "**?**", mark("callee-frozen", "SagaCompensationFailed"), "of order it is declared, of payment it is not")
	require.Equal(t, "s", mark("callee-frozen", "TargetDown"))
	require.NotContains(t, lines, "collector-away", "it was not run")
}

func TestResult_HTML(t *testing.T) {
	t.Parallel()
	text := results().HTML()
	require.Equal(t, 4, strings.Count(text, "<rect "), "waiting, firing, delivered, mended")
	require.Contains(t, text, "it &lt;does&gt; not fire")
	require.Contains(t, text, "<td>OutboxBacklog{service=a | b} 7<br/>OutboxBacklog{service=order} 7</td>")
	d := xml.NewDecoder(strings.NewReader(text[strings.Index(text, "<svg"):strings.Index(text, "</html>")]))
	for {
		_, err := d.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		require.NoError(t, err)
	}
}

func TestResult_write(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	r := results()
	require.True(t, r.Failed())
	require.Equal(t, "drill ServiceAbsent FAILED: it <does> not fire; at all", r.Outcomes[1].String(), "it is one line")
	require.NoError(t, r.write(filepath.Join(dir, "drills.md"), filepath.Join(dir, "drills.xml")))
	for _, name := range []string{"drills.md", "drills.html", "drills.xml"} {
		require.FileExists(t, filepath.Join(dir, name))
	}
	text, err := os.ReadFile(filepath.Join(dir, "drills.xml"))
	require.NoError(t, err)
	var s suite
	require.NoError(t, xml.Unmarshal(text, &s))
	require.Equal(t, []int{3, 1, 1}, []int{s.Tests, s.Failures, s.Skipped})
	require.Equal(t, "ServiceAbsent", s.Cases[1].Name)
	require.Contains(t, s.Cases[1].Failure.Text, "not fire")
	require.ErrorIs(t, r.write(filepath.Join(dir, "no", "drills.md"), ""), fs.ErrNotExist)
}

func TestCommand(t *testing.T) {
	t.Parallel()
	execute := func(args ...string) (string, error) {
		var out strings.Builder
		cmd := New(command.Env{Console: console.New(nil, &out, io.Discard, nil), Program: "slipway"})
		cmd.SetArgs(args)
		cmd.SilenceErrors, cmd.SilenceUsage = true, true
		err := cmd.Execute()
		return out.String(), err
	}
	_, err := execute("NoSuchAlert")
	require.ErrorAs(t, err, &command.UsageError{})
	require.ErrorContains(t, err, "there is no drill for NoSuchAlert: choose from CircuitBreakerOpen, ")
	_, err = execute("--time-scale", "0.5")
	require.ErrorContains(t, err, "--time-scale 0.5: it cannot be below 1")

	list, err := execute("--list")
	require.NoError(t, err)
	require.Len(t, strings.Split(strings.TrimSpace(list), "\n"), len(Drills()))
	require.Contains(t, list, "poison           DeadLettersGrowing: a message that no consumer can read\n")

	chosen, err := choose([]string{"OutboxStalled", "SagaStuck"})
	require.NoError(t, err)
	require.Len(t, chosen, 2)
}
