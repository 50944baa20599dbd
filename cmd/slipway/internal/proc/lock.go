package proc

import (
	"errors"
	"fmt"
	"os"
	"syscall"
)

// ErrLocked says that another living process holds a lock.
var ErrLocked = errors.New("locked by another process")

// Lock is held until Release or the end of this process, however that comes.
type Lock struct{ file *os.File }

// TakeLock takes the lock of a file, or returns ErrLocked.
func TakeLock(path string) (*Lock, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open lock: %w", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = f.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, fmt.Errorf("take lock %s: %w", path, ErrLocked)
		}
		return nil, fmt.Errorf("take lock %s: %w", path, err)
	}
	return &Lock{file: f}, nil
}

// Release gives the lock back. The file stays: removing it would let two
// processes each hold a lock of that name.
// It unlocks before it closes: a child that is being started holds a copy of
// every open file until it execs, and closing alone would leave it the lock.
func (l *Lock) Release() error {
	return errors.Join(syscall.Flock(int(l.file.Fd()), syscall.LOCK_UN), l.file.Close())
}
