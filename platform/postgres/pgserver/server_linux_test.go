package pgserver_test

import (
	"os"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/slipwayhq/slipway/platform/postgres/pgserver"
)

// smallDisk mounts a file system of the given size over the server's folder.
func smallDisk(t *testing.T, dir, size string) {
	t.Helper()
	require.NoError(t, os.MkdirAll(dir, 0o755))
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size="+size+",mode=755"); err != nil {
		t.Skipf("mount a small file system: %v", err)
	}
	t.Cleanup(func() { _ = syscall.Unmount(dir, syscall.MNT_DETACH) })
}

func TestStart_diskFull(t *testing.T) {
	t.Parallel()
	t.Run("while the cluster is made", func(t *testing.T) {
		t.Parallel()
		cfg := setup(t)
		smallDisk(t, cfg.Dir, "8m")
		_, err := pgserver.Start(t.Context(), cfg)
		require.ErrorIs(t, err, pgserver.ErrDiskFull)
		require.ErrorContains(t, err, cfg.Dir)
		require.NoDirExists(t, cfg.Dir+"/data", "half a cluster is not left behind")
	})
	t.Run("while the server runs", func(t *testing.T) {
		t.Parallel()
		cfg := setup(t)
		smallDisk(t, cfg.Dir, "48m")
		s := start(t, cfg)
		// Tables fill up with an error, the log of changes with a crash: this writes nothing but log,
		// and there is no room for its second segment.
		require.Eventually(t, func() bool {
			_ = execute(t, s.URL("postgres"), "select pg_logical_emit_message(false, 'fill', repeat('x', 1000000))")
			select {
			case <-s.Done():
				return true
			default:
				return false
			}
		}, wait, tick)
		require.ErrorIs(t, s.Err(), pgserver.ErrDiskFull)
		require.ErrorIs(t, s.Restart(t.Context()), pgserver.ErrDiskFull)
	})
}
