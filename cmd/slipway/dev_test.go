package main_test

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/slipwayhq/slipway/cmd/slipway/internal/devenv"
	"github.com/slipwayhq/slipway/cmd/slipway/internal/observe"
	"github.com/slipwayhq/slipway/cmd/slipway/internal/proc"
)

// The subtests share a project and its data, so they run in their order.
func TestDev(t *testing.T) { //nolint:tparallel // see above
	t.Parallel()
	flag, offset := freeOffset(t)

	t.Run("runs until SIGTERM, drains and leaves nothing", func(t *testing.T) { testRun(t, flag) })
	t.Run("keeps the data, from a subfolder too", func(t *testing.T) { testAgain(t, flag) })
	t.Run("leaves nothing when it is killed, and starts again", func(t *testing.T) { testKilled(t, flag) })
	t.Run("ends what was left, but no stranger", func(t *testing.T) { testLeftovers(t, flag) })
	t.Run("ends with 1 when a service dies", func(t *testing.T) { testDeath(t, flag) })
	t.Run("ends with 1 when a service does not come up", func(t *testing.T) { testBroken(t, flag) })
	t.Run("ends with 1 when a service does not compile", func(t *testing.T) { testCompile(t, flag) })
	t.Run("ends at once with the second signal", func(t *testing.T) { testSecondSignal(t, flag) })
	t.Run("can be interrupted while it starts", func(t *testing.T) { testInterrupt(t, flag) })
	t.Run("drains when nobody reads its output any more", func(t *testing.T) { testPipe(t, flag) })
	t.Run("reports every taken port", func(t *testing.T) { testPorts(t, flag, offset) })
	t.Run("prints raw lines", func(t *testing.T) { testJSON(t, flag) })
	t.Run("runs in the background", func(t *testing.T) { testDetach(t, flag) })
	t.Run("says in the background why it did not start", func(t *testing.T) { testDetachFails(t, flag, offset) })
	t.Run("runs the observability stack beside the services", func(t *testing.T) { testObservability(t, flag, offset) })
	t.Run("wipes the data when told to", func(t *testing.T) { testFresh(t, flag) })
}

func testRun(t *testing.T, flag string) {
	t.Helper()
	r := dev(t, nil, flag, "--fresh", "--yes") // of an earlier round of the tests
	left := r.ready()
	require.Equal(t, 1, starts(t, r.stdout.String()))
	require.Contains(t, r.stdout.String(), "stage=development")
	require.Contains(t, r.stdout.String(), "try         buy --from 127.0.0.1:")
	require.NotContains(t, r.stdout.String()+r.stderr.String(), "\x1b", "no colours and no live line in a file")

	_, refused, code := slipway(t, shop, "dev", flag)
	require.Equal(t, 1, code)
	require.Contains(t, refused, fmt.Sprintf("running here already: process %d, ready", r.cmd.Process.Pid))
	require.Contains(t, refused, "dev stop")

	status, _, code := slipway(t, shop, "migrate", "status", "--output", "json")
	require.Equal(t, 0, code)
	rows := decode[[]struct{ Service, Component, Condition string }](t, status)
	require.Equal(t, "outbox", rows[0].Component)
	require.Equal(t, "shop", rows[len(rows)-1].Component)
	for _, row := range rows {
		require.Equal(t, "applied", row.Condition)
	}

	r.signal(syscall.SIGTERM)
	r.signal(syscall.SIGINT) // as make and timeout do
	require.Equal(t, 0, r.code())
	requireGone(t, left)
	requireNoRecords(t)
	require.Equal(t, 2, strings.Count(r.stdout.String(), "INFO  drained"))
	require.NotContains(t, r.stdout.String(), "broker gone before the drain")
}

func testAgain(t *testing.T, flag string) {
	t.Helper()
	r := devIn(t, filepath.Join(shop, "service"), nil, flag)
	left := r.ready()
	require.Equal(t, 2, starts(t, r.stdout.String()))
	r.signal(os.Interrupt.(syscall.Signal))
	require.Equal(t, 0, r.code())
	requireGone(t, left)
}

func testKilled(t *testing.T, flag string) {
	t.Helper()
	r := dev(t, nil, flag)
	left := r.ready()
	r.signal(syscall.SIGKILL)
	r.code()
	if runtime.GOOS == "linux" {
		requireGone(t, left)
	}
	_, message, code := slipway(t, shop, "dev", "status")
	require.Equal(t, 1, code)
	require.Contains(t, message, "not running here: start it with")

	again := dev(t, nil, flag)
	left = again.ready()
	require.Equal(t, 4, starts(t, again.stdout.String()))
	again.signal(syscall.SIGTERM)
	require.Equal(t, 0, again.code())
	requireGone(t, left)
}

func testLeftovers(t *testing.T, flag string) {
	t.Helper()
	runs := proc.Records{Dir: filepath.Join(shop, ".slipway", "run")}
	orphan, stranger := sleeper(t), sleeper(t)
	_, err := runs.Add("orphan", orphan.Process.Pid, syscall.SIGTERM)
	require.NoError(t, err)
	record, err := runs.Add("stranger", stranger.Process.Pid, syscall.SIGTERM)
	require.NoError(t, err)
	record.Started = "long ago"
	require.NoError(t, proc.WriteFile(filepath.Join(runs.Dir, "stranger"+proc.Extension), record))

	r := dev(t, nil, flag)
	_ = orphan.Wait()
	left := r.ready()
	require.Contains(t, r.stderr.String(), "ended orphan, which an earlier run had left")
	require.NotContains(t, r.stderr.String(), "stranger")
	_, alive := proc.Identify(stranger.Process.Pid)
	require.True(t, alive)
	r.signal(syscall.SIGTERM)
	require.Equal(t, 0, r.code())
	requireGone(t, left)
}

func sleeper(t *testing.T) *exec.Cmd {
	t.Helper()
	cmd := exec.Command("sleep", "600")
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	return cmd
}

func testDeath(t *testing.T, flag string) {
	t.Helper()
	r := dev(t, nil, flag)
	left := r.ready()
	status, _, code := slipway(t, shop, "dev", "status", "--output", "json")
	require.Equal(t, 0, code)
	state := decode[devenv.State](t, status)
	require.Equal(t, "mail", state.Services[1].Name)
	require.NoError(t, syscall.Kill(state.Services[1].PID, syscall.SIGKILL))
	require.Equal(t, 1, r.code())
	require.Contains(t, r.stderr.String(), "mail ended: signal: killed; its last lines were:")
	require.Regexp(t, `last lines were:\n.* mail INFO  started`, r.stderr.String())
	require.Regexp(t, `shop INFO  drained`, r.stdout.String())
	requireGone(t, left)
	requireNoRecords(t)
}

func testBroken(t *testing.T, flag string) {
	t.Helper()
	r := dev(t, []string{"SHOP_BROKEN=mail"}, flag)
	require.Equal(t, 1, r.code())
	require.Contains(t, r.stderr.String(), "mail ended: exit status 1; its last lines were:\n             mail cannot start: mail is broken")
	requireNoRecords(t)
}

func testCompile(t *testing.T, flag string) {
	t.Helper()
	r := dev(t, []string{"GOFLAGS=-buildvcs=false -tags=broken"}, flag)
	require.Equal(t, 1, r.code())
	require.Contains(t, r.stderr.String(), "build shop: it does not compile:")
	require.Contains(t, r.stderr.String(), "broken.go:5:9: undefined: doesNotExist")
	requireNoRecords(t)
}

func testSecondSignal(t *testing.T, flag string) {
	t.Helper()
	r := dev(t, []string{"SHOP_DEAF=mail"}, flag)
	left := r.ready()
	r.signal(syscall.SIGTERM)
	require.Eventually(t, func() bool { return strings.Contains(r.stdout.String(), "does not stop") }, patience, 10*time.Millisecond)
	require.Eventually(t, func() bool { // a second one that comes too soon counts as the first
		_ = r.cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-r.ended:
			return true
		default:
			return false
		}
	}, patience, 50*time.Millisecond)
	require.Equal(t, 1, r.code())
	require.Contains(t, r.stderr.String(), "stop mail: did not stop in time and was killed")
	requireGone(t, left)
	requireNoRecords(t)
}

func testInterrupt(t *testing.T, flag string) {
	t.Helper()
	r := dev(t, nil, flag)
	require.Eventually(t, func() bool { return strings.Contains(r.stderr.String(), "… building shop") }, patience, time.Millisecond)
	r.signal(syscall.SIGTERM)
	require.Equal(t, 0, r.code())
	require.NotContains(t, r.stdout.String(), "ready in")
	requireNoRecords(t)
}

func testPipe(t *testing.T, flag string) {
	t.Helper()
	r := &running{t: t, cmd: exec.Command(binary, "dev", flag), stderr: &output{}, stdout: &output{}, ended: make(chan struct{})}
	reader, writer, err := os.Pipe()
	require.NoError(t, err)
	r.cmd.Dir, r.cmd.Env, r.cmd.Stdout, r.cmd.Stderr = shop, environ(), writer, r.stderr
	require.NoError(t, r.cmd.Start())
	require.NoError(t, writer.Close())
	require.NoError(t, reader.Close())
	go func() {
		_ = r.cmd.Wait()
		close(r.ended)
	}()
	require.Equal(t, 0, r.code(), r.stderr)
	require.Contains(t, r.stderr.String(), "✓ shop stopped")
	requireNoRecords(t)
}

func testPorts(t *testing.T, flag string, offset int) {
	t.Helper()
	for _, port := range []int{20052, devenv.NATSPort} {
		l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", fmt.Sprintf("127.0.0.1:%d", port+offset))
		require.NoError(t, err)
		defer l.Close()
	}
	_, message, code := slipway(t, shop, "dev", flag)
	require.Equal(t, 1, code)
	require.Regexp(t, fmt.Sprintf(`2 ports:\n +%d +for mail gRPC +held by .*\n +%d +for NATS`, 20052+offset, devenv.NATSPort+offset), message)
	require.Contains(t, message, "dev --port-offset ")
	if runtime.GOOS == "linux" {
		require.Contains(t, message, fmt.Sprintf("held by process %d (", os.Getpid()))
	}
	report, _, code := slipway(t, shop, "doctor", flag)
	require.Equal(t, 1, code)
	require.Regexp(t, `ports +fail +port taken: 2 ports`, report)
	requireNoRecords(t)
}

func testJSON(t *testing.T, flag string) {
	t.Helper()
	r := dev(t, nil, flag, "--log-format", "json")
	r.ready()
	r.signal(syscall.SIGTERM)
	require.Equal(t, 0, r.code())
	services := map[string]int{}
	for line := range strings.Lines(r.stdout.String()) {
		var fields struct{ Service, Msg string }
		require.NoError(t, json.Unmarshal([]byte(line), &fields), line)
		services[fields.Service]++
	}
	require.Equal(t, map[string]int{"shop": 2, "mail": 2}, services, "each started and drained")
}

func testDetach(t *testing.T, flag string) {
	t.Helper()
	out, progress, code := slipway(t, shop, "dev", "--detach", flag)
	require.Equal(t, 0, code, progress)
	require.Contains(t, out, "running in the background, process ")
	require.Contains(t, out, "dev.log")
	require.Contains(t, progress, "built shop")
	left := processes(t)

	table, _, code := slipway(t, shop, "dev", "status")
	require.Equal(t, 0, code)
	require.Regexp(t, `(?m)^shop +SERVING +127\.0\.0\.1:\d+ +process \d+$`, table)
	require.Regexp(t, `(?m)^PostgreSQL +running `, table)
	_, refused, code := slipway(t, shop, "dev", "--detach", flag)
	require.Equal(t, 1, code)
	require.Contains(t, refused, "running here already")

	_, message, code := slipway(t, shop, "dev", "stop")
	require.Equal(t, 0, code)
	require.Contains(t, message, "slipway dev stopped")
	requireGone(t, left)
	requireNoRecords(t)
	log, err := os.ReadFile(filepath.Join(shop, ".slipway", "dev.log"))
	require.NoError(t, err)
	require.Contains(t, string(log), "shop INFO  drained")

	out, _, code = slipway(t, shop, "dev", "stop")
	require.Equal(t, 0, code, "to stop what does not run is no failure")
	require.Contains(t, out, "not running here")
}

func testDetachFails(t *testing.T, flag string, offset int) {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", fmt.Sprintf("127.0.0.1:%d", 20051+offset))
	require.NoError(t, err)
	defer l.Close()
	_, message, code := slipway(t, shop, "dev", "--detach", flag)
	require.Equal(t, 1, code)
	require.Contains(t, message, "for shop gRPC")
	require.Contains(t, message, "ended before it was ready; its log is")
}

func testFresh(t *testing.T, flag string) {
	t.Helper()
	_, message, code := slipway(t, shop, "dev", "--fresh", flag)
	require.Equal(t, 2, code)
	require.Contains(t, message, "add --yes to confirm")

	r := dev(t, nil, flag, "--fresh", "--yes")
	left := r.ready()
	require.Equal(t, 1, starts(t, r.stdout.String()))
	r.signal(syscall.SIGTERM)
	require.Equal(t, 0, r.code())
	requireGone(t, left)
}

func testObservability(t *testing.T, flag string, offset int) {
	t.Helper()
	self, err := os.Executable()
	require.NoError(t, err)
	bin := filepath.Join(shop, ".bin")
	require.NoError(t, os.MkdirAll(bin, 0o755))
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(bin)) })
	for _, c := range observe.Components() {
		require.NoError(t, os.Symlink(self, filepath.Join(bin, string(c))))
	}

	r := dev(t, []string{fake + "=1"}, flag, "--observability")
	left := r.ready()
	ports := observe.UsualPorts(offset)
	require.Contains(t, r.stdout.String(), fmt.Sprintf("traces=http://127.0.0.1:%d", ports.OTLPGRPC))
	require.Contains(t, r.stdout.String(), fmt.Sprintf("look        curl -sG http://127.0.0.1:%d/api/v1/query ", ports.Prometheus))
	table, _, code := slipway(t, shop, "dev", "status")
	require.Equal(t, 0, code)
	for _, c := range observe.Components() {
		require.Regexp(t, `(?m)^`+string(c)+` +running +http://127\.0\.0\.1:\d+`, table)
	}
	log, err := os.ReadFile(filepath.Join(shop, ".slipway/logs/shop.json"))
	require.NoError(t, err)
	require.Contains(t, string(log), `"msg":"started"`)
	targets, err := os.ReadFile(filepath.Join(shop, ".slipway/observability/ops/prometheus/targets/slipway.yml"))
	require.NoError(t, err)
	require.Contains(t, string(targets), "service: shop")

	r.signal(syscall.SIGKILL)
	r.code()
	if runtime.GOOS == "linux" {
		requireGone(t, left)
	}
	again := dev(t, []string{fake + "=1"}, flag, "--observability")
	left = again.ready()
	again.signal(syscall.SIGTERM)
	require.Equal(t, 0, again.code())
	requireGone(t, left)
	requireNoRecords(t)
}
