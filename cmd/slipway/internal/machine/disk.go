// Package machine knows what the machine has to give: free ports, and who holds
// those that are taken, and free disk space.
package machine

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// ErrDiskFull says that a file system has too little free space.
var ErrDiskFull = errors.New("disk full")

// MB is the unit in which messages speak of space.
const MB = 1 << 20

// Free returns how many bytes an account other than root may still write to the
// file system of dir. A dir that is still to be made counts as its nearest
// existing parent.
func Free(dir string) (uint64, error) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return 0, fmt.Errorf("resolve folder %s: %w", dir, err)
	}
	for {
		var fs syscall.Statfs_t
		err := syscall.Statfs(abs, &fs)
		switch {
		case err == nil:
			return fs.Bavail * uint64(fs.Bsize), nil
		case errors.Is(err, os.ErrNotExist) && abs != filepath.Dir(abs):
			abs = filepath.Dir(abs)
		default:
			return 0, fmt.Errorf("ask for free space of %s: %w", abs, err)
		}
	}
}

// RequireFree returns ErrDiskFull when fewer bytes are free for dir.
func RequireFree(dir string, need uint64) error {
	free, err := Free(dir)
	if err != nil {
		return err
	}
	if free < need {
		return fmt.Errorf("%w: %s has %d MB free, needed are %d MB: free some space on its file system, then start again",
			ErrDiskFull, dir, free/MB, need/MB)
	}
	return nil
}

// full is how the system says it, in whatever program or language.
const full = "no space left on device"

// DiskFull returns ErrDiskFull when the text of another program or library says that
// the disk was full, and nil otherwise. The error names what was being done, "build
// order" for instance, the line that says it and the space that dir has left.
func DiskFull(doing, dir, text string) error {
	for line := range strings.Lines(text) {
		if !strings.Contains(strings.ToLower(line), full) {
			continue
		}
		left := "little"
		if free, err := Free(dir); err == nil {
			left = fmt.Sprintf("%d MB", free/MB)
		}
		return fmt.Errorf("%s: %w (%s): %s has %s left: free some space, then start again",
			doing, ErrDiskFull, strings.TrimSpace(line), dir, left)
	}
	return nil
}
