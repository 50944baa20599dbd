package proc

import (
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

// A child between fork and exec holds a copy of the descriptor, as the
// duplicate here does. Broken once by closing without unlocking.
func TestRelease_whileACopyIsOpen(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "lock")
	first, err := TakeLock(path)
	require.NoError(t, err)
	duplicate, err := syscall.Dup(int(first.file.Fd()))
	require.NoError(t, err)
	t.Cleanup(func() { _ = syscall.Close(duplicate) })
	require.NoError(t, first.Release())
	second, err := TakeLock(path)
	require.NoError(t, err)
	require.NoError(t, second.Release())
}
