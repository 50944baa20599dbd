package redistest

import "syscall"

// diesWithParent lets the kernel kill the child when the test process is gone.
func diesWithParent() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
}
