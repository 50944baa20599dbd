//go:build unix

package failpoint_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/slipwayhq/slipway/platform/failpoint"
)

// program is what the tests build with and without the tag: it reaches a place three
// times.
const program = `package main

import (
	"fmt"

	"github.com/slipwayhq/slipway/platform/failpoint"
)

func main() {
	for range 3 {
		failpoint.At(failpoint.BeforeCall, "reserve-stock")
		fmt.Println("alive")
	}
}
`

func build(t *testing.T, tags string) string {
	t.Helper()
	dir, err := os.MkdirTemp(".", "_build-") // within the module, and not one of its packages
	require.NoError(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	require.NoError(t, os.WriteFile(filepath.Join(dir, "main.go"), []byte(program), 0o600))
	binary := filepath.Join(t.TempDir(), "program")
	out, err := exec.CommandContext(t.Context(), "go", "build", "-tags", tags, "-o", binary, "./"+dir).CombinedOutput()
	require.NoError(t, err, string(out))
	return binary
}

func run(t *testing.T, binary string, env ...string) (output string, state *os.ProcessState) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), binary)
	cmd.Env = env
	out, _ := cmd.CombinedOutput()
	return string(out), cmd.ProcessState
}

func TestAt(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	mark, seen := filepath.Join(dir, "mark"), filepath.Join(dir, "seen")
	env := []string{"FAILPOINTS=other=crash@1,before-call/reserve-stock=crash@3", "FAILPOINTS_MARK=" + mark, "FAILPOINTS_SEEN=" + seen}

	t.Run("dies when it is reached as often as was asked for", func(t *testing.T) {
		t.Parallel()
		binary := build(t, "failpoints")
		output, state := run(t, binary, env...)
		require.Equal(t, syscall.SIGKILL, state.Sys().(syscall.WaitStatus).Signal())
		require.Equal(t, "alive\nalive\n", output)
		for _, file := range []string{mark, seen} {
			text, err := os.ReadFile(file)
			require.NoError(t, err)
			require.Contains(t, string(text), "before-call/reserve-stock")
		}

		output, state = run(t, binary)
		require.Zero(t, state.ExitCode(), output)

		for _, bad := range []string{"a", "a=crash", "a=crash@0", "=crash@1", "a=panic@1"} {
			output, state = run(t, binary, "FAILPOINTS="+bad)
			require.Equal(t, 2, state.ExitCode(), bad)
			require.Contains(t, output, "want name=crash@n")
		}
		output, state = run(t, binary, "FAILPOINTS=before-call/reserve-stock=crash@1", "FAILPOINTS_MARK=/nowhere/mark")
		require.Equal(t, 2, state.ExitCode(), "a crash that leaves no word proves nothing")
		require.Contains(t, output, "/nowhere/mark")
	})
	t.Run("is nothing without the tag", func(t *testing.T) {
		t.Parallel()
		output, state := run(t, build(t, ""), env...)
		require.Zero(t, state.ExitCode())
		require.Equal(t, "alive\nalive\nalive\n", output)
	})
}

func ExampleAt() {
	charge := func() error { return nil }
	failpoint.At("before-charge", "card") // dies here with FAILPOINTS=before-charge/card=crash@1
	_ = charge()
	failpoint.At("after-charge", "card")
	// Output:
}
