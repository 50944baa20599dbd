// Package proc runs the programs of a project and makes sure that none of them
// outlives it: on Linux the kernel ends them with their parent, and everywhere a
// record of each lets the next start find and end what was left.
package proc

import (
	"errors"
	"os"
	"syscall"
	"time"
)

// Identity tells a process from another one that got the same pid later.
type Identity struct {
	PID int `json:"pid"`
	// Started is when the process began, in the system's own terms.
	Started string `json:"started"`
	// Command is its program. The arguments do not count: some programs overwrite
	// them.
	Command string `json:"command"`
}

// Identify returns the identity of a running process. ok is false when there is
// none.
func Identify(pid int) (id Identity, ok bool) {
	started, command, ok := inspect(pid)
	return Identity{PID: pid, Started: started, Command: command}, ok
}

// Self returns the identity of this process.
func Self() Identity {
	id, _ := Identify(os.Getpid())
	return id
}

// Alive tells whether this very process still runs.
func (i Identity) Alive() bool {
	if i.PID <= 0 {
		return false
	}
	now, ok := Identify(i.PID)
	return ok && now == i
}

// Signal sends the signal if this very process still runs.
func (i Identity) Signal(sig syscall.Signal) error {
	if !i.Alive() {
		return os.ErrProcessDone
	}
	return syscall.Kill(i.PID, sig)
}

// reaping bounds the wait for the system to forget a process that has ended.
const reaping = 3 * time.Second

// waitReaped waits until the pid is free. A process that has ended but that nobody
// has waited for yet still looks alive to programs such as PostgreSQL, which refuse
// to start beside it.
func (i Identity) waitReaped() {
	deadline := time.After(reaping)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for i.PID > 0 && !errors.Is(syscall.Kill(i.PID, 0), syscall.ESRCH) {
		select {
		case <-tick.C:
		case <-deadline:
			return
		}
	}
}

// ErrStillRuns says that a process outlived the wait for its end.
var ErrStillRuns = errors.New("the process still runs")

// WaitGone waits until the process has ended.
func (i Identity) WaitGone(timeout time.Duration) error {
	deadline := time.After(timeout)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for i.Alive() {
		select {
		case <-tick.C:
		case <-deadline:
			return ErrStillRuns
		}
	}
	return nil
}
