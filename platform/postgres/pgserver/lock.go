package pgserver

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// lock takes the folder for this process. The system frees it when the process
// ends, so who gets the lock knows that no living owner is left.
func (l layout) acquire() (*os.File, error) {
	f, err := os.OpenFile(l.lock(), os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, fmt.Errorf("open lock: %w", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		owner := make([]byte, 20)
		n, _ := f.ReadAt(owner, 0)
		_ = f.Close()
		return nil, fmt.Errorf("%w: process %s runs a server in %s: stop it or choose another folder",
			ErrInUse, strings.TrimSpace(string(owner[:n])), l.dir)
	}
	if err := errors.Join(f.Truncate(0), writePID(f)); err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("write lock: %w", err)
	}
	return f, nil
}

// release unlocks before it closes: a child that is being started holds a copy
// of every open file until it execs, and closing alone would leave it the lock.
func release(lock *os.File) {
	_ = syscall.Flock(int(lock.Fd()), syscall.LOCK_UN)
	_ = lock.Close()
}

func writePID(f *os.File) error {
	_, err := f.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
	return err
}

// pidFile is what a postmaster says of itself.
type pidFile struct {
	pid    int
	socket string // folder
	status string
}

func (l layout) readPIDFile() (pidFile, bool) {
	text, err := os.ReadFile(l.pidFile())
	if err != nil {
		return pidFile{}, false
	}
	lines := strings.Split(string(text), "\n")
	line := func(i int) string {
		if i < len(lines) {
			return strings.TrimSpace(lines[i])
		}
		return ""
	}
	pid, _ := strconv.Atoi(line(0))
	return pidFile{pid: pid, socket: line(4), status: line(7)}, true
}

// clean ends the server that an owner now dead has left on the data folder, and
// removes what that server would have removed. The caller holds the lock.
func (l layout) clean(ctx context.Context) error {
	if err := l.endOrphan(ctx); err != nil {
		return err
	}
	old, ok := l.readPIDFile()
	if !ok {
		return nil
	}
	if args, running := processes()[old.pid]; running && isPostgres(args) && alive(old.pid) {
		return fmt.Errorf("%w: PostgreSQL (process %d), started by something else, may run on %s: stop it first",
			ErrInUse, old.pid, l.data())
	}
	if isShortRun(old.socket) {
		_ = os.RemoveAll(old.socket)
	}
	if err := os.Remove(l.pidFile()); err != nil {
		return fmt.Errorf("remove stale pid file: %w", err)
	}
	return nil
}

// endOrphan stops a server without an owner, ever less gently.
func (l layout) endOrphan(ctx context.Context) error {
	for _, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGQUIT, syscall.SIGKILL} {
		f := familyOf(l)
		if f.empty() {
			return nil
		}
		f.signal(syscall.SIGCONT)
		if f.postmaster == 0 || sig == syscall.SIGKILL {
			f.signal(sig) // children without a postmaster end like this only
		} else {
			_ = syscall.Kill(f.postmaster, sig)
		}
		gone := func() bool { return familyOf(l).empty() }
		if err := poll(ctx, 5*time.Second, gone); err == nil {
			return nil
		} else if ctx.Err() != nil {
			return fmt.Errorf("stop the server that was left in %s: %w", l.dir, ctx.Err())
		}
	}
	return fmt.Errorf("%w: the server that was left in %s does not stop", ErrInUse, l.dir)
}

// poll waits until the condition holds, for at most the timeout.
func poll(ctx context.Context, timeout time.Duration, condition func() bool) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !condition() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// Remove deletes the server in dir with all its data, after stopping one that
// was left behind. A server that a living process runs is ErrInUse.
func Remove(ctx context.Context, dir string) error {
	l, err := newLayout(dir)
	if err != nil {
		return err
	}
	if _, err := os.Stat(l.dir); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	lock, err := l.acquire()
	if err != nil {
		return err
	}
	defer release(lock)
	if err := l.clean(ctx); err != nil {
		return err
	}
	var errs []error
	for _, path := range []string{l.data(), l.fresh(), l.run(), l.log(), l.password(), l.lock()} {
		errs = append(errs, os.RemoveAll(path))
	}
	_ = os.Remove(l.dir) // only when nothing else is in it
	return errors.Join(errs...)
}

const shortRunPrefix = "slipway-pg-"

// maxSocketDir leaves room for ".s.PGSQL.65535" in the 104 bytes that macOS has
// for the path of a socket; Linux has 108.
const maxSocketDir = 104 - len("/.s.PGSQL.65535") - 1

// runDir makes the folder of the socket.
func (l layout) runDir(a account) (string, error) {
	if len(l.run()) <= maxSocketDir {
		return l.run(), a.mkdir(l.run())
	}
	dir, err := os.MkdirTemp("/tmp", shortRunPrefix)
	if err != nil {
		return "", err
	}
	return dir, a.own(dir)
}

func isShortRun(dir string) bool {
	return filepath.Dir(dir) == "/tmp" && strings.HasPrefix(filepath.Base(dir), shortRunPrefix)
}
