package proc_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/slipwayhq/slipway/cmd/slipway/internal/proc"
)

// parent makes the test binary run a child, print its pid and wait to be killed.
const parent = "SLIPWAY_TEST_PARENT"

func TestMain(m *testing.M) {
	if dir, ok := os.LookupEnv(parent); ok {
		runParent(dir)
		return
	}
	goleak.VerifyTestMain(m)
}

func runParent(dir string) {
	child, err := proc.Start(proc.Spec{Name: "child", Path: "/bin/sleep", Args: []string{"600"}}, proc.Records{Dir: dir})
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println(child.PID())
	<-child.Done()
}

func TestProcess_Stop(t *testing.T) {
	t.Parallel()

	t.Run("lets the program end and drops its record", func(t *testing.T) {
		t.Parallel()
		p, runs, out := shell(t, `trap 'echo bye; exit 0' TERM; echo ready; while :; do sleep 0.01; done`)
		require.Len(t, runs.List(), 1)
		require.NoError(t, p.Stop(t.Context()))
		require.Equal(t, "ready\nbye\n", out.String())
		require.Empty(t, runs.List())
		require.NoError(t, p.Stop(t.Context()), "to stop twice does no harm")
	})

	t.Run("accepts a program that dies of the signal", func(t *testing.T) {
		t.Parallel()
		p, _, _ := shell(t, `echo ready; exec sleep 600`)
		require.NoError(t, p.Stop(t.Context()))
	})

	t.Run("reports another exit code", func(t *testing.T) {
		t.Parallel()
		p, _, _ := shell(t, `trap 'exit 3' TERM; echo ready; while :; do sleep 0.01; done`)
		require.ErrorContains(t, p.Stop(t.Context()), "stop shell: exit status 3")
	})

	t.Run("kills a deaf program with its children when its time is over", func(t *testing.T) {
		t.Parallel()
		p, _, out := shell(t, `trap '' TERM; sleep 600 & echo $!; echo ready; wait; wait`)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		require.ErrorIs(t, p.Stop(ctx), proc.ErrKilled)
		child, err := strconv.Atoi(strings.Fields(out.String())[0])
		require.NoError(t, err)
		require.Eventually(t, func() bool { _, ok := proc.Identify(child); return !ok }, 30*time.Second, 10*time.Millisecond)
	})
}

func TestStart(t *testing.T) {
	t.Parallel()

	t.Run("says which program could not be run", func(t *testing.T) {
		t.Parallel()
		_, err := proc.Start(proc.Spec{Name: "x", Path: "/nowhere/x"}, proc.Records{Dir: t.TempDir()})
		require.ErrorContains(t, err, "run /nowhere/x: ")
	})

	t.Run("leaves no program behind that it cannot record", func(t *testing.T) {
		t.Parallel()
		var out buffer
		_, err := proc.Start(proc.Spec{Name: "x", Path: "/bin/sleep", Args: []string{"600"}, Output: &out}, proc.Records{Dir: "/nowhere"})
		require.ErrorContains(t, err, "record process x")
	})
}

func TestProcess_diesWithItsParent(t *testing.T) {
	t.Parallel()
	if runtime.GOOS != "linux" {
		t.Skip("only Linux can do that; elsewhere the next start ends what was left")
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), parent+"="+t.TempDir())
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	var pid int
	_, err = fmt.Fscan(out, &pid)
	require.NoError(t, err)
	_, runs := proc.Identify(pid)
	require.True(t, runs)

	require.NoError(t, cmd.Process.Kill())
	_ = cmd.Wait()
	require.Eventually(t, func() bool { _, runs := proc.Identify(pid); return !runs }, 30*time.Second, 10*time.Millisecond)
}

func TestRecords_Sweep(t *testing.T) {
	t.Parallel()

	t.Run("ends what was left, also when it is frozen or deaf", func(t *testing.T) {
		t.Parallel()
		left, runs, _ := shell(t, `trap 'exit 0' TERM; echo ready; while :; do sleep 0.01; done`)
		require.NoError(t, syscall.Kill(left.PID(), syscall.SIGSTOP))
		ended, err := runs.Sweep()
		require.NoError(t, err)
		require.Equal(t, []string{"shell"}, ended)
		require.Eventually(t, func() bool { _, runs := proc.Identify(left.PID()); return !runs }, 30*time.Second, 10*time.Millisecond)
		require.Empty(t, runs.List())
	})

	t.Run("leaves another process alone that has the pid by now", func(t *testing.T) {
		t.Parallel()
		stranger, runs, _ := shell(t, `echo ready; exec sleep 600`)
		record := runs.List()[0]
		record.Started = "1@another-boot"
		require.NoError(t, proc.WriteFile(filepath.Join(runs.Dir, "shell"+proc.Extension), record))
		ended, err := runs.Sweep()
		require.NoError(t, err)
		require.Empty(t, ended)
		require.Empty(t, runs.List())
		_, alive := proc.Identify(stranger.PID())
		require.True(t, alive)
	})

	t.Run("drops what it cannot read", func(t *testing.T) {
		t.Parallel()
		runs := proc.Records{Dir: t.TempDir()}
		require.NoError(t, os.WriteFile(filepath.Join(runs.Dir, "x"+proc.Extension), []byte(`{"pid":`), 0o600))
		ended, err := runs.Sweep()
		require.NoError(t, err)
		require.Empty(t, ended)
		require.Empty(t, runs.List())
	})
}

func TestIdentity(t *testing.T) {
	t.Parallel()
	self := proc.Self()
	require.True(t, self.Alive())
	require.Contains(t, self.Command, "proc.test")
	other := self
	other.Started += "0"
	require.False(t, other.Alive())
	require.ErrorIs(t, other.Signal(syscall.SIGKILL), os.ErrProcessDone)
	require.ErrorIs(t, self.WaitGone(0), proc.ErrStillRuns)
	require.NoError(t, other.WaitGone(time.Hour))
	require.False(t, proc.Identity{}.Alive())
}

func TestTakeLock(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "lock")
	first, err := proc.TakeLock(path)
	require.NoError(t, err)
	_, err = proc.TakeLock(path)
	require.ErrorIs(t, err, proc.ErrLocked)
	require.NoError(t, first.Release())
	second, err := proc.TakeLock(path)
	require.NoError(t, err)
	require.NoError(t, second.Release())
}

// shell runs a script and returns when it has printed "ready".
func shell(t *testing.T, script string) (*proc.Process, proc.Records, *buffer) {
	t.Helper()
	runs, out := proc.Records{Dir: t.TempDir()}, &buffer{}
	p, err := proc.Start(proc.Spec{Name: "shell", Path: "/bin/sh", Args: []string{"-c", script}, Output: out}, runs)
	require.NoError(t, err)
	t.Cleanup(func() {
		_ = syscall.Kill(-p.PID(), syscall.SIGKILL)
		<-p.Done()
	})
	require.Eventually(t, func() bool { return strings.Contains(out.String(), "ready") }, 30*time.Second, 10*time.Millisecond)
	return p, runs, out
}

// buffer may be read while it is written.
type buffer struct {
	mu  sync.Mutex
	all bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.all.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.all.String()
}
