package pgserver

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"
)

// The reasons for which a server does not start, for errors.Is. The error's
// text says what to do.
var (
	ErrNoBinaries  = errors.New("no PostgreSQL found")
	ErrPortTaken   = errors.New("port taken")
	ErrDiskFull    = errors.New("disk full")
	ErrVersion     = errors.New("data of another PostgreSQL version")
	ErrInUse       = errors.New("data folder in use")
	ErrUnreachable = errors.New("folder not reachable")
)

// explain turns what PostgreSQL printed before it gave up into an error that
// says what to do about it.
func explain(output string, l layout, port int) error {
	switch {
	case strings.Contains(output, "No space left on device"):
		return diskFull(l)
	case strings.Contains(output, "Address already in use"):
		return portTaken(port)
	default:
		return fmt.Errorf("PostgreSQL gave up: %s (log: %s)", lastLines(output, 5), l.log())
	}
}

// wrapIO names a full disk for what it is and leaves other errors alone.
func wrapIO(err error, l layout) error {
	if errors.Is(err, syscall.ENOSPC) {
		return fmt.Errorf("%w (%w)", diskFull(l), err)
	}
	return err
}

func diskFull(l layout) error {
	free := "little"
	var fs syscall.Statfs_t
	if syscall.Statfs(l.dir, &fs) == nil {
		free = fmt.Sprintf("%d MB", fs.Bavail*uint64(fs.Bsize)>>20)
	}
	return fmt.Errorf("%w: PostgreSQL cannot write to %s (%s left on its file system): free some space there or choose another folder, then start again",
		ErrDiskFull, l.dir, free)
}

func portTaken(port int) error {
	return fmt.Errorf("%w: something else listens on 127.0.0.1:%d: stop it or choose another port", ErrPortTaken, port)
}

// lastLines returns the last n lines of text that are not empty, on one line.
func lastLines(text string, n int) string {
	lines := strings.FieldsFunc(text, func(r rune) bool { return r == '\n' })
	return strings.Join(lines[max(0, len(lines)-n):], " | ")
}

// readFrom returns the part of the file that follows offset, its last 64 KiB at
// most.
func readFrom(path string, offset int64) string {
	f, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer func() { _ = f.Close() }()
	if info, err := f.Stat(); err == nil {
		offset = max(offset, info.Size()-64<<10)
	}
	text, _ := io.ReadAll(io.NewSectionReader(f, offset, 64<<10))
	return string(text)
}
