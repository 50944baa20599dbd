package machine

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// listening is the state of a socket in /proc/net/tcp that accepts connections.
const listening = "0A"

// holder describes the process that listens on the port, or returns "".
func holder(port int) string {
	for _, table := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
		text, err := os.ReadFile(table)
		if err != nil {
			continue
		}
		for line := range strings.Lines(string(text)) {
			if inode, ok := listenerOn(line, port); ok {
				return ownerOf("socket:[" + inode + "]")
			}
		}
	}
	return ""
}

// listenerOn reads a line such as
//
//	0: 0100007F:C383 00000000:0000 0A 00000000:00000000 00:00000000 00000000 0 0 4711
//
// and returns the inode of a socket that listens on the port.
func listenerOn(line string, port int) (inode string, ok bool) {
	fields := strings.Fields(line)
	if len(fields) < 10 || fields[3] != listening {
		return "", false
	}
	_, local, _ := strings.Cut(fields[1], ":")
	number, err := strconv.ParseUint(local, 16, 16)
	return fields[9], err == nil && int(number) == port
}

// ownerOf finds the process with the socket among those that we may look into.
func ownerOf(socket string) string {
	links, _ := filepath.Glob("/proc/[0-9]*/fd/*")
	for _, link := range links {
		if target, err := os.Readlink(link); err != nil || target != socket {
			continue
		}
		dir := filepath.Dir(filepath.Dir(link))
		args, _ := os.ReadFile(filepath.Join(dir, "cmdline"))
		command := strings.TrimSpace(strings.ReplaceAll(string(args), "\x00", " "))
		if len(command) > 60 {
			command = command[:60] + "…"
		}
		return fmt.Sprintf("process %s (%s)", filepath.Base(dir), command)
	}
	return ""
}
