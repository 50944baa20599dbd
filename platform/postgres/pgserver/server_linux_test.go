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
		require.NoError(t, execute(t, s.URL("postgres"), "create table filler (b bytea)"))
		for range 100 {
			// Tables fill up with an error, the log of changes with a crash.
			if execute(t, s.URL("postgres"), "insert into filler select gen_random_uuid()::text::bytea from generate_series(1, 20000)") != nil {
				break
			}
		}
		require.Eventually(t, func() bool {
			_ = execute(t, s.URL("postgres"), "checkpoint")
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
