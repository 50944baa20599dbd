package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/slipwayhq/slipway/cmd/slipway/internal/devenv"
	"github.com/slipwayhq/slipway/cmd/slipway/internal/project"
)

// summary returns the summary of an environment as text.
func summary(s devenv.State, program string) string {
	var b strings.Builder
	s.Summary(&b, program)
	return b.String()
}

// detach starts the environment in a session of its own, shows its log until it is
// ready and leaves it running.
func (a *app) detach(p *project.Project, o devOptions) error {
	log, err := devenv.OpenLog(p)
	if err != nil {
		return err
	}
	defer log.Close()
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find this program: %w", err)
	}
	cmd := exec.Command(self, append([]string{"dev", "--detached"}, o.given...)...)
	if o.fresh {
		cmd.Args = append(cmd.Args, "--yes") // that was asked here
	}
	cmd.Args[0] = a.program // what its messages tell the user to type
	cmd.Env, cmd.Stdout, cmd.Stderr = a.environ, log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	stop, release := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer release()
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start in the background: %w", err)
	}
	ended := make(chan struct{})
	go func() {
		_ = cmd.Wait() // its log says how it ended
		close(ended)
	}()
	state, err := a.follow(stop, p, cmd.Process.Pid, ended, log.Name())
	if err != nil {
		if stop.Err() != nil {
			_ = cmd.Process.Signal(syscall.SIGTERM)
			<-ended
		}
		return err
	}
	a.console.Printf("\nrunning in the background, process %d\n\n%s", state.PID, summary(state, a.program))
	return nil
}

// follow shows the log until the environment is ready or has ended.
func (a *app) follow(stop context.Context, p *project.Project, pid int, ended <-chan struct{}, path string) (devenv.State, error) {
	log, err := os.Open(path)
	if err != nil {
		return devenv.State{}, fmt.Errorf("read log: %w", err)
	}
	defer log.Close()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		state, err := devenv.Find(p)
		a.showNew(log)
		if err == nil && state.PID == pid && state.Phase == devenv.Ready {
			return state, nil
		}
		select {
		case <-tick.C:
		case <-ended:
			a.showNew(log)
			return devenv.State{}, fmt.Errorf("slipway dev ended before it was ready; its log is %s", path)
		case <-stop.Done():
			return devenv.State{}, errors.New("interrupted before it was ready: nothing is left running")
		}
	}
}

// showNew copies the complete lines that the log has got.
func (a *app) showNew(log io.ReadSeeker) {
	text, err := io.ReadAll(log)
	if err != nil {
		return
	}
	end := bytes.LastIndexByte(text, '\n') + 1
	_, _ = log.Seek(int64(end-len(text)), io.SeekCurrent)
	if end > 0 {
		_, _ = a.console.Notices().Write(text[:end])
	}
}
