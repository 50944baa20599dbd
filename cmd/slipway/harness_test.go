package main_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/slipwayhq/slipway/cmd/slipway/internal/devenv"
	"github.com/slipwayhq/slipway/cmd/slipway/internal/machine"
	"github.com/slipwayhq/slipway/cmd/slipway/internal/observe"
	"github.com/slipwayhq/slipway/cmd/slipway/internal/proc"
	"github.com/slipwayhq/slipway/cmd/slipway/internal/project"
)

// patience is how long a test waits for what must come.
const patience = 60 * time.Second

// binary is the built command, shop the project in which it runs.
var binary, shop string

// fake tells this program to be a component of the observability stack that is ready.
const fake = "SLIPWAY_TEST_FAKE"

func TestMain(m *testing.M) {
	if _, ok := os.LookupEnv(fake); ok {
		runFake()
		return
	}
	os.Exit(runTests(m))
}

func runTests(m *testing.M) int {
	dir, err := os.MkdirTemp("", "slipway-test-")
	if err != nil {
		fmt.Println(err)
		return 1
	}
	defer os.RemoveAll(dir)
	binary, shop = filepath.Join(dir, "slipway"), filepath.Join(dir, "shop")
	// PostgreSQL runs as another account when root runs the tests.
	if err := errors.Join(os.Chmod(dir, 0o755), command("go", "build", "-o", binary, ".").Run(), makeShop()); err != nil {
		fmt.Println("prepare:", err)
		return 1
	}
	return m.Run()
}

// runFake serves where a component of the stack was told to.
func runFake() {
	addr := net.JoinHostPort(os.Getenv("LISTEN_HOST"), os.Getenv("HTTP_PORT")) // Loki, Tempo
	if health := os.Getenv("HEALTH_ADDR"); health != "" {
		addr = health // the collector
	}
	for _, arg := range os.Args {
		if a, ok := strings.CutPrefix(arg, "--web.listen-address="); ok {
			addr = a
		}
	}
	ready := http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})
	server := http.Server{Addr: addr, Handler: ready, ReadHeaderTimeout: patience}
	fmt.Println(server.ListenAndServe())
}

// makeShop copies the project of testdata. It borrows this module's dependencies.
func makeShop() error {
	if err := os.CopyFS(shop, os.DirFS("testdata/shop")); err != nil {
		return err
	}
	mod, err := os.ReadFile("../../go.mod")
	if err != nil {
		return err
	}
	sum, err := os.ReadFile("../../go.sum")
	if err != nil {
		return err
	}
	mod = regexp.MustCompile(`(?m)^module .*$`).ReplaceAll(mod, []byte("module example.com/shop"))
	hash := command(binary, "migrate", "hash")
	hash.Dir = shop
	return errors.Join(
		os.WriteFile(filepath.Join(shop, "go.mod"), mod, 0o644),
		os.WriteFile(filepath.Join(shop, "go.sum"), sum, 0o644),
		hash.Run())
}

func command(name string, args ...string) *exec.Cmd {
	cmd := exec.Command(name, args...)
	cmd.Stderr = os.Stderr
	cmd.Env = environ()
	return cmd
}

// environ is the environment of the tests without what would point to other servers.
func environ(more ...string) []string {
	var kept []string
	for _, v := range os.Environ() {
		name, _, _ := strings.Cut(v, "=")
		switch name {
		case "DATABASE_URL", "REDIS_URL", "BROKER_URL", "NO_COLOR":
		default:
			kept = append(kept, v)
		}
	}
	return append(kept, more...)
}

// output may be read while it is written.
type output struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

// slipway runs a command in a folder to its end.
func slipway(t *testing.T, dir string, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	var out, problem bytes.Buffer
	cmd := exec.CommandContext(t.Context(), binary, args...)
	cmd.Dir, cmd.Env, cmd.Stdout, cmd.Stderr = dir, environ(), &out, &problem
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		require.NoError(t, err)
	}
	return out.String(), problem.String(), cmd.ProcessState.ExitCode()
}

// running is a slipway dev in the foreground.
type running struct {
	t              *testing.T
	cmd            *exec.Cmd
	stdout, stderr *output
	ended          chan struct{}
}

// dev starts slipway dev in the shop.
func dev(t *testing.T, env []string, args ...string) *running {
	t.Helper()
	return devIn(t, shop, env, args...)
}

func devIn(t *testing.T, dir string, env []string, args ...string) *running {
	t.Helper()
	r := &running{t: t, cmd: exec.Command(binary, append([]string{"dev"}, args...)...), stdout: &output{}, stderr: &output{}, ended: make(chan struct{})}
	r.cmd.Dir, r.cmd.Env, r.cmd.Stdout, r.cmd.Stderr = dir, environ(env...), r.stdout, r.stderr
	r.cmd.WaitDelay = time.Second
	require.NoError(t, r.cmd.Start())
	go func() {
		_ = r.cmd.Wait()
		close(r.ended)
	}()
	t.Cleanup(func() {
		_ = r.cmd.Process.Kill()
		<-r.ended
		if t.Failed() {
			t.Logf("slipway dev %v\n%s\n%s", args, r.stderr, r.stdout)
		}
	})
	return r
}

// ready waits until everything runs and returns the processes that do.
func (r *running) ready() []proc.Identity {
	r.t.Helper()
	require.Eventually(r.t, func() bool {
		select {
		case <-r.ended:
			return true
		default:
			return strings.Contains(r.stdout.String()+r.stderr.String(), "ready in ")
		}
	}, patience, 20*time.Millisecond)
	require.Contains(r.t, r.stdout.String()+r.stderr.String(), "ready in ", "it ended: %s", r.stderr)
	return processes(r.t)
}

// signal sends a signal and code waits for the end.
func (r *running) signal(sig syscall.Signal) { require.NoError(r.t, r.cmd.Process.Signal(sig)) }

func (r *running) code() int {
	r.t.Helper()
	select {
	case <-r.ended:
	case <-time.After(patience):
		require.Fail(r.t, "slipway dev does not end", "%s\n%s", r.stderr, r.stdout)
	}
	return r.cmd.ProcessState.ExitCode()
}

// processes lists what runs for the shop: PostgreSQL, Redis and the services.
func processes(t *testing.T) []proc.Identity {
	t.Helper()
	var found []proc.Identity
	for _, r := range (proc.Records{Dir: filepath.Join(shop, ".slipway", "run")}).List() {
		require.True(t, r.Alive(), r.Name)
		found = append(found, r.Identity)
	}
	require.GreaterOrEqual(t, len(found), 3, "PostgreSQL and two services")
	return found
}

// requireGone waits until none of the processes is left.
func requireGone(t *testing.T, left []proc.Identity) {
	t.Helper()
	for _, id := range left {
		require.NoError(t, id.WaitGone(patience), "%v", id)
	}
}

// requireNoRecords checks that a clean stop has forgotten everything.
func requireNoRecords(t *testing.T) {
	t.Helper()
	files, err := fs.Glob(os.DirFS(filepath.Join(shop, ".slipway", "run")), "*.json")
	require.NoError(t, err)
	require.Empty(t, files)
}

// freeOffset finds an offset at which all ports of the shop are free, above those
// that the tests of devenv use.
func freeOffset(t *testing.T) (flag string, offset int) {
	t.Helper()
	p, err := project.Open(shop)
	require.NoError(t, err)
	for range 100 {
		offset = 6000 + rand.IntN(2900)
		ports := append(devenv.Ports(p, nil, offset), observe.UsualPorts(offset).List(observe.Components()...)...)
		if machine.CheckPorts(t.Context(), ports) == nil {
			return "--port-offset=" + strconv.Itoa(offset), offset
		}
	}
	require.Fail(t, "no free ports")
	return "", 0
}

// starts reads from the log how often the shop has been started on its data.
func starts(t *testing.T, log string) int {
	t.Helper()
	found := regexp.MustCompile(`shop INFO  started .*starts=(\d+)`).FindStringSubmatch(log)
	require.Len(t, found, 2, log)
	n, err := strconv.Atoi(found[1])
	require.NoError(t, err)
	return n
}

func decode[T any](t *testing.T, text string) T {
	t.Helper()
	var value T
	require.NoError(t, json.Unmarshal([]byte(text), &value), text)
	return value
}
