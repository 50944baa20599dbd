//go:build unix && !linux

package pgserver

import (
	"os/exec"
	"strconv"
	"strings"
	"syscall"
)

func dieWithParent(attr *syscall.SysProcAttr) *syscall.SysProcAttr { return attr }

// guard starts a shell that waits on a pipe. The pipe closes when this process
// is gone, however it went, and the shell then sends a fast shutdown.
func guard(pid int) (release func()) {
	cmd := exec.Command("/bin/sh", "-c", `read -r _; kill -INT "$0"`, strconv.Itoa(pid))
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	pipe, err := cmd.StdinPipe()
	if err != nil {
		return func() {}
	}
	if err := cmd.Start(); err != nil {
		return func() {}
	}
	return func() {
		_ = cmd.Process.Kill()
		_ = pipe.Close()
		_ = cmd.Wait()
	}
}

// processes returns the arguments of every process that can be seen.
func processes() map[int]string {
	all := map[int]string{}
	out, _ := exec.Command("ps", "-axww", "-o", "pid=,command=").Output()
	for line := range strings.Lines(string(out)) {
		number, args, _ := strings.Cut(strings.TrimSpace(line), " ")
		if pid, err := strconv.Atoi(number); err == nil {
			all[pid] = strings.TrimSpace(args)
		}
	}
	return all
}
