package lab

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// tick is the unit of process times in /proc: the kernel's USER_HZ, which Linux has fixed.
const tick = 10 * time.Millisecond

// CPU returns how much time the server's processes have taken, those that have ended
// included. It reads /proc, so it is for Linux.
func (s *Server) CPU() (time.Duration, error) {
	text, err := os.ReadFile(filepath.Join(s.dir, "data", "postmaster.pid"))
	if err != nil {
		return 0, fmt.Errorf("find server: %w", err)
	}
	first, _, _ := strings.Cut(string(text), "\n")
	server, err := strconv.Atoi(first)
	if err != nil {
		return 0, fmt.Errorf("read process id of server: %w", err)
	}
	files, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		return 0, fmt.Errorf("list processes: %w", err)
	}
	var all time.Duration
	for _, file := range files {
		stat, err := os.ReadFile(file)
		if err != nil {
			continue // it has ended
		}
		p, err := parseStat(string(stat))
		if err != nil {
			return 0, err
		}
		switch server {
		case p.pid:
			all += p.own + p.ended
		case p.parent:
			all += p.own
		}
	}
	return all, nil
}

// AllCPU returns the time that this process and those of the server have taken.
func (s *Server) AllCPU() (time.Duration, error) {
	line, err := os.ReadFile("/proc/self/stat")
	if err != nil {
		return 0, fmt.Errorf("read process: %w", err)
	}
	own, err := parseStat(string(line))
	if err != nil {
		return 0, err
	}
	server, err := s.CPU()
	return own.own + server, err
}

// stat is what the kernel tells of a process: its time, and that of children that have
// ended.
type stat struct {
	pid, parent int
	own, ended  time.Duration
}

func parseStat(line string) (s stat, err error) {
	// The name may hold anything, also blanks and parentheses.
	open, end := strings.IndexByte(line, '('), strings.LastIndexByte(line, ')')
	if open < 0 || end < open {
		return s, fmt.Errorf("read process: %q", line)
	}
	fields := strings.Fields(line[end+1:])
	if len(fields) < 15 {
		return s, fmt.Errorf("read process: %q", line)
	}
	var numbers [6]int
	for i, text := range []string{strings.TrimSpace(line[:open]), fields[1], fields[11], fields[12], fields[13], fields[14]} {
		if numbers[i], err = strconv.Atoi(text); err != nil {
			return s, fmt.Errorf("read process: %w", err)
		}
	}
	return stat{
		pid: numbers[0], parent: numbers[1],
		own: time.Duration(numbers[2]+numbers[3]) * tick, ended: time.Duration(numbers[4]+numbers[5]) * tick,
	}, nil
}
