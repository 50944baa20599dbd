package cli

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/slipwayhq/slipway/cmd/slipway/internal/command"
	"github.com/slipwayhq/slipway/cmd/slipway/internal/console"
	"github.com/slipwayhq/slipway/cmd/slipway/internal/devenv"
	"github.com/slipwayhq/slipway/cmd/slipway/internal/project"
)

// stopPatience is longer than a stop takes by its own bounds.
const stopPatience = 3 * time.Minute

func (a *app) devStop() *cobra.Command {
	return &cobra.Command{
		Use:     "stop",
		Short:   "Stop the running slipway dev of this project and wait for its end",
		Example: "  slipway dev stop",
		Args:    command.NoArgs,
		RunE:    func(*cobra.Command, []string) error { return a.runStop() },
	}
}

func (a *app) runStop() error {
	p, err := project.Open(".")
	if err != nil {
		return err
	}
	state, err := devenv.Find(p)
	if errors.Is(err, devenv.ErrNotRunning) {
		return a.stopLeft(p)
	}
	if err != nil {
		return err
	}
	step := a.console.Progress().Start(fmt.Sprintf("stopping slipway dev, process %d", state.PID))
	if state.Phase != devenv.Stopping { // a second signal would cut the drain short
		if err := state.Signal(syscall.SIGTERM); err != nil && state.Alive() {
			step.Fail()
			return fmt.Errorf("signal process %d: %w", state.PID, err)
		}
	}
	if err := state.WaitGone(stopPatience); err != nil {
		step.Fail()
		return fmt.Errorf("wait for process %d: %w after %s: end it with: kill -9 %d", state.PID, err, stopPatience, state.PID)
	}
	step.Done("slipway dev stopped")
	return nil
}

// stopLeft ends what a killed slipway dev may have left.
func (a *app) stopLeft(p *project.Project) error {
	names, err := devenv.EndLeft(p)
	for _, name := range names {
		a.console.Printf("ended %s, which an earlier run had left", name)
	}
	if err == nil && len(names) == 0 {
		a.console.Printf("%v", devenv.ErrNotRunning)
	}
	return err
}

// component is a row of slipway dev status.
type component struct {
	Name    string `json:"name"`
	State   string `json:"state"`
	Address string `json:"address"`
	Detail  string `json:"detail"`
}

// status is what slipway dev status shows.
type status struct {
	devenv.State
	Components []component `json:"components"`
}

func (a *app) devStatus() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show the running slipway dev of this project; exit code 1 when there is none",
		Example: `  slipway dev status
  slipway dev status --output json`,
		Args: command.NoArgs,
	}
	format := command.OutputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error { return a.runStatus(cmd.Context(), *format) }
	return cmd
}

func (a *app) runStatus(ctx context.Context, format console.Format) error {
	p, err := project.Open(".")
	if err != nil {
		return err
	}
	state, err := devenv.Find(p)
	if errors.Is(err, devenv.ErrNotRunning) {
		return fmt.Errorf("%w: start it with: %s dev", err, a.program)
	}
	if err != nil {
		return err
	}
	s := status{State: state}
	for _, svc := range state.Services {
		s.Components = append(s.Components, component{svc.Name, svc.Readiness(ctx), svc.GRPC, "process " + strconv.Itoa(svc.PID)})
	}
	for _, server := range state.Servers {
		s.Components = append(s.Components, component{server.Name, "running", server.Addr, server.Source})
	}
	if format == console.JSON {
		return console.WriteJSON(a.console, s)
	}
	a.console.Printf("slipway dev is %s, process %d, since %s\n", s.Phase, s.PID, s.Since.Local().Format(time.DateTime))
	rows := make([][]string, len(s.Components))
	for i, c := range s.Components {
		rows[i] = []string{c.Name, c.State, c.Address, c.Detail}
	}
	return console.WriteTable(a.console, []string{"COMPONENT", "STATE", "ADDRESS", "DETAIL"}, rows)
}
