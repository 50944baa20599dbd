package pgserver

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
)

// process is a running child.
type process struct {
	pid  int
	done chan struct{} // closed when the child has ended
	err  error         // how it ended; set before done is closed
}

// start runs the program as the account, in a process group of its own so that
// Ctrl-C in a terminal reaches only the caller, and in a way that it does not
// outlive the caller.
func (a account) start(cmd *exec.Cmd) (*process, error) {
	cmd.SysProcAttr = dieWithParent(&syscall.SysProcAttr{Setpgid: true, Credential: a.credential()})
	cmd.Env = append(cmd.Env, "LC_ALL=C", "TZ=UTC", "PATH="+filepath.Dir(cmd.Path)+":/usr/bin:/bin")
	p := &process{done: make(chan struct{})}
	started := make(chan error)
	go func() {
		// Linux sends the parent-death signal when the thread that started the
		// child ends, so that thread is kept until the child is gone.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		if err != nil {
			started <- err
			return
		}
		release := guard(cmd.Process.Pid)
		started <- nil
		p.err = cmd.Wait()
		release()
		close(p.done)
	}()
	if err := <-started; err != nil {
		return nil, err
	}
	p.pid = cmd.Process.Pid
	return p, nil
}

// family is the processes of one server: its postmaster and those that this one
// has forked.
type family struct {
	postmaster int
	children   []int
}

func (f family) empty() bool { return f.postmaster == 0 && len(f.children) == 0 }

// pids lists the postmaster first: stopped, it can fork no more children.
func (f family) pids() []int {
	if f.postmaster == 0 {
		return f.children
	}
	return append([]int{f.postmaster}, f.children...)
}

func (f family) signal(sig syscall.Signal) {
	for _, pid := range f.pids() {
		_ = syscall.Kill(pid, sig)
	}
}

// familyOf finds the processes of the server on this data folder, also when
// their parent is long gone. A postmaster is known by its arguments, a child by
// the cluster name in its title.
func familyOf(l layout) family {
	var f family
	for pid, args := range processes() {
		switch {
		case isPostgres(args) && strings.Contains(args+" ", " -D "+l.data()+" "):
			// A child looks like its postmaster until it has set its title.
			if f.postmaster != 0 {
				f.children = append(f.children, max(pid, f.postmaster))
				pid = min(pid, f.postmaster)
			}
			f.postmaster = pid
		case strings.HasPrefix(args, "postgres: "+l.clusterName()+": "):
			f.children = append(f.children, pid)
		}
	}
	return f
}

func isPostgres(args string) bool {
	program, _, _ := strings.Cut(args, " ")
	return filepath.Base(program) == "postgres"
}

func alive(pid int) bool {
	err := syscall.Kill(pid, 0)
	return err == nil || errors.Is(err, syscall.EPERM)
}

// interrupt asks the process to end as fast as it can end cleanly.
func (p *process) interrupt() { _ = syscall.Kill(p.pid, syscall.SIGINT) }

func (p *process) ended() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// ownFile gives the account a private file with the content.
func (a account) ownFile(path, content string) error {
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		return err
	}
	return a.own(path)
}
