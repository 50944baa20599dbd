package pgserver

import (
	"context"
	"fmt"
	"os/exec"
)

// StartStandby starts a server that follows the primary by streaming
// replication and answers reads. An empty folder is filled with a copy of the
// primary, whose password the standby shares.
func StartStandby(ctx context.Context, primary *Server, cfg Config) (*Server, error) {
	return start(ctx, cfg, func(s *Server, ctx context.Context) error {
		if err := s.account.ownFile(s.layout.password(), primary.password); err != nil {
			return wrapIO(fmt.Errorf("write password: %w", err), s.layout)
		}
		host, port := primary.hostPort()
		cmd := exec.Command(s.bin.path("pg_basebackup"), "-D", s.layout.fresh(), "-h", host, "-p", port,
			"-U", superuser, "--write-recovery-conf", "--wal-method=stream", "--checkpoint=fast", "--no-sync")
		cmd.Env = []string{"PGPASSWORD=" + primary.password}
		return s.make(ctx, cmd)
	})
}

// Promote makes a standby a primary and returns when it accepts writes.
func (s *Server) Promote(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	cmd := exec.Command(s.bin.path("pg_ctl"), "promote", "-D", s.layout.data(), "--wait", "--silent")
	if err := s.run(ctx, cmd); err != nil {
		return fmt.Errorf("promote standby: %w", err)
	}
	return nil
}
