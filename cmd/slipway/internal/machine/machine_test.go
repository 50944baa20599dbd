package machine_test

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/slipwayhq/slipway/cmd/slipway/internal/machine"
)

func TestCheckPorts(t *testing.T) {
	t.Parallel()

	t.Run("reports all taken ports at once, with their holder", func(t *testing.T) {
		t.Parallel()
		first, second := listen(t, "127.0.0.1:0"), listen(t, "[::]:0")
		free := listen(t, "127.0.0.1:0")
		require.NoError(t, free.Close())
		err := machine.CheckPorts(t.Context(), []machine.Port{
			{Number: port(first), For: "order gRPC"}, {Number: port(free), For: "order admin"}, {Number: port(second), For: "Redis"},
		})
		var taken *machine.TakenError
		require.ErrorAs(t, err, &taken)
		require.Len(t, taken.Ports, 2)
		require.Equal(t, "order gRPC", taken.Ports[0].For)
		require.Equal(t, "Redis", taken.Ports[1].For)
		require.ErrorContains(t, err, fmt.Sprintf("%d", port(second)))
		if runtime.GOOS == "linux" {
			require.Contains(t, taken.Ports[0].Holder, fmt.Sprintf("process %d (", os.Getpid()))
			require.Contains(t, taken.Ports[1].Holder, "machine.test")
		}
	})

	t.Run("is content with free ports", func(t *testing.T) {
		t.Parallel()
		free := listen(t, "127.0.0.1:0")
		require.NoError(t, free.Close())
		require.NoError(t, machine.CheckPorts(t.Context(), []machine.Port{{Number: port(free)}}))
	})
}

func TestFreeOffset(t *testing.T) {
	t.Parallel()
	taken := listen(t, "127.0.0.1:0")
	ports := []machine.Port{{Number: port(taken) - 7}}
	offset := machine.FreeOffset(t.Context(), ports, 7)
	require.Positive(t, offset)
	require.NotEqual(t, 7, offset, "that one is taken")
}

func TestRequireFree(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "still", "to be made")
	require.NoError(t, machine.RequireFree(dir, 1))
	err := machine.RequireFree(dir, 1<<60)
	require.ErrorIs(t, err, machine.ErrDiskFull)
	require.Regexp(t, `disk full: .*to be made has \d+ MB free, needed are 1099511627776 MB: free some space`, err.Error())
}

func TestDiskFull(t *testing.T) {
	t.Parallel()
	require.NoError(t, machine.DiskFull("build order", t.TempDir(), "undefined: x"))
	err := machine.DiskFull("build order", t.TempDir(), "one\nwrite /tmp/x.a: No space left on device\nthree")
	require.ErrorIs(t, err, machine.ErrDiskFull)
	require.Regexp(t, `^build order: disk full \(write /tmp/x.a: No space left on device\): .* has \d+ MB left: free some`, err.Error())
}

func listen(t *testing.T, address string) net.Listener {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", address)
	require.NoError(t, err)
	t.Cleanup(func() { _ = l.Close() })
	return l
}

func port(l net.Listener) int { return l.Addr().(*net.TCPAddr).Port }
