package proc

import (
	"fmt"
	"os"
	"strings"
	"syscall"
)

// dieWithParent has the kernel kill the child when this process is gone.
func dieWithParent(attr *syscall.SysProcAttr, sig syscall.Signal) { attr.Pdeathsig = sig }

// inspect reads when a process began, as ticks since a certain boot, and its
// program's name. A zombie has ended.
func inspect(pid int) (started, command string, ok bool) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return "", "", false
	}
	// 4711 (name, perhaps with blanks and brackets) S …
	text := string(stat)
	begin, end := strings.IndexByte(text, '('), strings.LastIndexByte(text, ')')
	fields := strings.Fields(text[end+1:])
	if begin < 0 || len(fields) < 20 || fields[0] == "Z" || fields[0] == "X" {
		return "", "", false
	}
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "", "", false
	}
	return fields[19] + "@" + strings.TrimSpace(string(boot)), text[begin+1 : end], true
}
