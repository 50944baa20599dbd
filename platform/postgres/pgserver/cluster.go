package pgserver

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
)

const superuser = "postgres"

// dataMajor returns the major version that made the data, 0 when there is none.
func (l layout) dataMajor() (int, error) {
	text, err := os.ReadFile(filepath.Join(l.data(), "PG_VERSION"))
	if errors.Is(err, os.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("read version of %s: %w", l.data(), err)
	}
	major, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		return 0, fmt.Errorf("read version of %s: %w", l.data(), err)
	}
	return major, nil
}

// binaries finds the programs that fit the data.
func (l layout) binaries(ctx context.Context, binDir string) (Binaries, error) {
	major, err := l.dataMajor()
	if err != nil {
		return Binaries{}, err
	}
	found, err := FindBinaries(ctx, binDir, major)
	if err == nil || major == 0 {
		return found, err
	}
	other, errOther := FindBinaries(ctx, binDir, 0)
	if errOther != nil {
		return Binaries{}, err
	}
	return Binaries{}, fmt.Errorf("%w: %s was made by PostgreSQL %d and %s holds %d: install PostgreSQL %d, or remove the data and start afresh",
		ErrVersion, l.data(), major, other.Dir, other.Major, major)
}

// initialize makes an empty cluster. It appears under its final name only when
// it is complete.
func (s *Server) initialize(ctx context.Context) error {
	password := rand.Text()
	if err := s.account.ownFile(s.layout.password(), password); err != nil {
		return wrapIO(fmt.Errorf("write password: %w", err), s.layout)
	}
	args := []string{
		"-D", s.layout.fresh(), "--username=" + superuser, "--pwfile=" + s.layout.password(),
		"--auth-local=trust", "--auth-host=scram-sha-256", "--encoding=UTF8", "--no-locale", "--no-instructions",
	}
	if s.cfg.Fast {
		args = append(args, "--no-sync", "--wal-segsize=1")
	}
	return s.make(ctx, exec.Command(s.bin.path("initdb"), args...))
}

// make runs the program that fills the folder data.new and renames that.
func (s *Server) make(ctx context.Context, cmd *exec.Cmd) error {
	fresh := s.layout.fresh()
	if err := os.RemoveAll(fresh); err != nil {
		return fmt.Errorf("remove unfinished data: %w", err)
	}
	if err := s.account.mkdir(fresh); err != nil {
		return wrapIO(fmt.Errorf("make data folder: %w", err), s.layout)
	}
	if err := s.run(ctx, cmd); err != nil {
		return errors.Join(err, os.RemoveAll(fresh))
	}
	return wrapIO(os.Rename(fresh, s.layout.data()), s.layout)
}

// run waits for one of PostgreSQL's programs, whose output goes to the log.
func (s *Server) run(ctx context.Context, cmd *exec.Cmd) error {
	log, offset, err := s.openLog()
	if err != nil {
		return err
	}
	defer func() { _ = log.Close() }()
	cmd.Stdout, cmd.Stderr, cmd.Dir = log, log, s.layout.dir
	p, err := s.account.start(cmd)
	if err != nil {
		return fmt.Errorf("run %s: %w", cmd.Path, err)
	}
	select {
	case <-p.done:
	case <-ctx.Done():
		p.interrupt()
		<-p.done
		return fmt.Errorf("run %s: %w", filepath.Base(cmd.Path), ctx.Err())
	}
	if p.err != nil {
		return fmt.Errorf("run %s: %w", filepath.Base(cmd.Path), explain(readFrom(s.layout.log(), offset), s.layout, s.port))
	}
	return nil
}

const maxLog = 16 << 20

// openLog opens the log for appending and says where its new part begins. A log
// that has grown past 16 MiB starts anew.
func (s *Server) openLog() (*os.File, int64, error) {
	flags := os.O_WRONLY | os.O_CREATE | os.O_APPEND
	info, err := os.Stat(s.layout.log())
	if err == nil && info.Size() > maxLog {
		flags |= os.O_TRUNC
	}
	log, err := os.OpenFile(s.layout.log(), flags, 0o644)
	if err != nil {
		return nil, 0, wrapIO(fmt.Errorf("open log: %w", err), s.layout)
	}
	info, err = log.Stat()
	if err != nil {
		return nil, 0, errors.Join(err, log.Close())
	}
	return log, info.Size(), nil
}
