//go:build unix && !linux

package proc

import (
	"os/exec"
	"strconv"
	"strings"
	"syscall"
)

// dieWithParent is not to be had here: the next start ends what was left.
func dieWithParent(*syscall.SysProcAttr, syscall.Signal) {}

// inspect asks ps when a process began and for its program.
func inspect(pid int) (started, command string, ok bool) {
	out, err := exec.Command("ps", "-ww", "-o", "stat=,lstart=,comm=", "-p", strconv.Itoa(pid)).Output()
	if err != nil {
		return "", "", false
	}
	// S+ Mon Nov 23 05:30:00 2026 /path/of/the program
	fields := strings.Fields(string(out))
	if len(fields) < 7 || strings.HasPrefix(fields[0], "Z") {
		return "", "", false
	}
	return strings.Join(fields[1:6], " "), strings.Join(fields[6:], " "), true
}
