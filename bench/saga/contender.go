package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"github.com/slipwayhq/slipway/bench/internal/lab"
	"github.com/slipwayhq/slipway/bench/internal/process"
	"github.com/slipwayhq/slipway/bench/peers/rig"
)

// contender is a system. Slipway and the steps alone are in this program, the others in
// one of the folder peers.
type contender struct {
	name    string
	program string // empty for those in this program
	// flight is how many sagas B9 has of it: as many as it comes to within its own
	// timeouts. 0 leaves it out.
	flight int
	// wait is how long B9 waits for its sagas to be taken over.
	wait time.Duration
}

func everyone() []contender {
	return []contender{
		{name: ours, flight: 10_000, wait: time.Minute},
		{name: "dtm", program: "dtm"},
		{name: "dtm_durable", program: "dtm", flight: 600, wait: 2 * time.Minute},
		{name: "dbos", program: "dbos", flight: 600, wait: time.Minute},
		{name: "goworkflows", program: "goworkflows"},
		{name: "goworkflows_eager", program: "goworkflows", flight: 300, wait: 4 * time.Minute},
		{name: "temporal", program: "temporal"},
	}
}

// peers are the programs of the folder peers, built when they are needed first.
type peers struct {
	dir   string
	built map[string]string
}

// path returns the built program.
func (p *peers) path(ctx context.Context, program string) (string, error) {
	if path := p.built[program]; path != "" {
		return path, nil
	}
	if p.dir == "" {
		dir, err := os.MkdirTemp("", "slipway-bench-peers-")
		if err != nil {
			return "", fmt.Errorf("make folder: %w", err)
		}
		p.dir, p.built = dir, make(map[string]string)
	}
	path := filepath.Join(p.dir, program)
	logf("  building %s", program)
	cmd := exec.CommandContext(ctx, "go", "build", "-o", path, ".")
	cmd.Dir, cmd.Stderr = filepath.Join("peers", program), os.Stderr
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("build %s, from the folder bench: %w", program, err)
	}
	p.built[program] = path
	return path, nil
}

func (p *peers) remove() error {
	if p.dir == "" {
		return nil
	}
	return os.RemoveAll(p.dir)
}

// system is a started process of a contender.
type system struct {
	*process.Process

	name string
	pid  int
}

// start runs a process of the contender on a database.
func (b *bench) start(ctx context.Context, c contender, db *lab.Database, o rig.Options) (*system, error) {
	args := []string{
		"-url", db.URL, "-system", c.name, "-name", o.Name, "-steps", o.Steps, "-concurrency", strconv.Itoa(o.Concurrency),
		"-install=" + strconv.FormatBool(o.Install), "-local=" + strconv.FormatBool(o.Local),
	}
	s := &system{name: o.Name}
	var err error
	if c.program == "" {
		s.Process, err = process.Start(ctx, &s.pid, append(args, "-serve", "-profile", b.profiles)...)
	} else {
		var path string
		if path, err = b.peers.path(ctx, c.program); err == nil {
			s.Process, err = process.StartProgram(ctx, &s.pid, path, args...)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", c.name, err)
	}
	return s, nil
}

// ask puts a question to the process.
func (s *system) ask(q rig.Question) (rig.Answer, error) {
	var a rig.Answer
	if err := s.AskAbout(q, &a); err != nil {
		return a, err
	}
	if a.Error != "" {
		return a, errors.New(a.Error)
	}
	return a, nil
}

// end stops the process, whatever it is doing.
func (s *system) end() { s.End(syscall.SIGKILL, time.Minute) }
