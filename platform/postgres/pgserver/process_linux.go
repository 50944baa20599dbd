package pgserver

import (
	"os"
	"strconv"
	"strings"
	"syscall"
)

// dieWithParent has the kernel send a fast shutdown when the caller is gone.
func dieWithParent(attr *syscall.SysProcAttr) *syscall.SysProcAttr {
	attr.Pdeathsig = syscall.SIGINT
	return attr
}

// guard does nothing here: the kernel does it.
func guard(int) (release func()) { return func() {} }

// processes returns the arguments of every process that can be seen.
func processes() map[int]string {
	all := map[int]string{}
	entries, _ := os.ReadDir("/proc")
	for _, entry := range entries {
		pid, err := strconv.Atoi(entry.Name())
		if err != nil {
			continue
		}
		args, err := os.ReadFile("/proc/" + entry.Name() + "/cmdline")
		if err != nil || len(args) == 0 {
			continue
		}
		all[pid] = strings.TrimRight(strings.ReplaceAll(string(args), "\x00", " "), " ")
	}
	return all
}
