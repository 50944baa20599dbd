package e2e_test

import (
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// devSystem is what `slipway dev --observability` runs.
type devSystem struct {
	// services maps a service's name to its gRPC address, components a component of the
	// stack to its URL. What has no program on this machine is not among them.
	services, components map[string]string
	// admins and databases are those of the services.
	admins, databases map[string]string
	dir               string
	said              lines
}

// lines is the output of a process.
type lines struct {
	mu   sync.Mutex
	text []byte
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.text = append(l.text, p...)
	return len(p), nil
}

// tail returns the last n bytes.
func (l *lines) tail(n int) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return string(l.text[max(0, len(l.text)-n):])
}

// maxOffset keeps every port below 65,536.
const maxOffset = 14_000

// startDev runs the whole reference system as a user would, in a folder of its own.
func startDev(t *testing.T, flags ...string) *devSystem {
	t.Helper()
	slipway := filepath.Join(binaries, "slipway")
	out, err := exec.Command("go", "build", "-o", slipway, "../../cmd/slipway").CombinedOutput()
	require.NoError(t, err, "%s", out)
	dir := projectCopy(t)
	for range 5 { // each time with other ports: those of the last may have been taken
		if d := tryDev(t, slipway, dir, flags); d != nil {
			return d
		}
	}
	require.Fail(t, "slipway dev does not start")
	return nil
}

// tryDev returns nil when the command gives up.
func tryDev(t *testing.T, slipway, dir string, flags []string) *devSystem {
	t.Helper()
	args := []string{"dev", "--observability", "--port-offset", strconv.Itoa(1000 + rand.IntN(maxOffset-1000))}
	cmd := exec.Command(slipway, append(args, flags...)...)
	cmd.Dir = dir
	for _, v := range os.Environ() {
		if name, _, _ := strings.Cut(v, "="); !slices.Contains([]string{"DATABASE_URL", "REDIS_URL", "BROKER_URL", "PWD"}, name) {
			cmd.Env = append(cmd.Env, v)
		}
	}
	out, err := cmd.StdoutPipe() // a pipe: should this process die, the system ends when it writes the next line
	require.NoError(t, err)
	cmd.Stderr = cmd.Stdout
	require.NoError(t, cmd.Start())
	d, exited := &devSystem{
		services: map[string]string{}, components: map[string]string{}, admins: map[string]string{}, databases: map[string]string{}, dir: dir,
	}, make(chan struct{})
	go func() {
		defer close(exited)
		_, _ = io.Copy(&d.said, out)
		_ = cmd.Wait()
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		<-exited
		if t.Failed() {
			t.Logf("slipway dev said:\n%s", d.said.tail(4000))
		}
	})
	require.Eventually(t, func() bool {
		select {
		case <-exited:
			return true
		default:
			return d.read(filepath.Join(dir, ".slipway", "run", "dev.json"))
		}
	}, 5*patience, 50*time.Millisecond, "slipway dev does not become ready")
	if d.services["order"] == "" {
		t.Logf("slipway dev said:\n%s", d.said.tail(4000))
		return nil
	}
	return d
}

// read reads what slipway dev tells other commands about itself, once it is ready.
func (d *devSystem) read(file string) bool {
	var state struct {
		Phase    string
		Servers  []struct{ Name, Addr string }
		Services []struct {
			Name, GRPC, Admin string
			DatabaseURL       string `json:"database_url"`
		}
	}
	text, err := os.ReadFile(file)
	if err != nil || json.Unmarshal(text, &state) != nil || state.Phase != "ready" {
		return false
	}
	for _, s := range state.Services {
		d.services[s.Name], d.admins[s.Name], d.databases[s.Name] = s.GRPC, s.Admin, s.DatabaseURL
	}
	for _, s := range state.Servers {
		d.components[s.Name] = s.Addr
	}
	return true
}

// projectCopy returns a folder that looks like the module but shares none of what
// slipway dev keeps, so that a developer's own environment is left alone.
func projectCopy(t *testing.T) string {
	t.Helper()
	root, err := filepath.Abs("../..")
	require.NoError(t, err)
	dir, err := os.MkdirTemp(binaries, "project")
	require.NoError(t, err)
	require.NoError(t, os.Chmod(dir, 0o755))
	require.NoError(t, os.Chmod(binaries, 0o755)) // PostgreSQL runs as another account when root runs the tests
	for _, name := range []string{".bin", "go.mod", "go.sum", "slipway.yaml", "gen", "platform", "reference"} {
		if _, err := os.Stat(filepath.Join(root, name)); err == nil {
			require.NoError(t, os.Symlink(filepath.Join(root, name), filepath.Join(dir, name)))
		}
	}
	return dir
}

// shop puts orders on the system until the test ends.
func (d *devSystem) shop(t *testing.T, rate float64) {
	t.Helper()
	var said lines
	cmd := exec.Command(filepath.Join(binaries, "shopper"), "--addr", d.services["order"], "--inventory", d.services["inventory"],
		"--orders", "1000000", "--rate", fmt.Sprint(rate), "--watch", "10")
	cmd.Stdout, cmd.Stderr = &said, &said
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("the shopper said:\n%s", said.tail(2000))
		}
	})
}
