package sagacmd

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/slipwayhq/slipway/cmd/slipway/internal/command"
	"github.com/slipwayhq/slipway/platform/saga/sagapg"
)

func (c *commands) list() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List sagas, the oldest first: those in flight, or those that are over with --status",
		Long: `List sagas, the oldest first. Why one is stuck:

  retrying             its step fails for longer than its definition allows
  needs_operator       it cannot go on without a decision
  compensation_failed  it cannot be undone without a decision
  no_worker            no living process has its definition in its version
  overdue              nobody takes it, or the process that has it does not get on
  lease_churn          process after process is lost over it`,
		Example: `  slipway saga list --stuck
  slipway saga list --why no_worker --type checkout --version 2
  slipway saga list --status completed --since 2h --limit 1000 --output json`,
		Args: command.NoArgs,
	}
	filter, limit := addFilter(cmd), command.LimitFlag(cmd)
	format := command.OutputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := filter.check(); err != nil {
			return err
		}
		return c.do(cmd.Context(), func(ctx context.Context, s session) error {
			f, err := filter.on(ctx, s)
			if err != nil {
				return err
			}
			f.Limit = *limit
			sagas, err := s.List(ctx, f)
			if err != nil {
				return err
			}
			return c.env.Result(*format, sagas, func() error { return c.showList(sagas, *limit) })
		})
	}
	return cmd
}

func (c *commands) showList(sagas []sagapg.Saga, limit int) error {
	if len(sagas) == 0 {
		return c.env.Say("no sagas")()
	}
	rows := make([][]string, len(sagas))
	for i, s := range sagas {
		rows[i] = []string{
			s.ID.String(), fmt.Sprintf("%s v%d", s.Name, s.Version), s.Status, orDash(s.Stuck), orDash(command.Cell(strings.Join(s.Steps, ", "))),
			command.Age(time.Since(s.CreatedAt)) + " ago", next(s), orDash(command.Cell(s.Problem)),
		}
	}
	return c.env.TableOf([]string{"ID", "SAGA", "STATUS", "STUCK", "AT", "STARTED", "NEXT", "PROBLEM"}, rows, limit)
}

// next says when something happens, or what for.
func next(s sagapg.Saga) string {
	switch {
	case s.FinishedAt != nil:
		return "-"
	case s.Worker != "":
		return "at work"
	case s.NextRunAt == nil:
		return "a decision"
	case s.WaitsFor != "":
		return s.WaitsFor + ", " + in(*s.NextRunAt)
	}
	return in(*s.NextRunAt)
}

func in(at time.Time) string { return "in " + command.Age(max(0, time.Until(at))) }

func orDash(text string) string {
	if text == "" {
		return "-"
	}
	return text
}
