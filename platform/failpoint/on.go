//go:build failpoints && unix

package failpoint

import (
	"errors"
	"fmt"
	"os"
	"path"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
)

// Enabled tells whether the program was built to crash. Guard with it what only makes a
// detail.
const Enabled = true

// points is what is to happen, and what has.
type points struct {
	mu      sync.Mutex
	crashes map[string]int // at which time, by name
	reached map[string]int
	mark    string
	seen    *os.File
}

var active = sync.OnceValue(func() *points {
	p, err := parse(os.Getenv("FAILPOINTS"))
	if err == nil && os.Getenv("FAILPOINTS_SEEN") != "" {
		p.seen, err = os.OpenFile(os.Getenv("FAILPOINTS_SEEN"), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	p.mark = os.Getenv("FAILPOINTS_MARK")
	return p
})

func init() { active() }

// parse reads a list of name=crash@n.
func parse(text string) (*points, error) {
	p := &points{crashes: map[string]int{}, reached: map[string]int{}}
	for setting := range strings.SplitSeq(text, ",") {
		if setting == "" {
			continue
		}
		name, action, _ := strings.Cut(setting, "=")
		time, ok := strings.CutPrefix(action, "crash@")
		n, err := strconv.Atoi(time)
		if name == "" || !ok || err != nil || n < 1 {
			return nil, fmt.Errorf("FAILPOINTS: %q: want name=crash@n with n from 1", setting)
		}
		p.crashes[name] = n
	}
	return p, nil
}

// At marks a place where the process may die. detail is what is behind the slash of its
// name; without one that is the function that called the package of the mark. It is safe
// for concurrent use, and does nothing without the build tag failpoints.
func At(p Point, detail string) {
	if detail == "" {
		detail = caller()
	}
	active().reach(string(p) + "/" + detail)
}

func (p *points) reach(name string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.reached[name]++
	if p.reached[name] == 1 && p.seen != nil {
		_, _ = fmt.Fprintln(p.seen, name)
	}
	if p.reached[name] != p.crashes[name] {
		return
	}
	if err := p.note(name); err != nil { // the crash would prove nothing
		fmt.Fprintln(os.Stderr, "FAILPOINTS_MARK:", err)
		os.Exit(2)
	}
	_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
	select {}
}

// note leaves word where the process died.
func (p *points) note(name string) error {
	if p.mark == "" {
		return nil
	}
	f, err := os.Create(p.mark)
	if err != nil {
		return err
	}
	_, err = f.WriteString(name)
	return errors.Join(err, f.Sync(), f.Close())
}

// caller returns the first function outside of the package of the mark that has a name.
func caller() string {
	var pcs [32]uintptr
	frames := runtime.CallersFrames(pcs[:runtime.Callers(3, pcs[:])])
	first, more := frames.Next()
	for frame := first; more; {
		frame, more = frames.Next()
		name := path.Base(frame.Function)
		if packageOf(frame.Function) != packageOf(first.Function) && !strings.Contains(name, ".func") {
			return strings.NewReplacer(",", "", "=", "").Replace(name)
		}
	}
	return "unknown"
}

func packageOf(function string) string {
	dir, name := path.Split(function)
	name, _, _ = strings.Cut(name, ".")
	return dir + name
}
