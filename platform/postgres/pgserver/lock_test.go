package pgserver

import (
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

// A child between fork and exec holds a copy of the descriptor, as the
// duplicate here does. Broken once by closing without unlocking.
func TestRelease_whileACopyIsOpen(t *testing.T) {
	t.Parallel()
	l := layout{dir: t.TempDir()}
	first, err := l.acquire()
	require.NoError(t, err)
	duplicate, err := syscall.Dup(int(first.Fd()))
	require.NoError(t, err)
	t.Cleanup(func() { _ = syscall.Close(duplicate) })
	release(first)
	second, err := l.acquire()
	require.NoError(t, err)
	release(second)
}
