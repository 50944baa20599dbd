package devenv

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/slipwayhq/slipway/cmd/slipway/internal/machine"
	"github.com/slipwayhq/slipway/cmd/slipway/internal/proc"
)

// compiler writes a script that stands in for go: it is called as go is.
func compiler(t *testing.T, script string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "go")
	require.NoError(t, os.WriteFile(path, []byte("#!/bin/sh\n"+script+"\n"), 0o755))
	return path
}

func TestEnv_buildOne(t *testing.T) {
	t.Parallel()

	t.Run("builds the package in a folder of its own", func(t *testing.T) {
		t.Parallel()
		e := setup(t)
		s := e.cfg.Project.Services[0]
		require.NoError(t, e.buildOne(t.Context(), compiler(t, `echo "$@ $GOTMPDIR" >"$3"`), s))
		text, err := os.ReadFile(e.at.bin("order"))
		require.NoError(t, err)
		require.Equal(t, "build -o "+e.at.bin("order")+" ./order "+e.at.build()+"\n", string(text))
		require.Empty(t, e.at.records().List())
	})

	t.Run("shows what the compiler says", func(t *testing.T) {
		t.Parallel()
		e := setup(t)
		err := e.buildOne(t.Context(), compiler(t, "echo main.go:1: no; exit 1"), e.cfg.Project.Services[0])
		require.EqualError(t, err, "build order: it does not compile:\nmain.go:1: no")
	})

	t.Run("names a full disk for what it is", func(t *testing.T) {
		t.Parallel()
		e := setup(t)
		err := e.buildOne(t.Context(), compiler(t, "echo write x: no space left on device; exit 1"), e.cfg.Project.Services[0])
		require.ErrorIs(t, err, machine.ErrDiskFull)
		require.NotContains(t, err.Error(), "\n")
	})
}

func TestBuildScript_endsWhatTheCompilerHasStarted(t *testing.T) {
	t.Parallel()
	e := setup(t)
	linker := filepath.Join(t.TempDir(), "linker.pid")
	p, err := proc.Start(proc.Spec{
		Name: "build", Path: "/bin/sh", Env: e.cfg.Environ, DeathSignal: syscall.SIGTERM,
		Args: []string{"-c", buildScript, compiler(t, "sleep 600 & echo $! >"+linker+".new; mv "+linker+".new "+linker+"; wait")},
	}, e.at.records())
	require.NoError(t, err)
	var pid int
	require.Eventually(t, func() bool {
		text, err := os.ReadFile(linker)
		if err != nil {
			return false
		}
		pid, err = strconv.Atoi(strings.TrimSpace(string(text)))
		return err == nil
	}, patience, tick)
	require.NoError(t, syscall.Kill(p.PID(), syscall.SIGTERM)) // as the kernel does when slipway is gone
	<-p.Done()
	require.Eventually(t, func() bool { _, runs := proc.Identify(pid); return !runs }, patience, tick)
	require.Error(t, p.Stop(t.Context()), "it was killed")
}
