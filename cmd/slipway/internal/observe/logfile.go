package observe

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
)

// maxLogFile is how large the file of a service may grow, in bytes. It and the one
// before are kept.
const maxLogFile = 64 << 20

// LogFile gets the output of a service, for the collector to read. It continues the file
// of an earlier run. It is safe for concurrent use.
type LogFile struct {
	path string

	mu   sync.Mutex
	file *os.File
	size int64
}

// OpenLog opens the file of a service in dir, which is made when missing. The collector
// reads all of dir/*.json.
func OpenLog(dir, service string) (*LogFile, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("make folder of logs: %w", err)
	}
	l := &LogFile{path: filepath.Join(dir, service+".json")}
	if err := l.open(); err != nil {
		return nil, fmt.Errorf("open log file: %w", err)
	}
	return l, nil
}

func (l *LogFile) open() error {
	f, err := os.OpenFile(l.path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return err
	}
	info, err := f.Stat()
	if err != nil {
		return errors.Join(err, f.Close())
	}
	l.file, l.size = f, info.Size()
	return nil
}

// Write never fails: a service must not stop because the disk is full.
func (l *LogFile) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.size > maxLogFile {
		l.rotate()
	}
	if l.file != nil {
		n, _ := l.file.Write(p)
		l.size += int64(n)
	}
	return len(p), nil
}

// rotate puts the full file under a name that the collector reads too, as it may not
// have come to the end of it.
func (l *LogFile) rotate() {
	_ = l.file.Close()
	_ = os.Rename(l.path, strings.TrimSuffix(l.path, ".json")+".1.json")
	l.file = nil
	_ = l.open()
}

// Close closes the file; what is written later is dropped.
func (l *LogFile) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.file == nil {
		return nil
	}
	err := l.file.Close()
	l.file = nil
	if errors.Is(err, fs.ErrClosed) {
		return nil
	}
	return err
}
