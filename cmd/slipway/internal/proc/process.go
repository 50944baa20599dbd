package proc

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"runtime"
	"syscall"
	"time"
)

// Spec says what to run.
type Spec struct {
	// Name is that of the record, and of the process in messages.
	Name string
	Path string
	Args []string
	// Env is the whole environment.
	Env []string
	// Dir is the working folder.
	Dir string
	// Output receives what the program prints. nil drops it.
	Output io.Writer
	// StopSignal asks it to end. 0 means SIGTERM.
	StopSignal syscall.Signal
	// DeathSignal is what the kernel sends it on Linux when this process is
	// gone. 0 means SIGKILL.
	DeathSignal syscall.Signal
}

// Process is a running program. Its methods may be called from several
// goroutines.
type Process struct {
	spec   Spec
	pid    int
	record *Record
	done   chan struct{}
	err    error // how it ended; set before done is closed
}

// outputDelay bounds the wait for output after the end: a grandchild may hold
// the pipe.
const outputDelay = 2 * time.Second

// Start runs the program in a process group of its own, so that Ctrl-C in a
// terminal reaches this process only, and records it in runs.
func Start(spec Spec, runs Records) (*Process, error) {
	if spec.StopSignal == 0 {
		spec.StopSignal = syscall.SIGTERM
	}
	if spec.DeathSignal == 0 {
		spec.DeathSignal = syscall.SIGKILL
	}
	cmd := exec.Command(spec.Path, spec.Args...)
	cmd.Env, cmd.Dir, cmd.Stdout, cmd.Stderr, cmd.WaitDelay = spec.Env, spec.Dir, spec.Output, spec.Output, outputDelay
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	dieWithParent(cmd.SysProcAttr, spec.DeathSignal)
	p := &Process{spec: spec, done: make(chan struct{})}
	started := make(chan error)
	go p.run(cmd, started)
	if err := <-started; err != nil {
		return nil, fmt.Errorf("run %s: %w", spec.Path, err)
	}
	p.pid = cmd.Process.Pid
	record, err := runs.Add(spec.Name, p.pid, spec.StopSignal)
	if err != nil {
		p.kill()
		<-p.done
		return nil, err
	}
	p.record = record
	return p, nil
}

// run starts the child and waits for it. Linux sends the death signal when the
// thread that started the child ends, so that thread is kept until then.
func (p *Process) run(cmd *exec.Cmd, started chan<- error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	err := cmd.Start()
	started <- err
	if err != nil {
		return
	}
	err = cmd.Wait()
	if errors.Is(err, exec.ErrWaitDelay) {
		err = nil
	}
	p.err = err
	close(p.done)
}

// PID returns the process id.
func (p *Process) PID() int { return p.pid }

// Done is closed when the process has ended and its output was read.
func (p *Process) Done() <-chan struct{} { return p.done }

// Err says how the process ended: nil for exit code 0. It is valid after Done.
func (p *Process) Err() error { return p.err }

// ErrKilled says that a process did not end in time and was killed.
var ErrKilled = errors.New("did not stop in time and was killed")

// Stop asks the process to end and waits for it, then drops its record. When ctx is
// over it kills the process and returns ErrKilled. An exit code other than 0 is an
// error; dying of the signal is none.
func (p *Process) Stop(ctx context.Context) error {
	p.signal(p.spec.StopSignal)
	var err error
	select {
	case <-p.done:
		err = p.err
	case <-ctx.Done():
		p.kill()
		<-p.done
		err = ErrKilled
	}
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.Sys().(syscall.WaitStatus).Signal() == p.spec.StopSignal {
		err = nil
	}
	if err != nil {
		err = fmt.Errorf("stop %s: %w", p.spec.Name, err)
	}
	if p.record != nil {
		err = errors.Join(err, p.record.Remove())
	}
	return err
}

// kill ends the process and those that it started in its group.
func (p *Process) kill() {
	select {
	case <-p.done:
	default:
		_ = syscall.Kill(-p.pid, syscall.SIGKILL)
	}
}

func (p *Process) signal(sig syscall.Signal) {
	select {
	case <-p.done: // the pid may be that of another process by now
	default:
		_ = syscall.Kill(p.pid, sig)
	}
}
