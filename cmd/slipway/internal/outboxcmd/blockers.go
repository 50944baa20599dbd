package outboxcmd

import (
	"cmp"
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/slipwayhq/slipway/cmd/slipway/internal/command"
	"github.com/slipwayhq/slipway/cmd/slipway/internal/console"
	"github.com/slipwayhq/slipway/platform/outbox"
)

func (c *commands) blockers() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "blockers",
		Short: "Say who holds things up, for how long, and what to do about it",
		Example: `  slipway outbox blockers
  slipway outbox blockers --output json`,
		Args: command.NoArgs,
	}
	format := command.OutputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		return c.do(cmd.Context(), func(ctx context.Context, s session) error {
			blockers, err := s.Blockers(ctx)
			if err != nil {
				return err
			}
			return c.env.Result(*format, append([]outbox.Blocker{}, blockers...), func() error { return c.showBlockers(blockers) })
		})
	}
	return cmd
}

func (c *commands) showBlockers(blockers []outbox.Blocker) error {
	if len(blockers) == 0 {
		c.env.Console.Printf("nothing holds the outbox up")
		return nil
	}
	var rows [][]string
	for _, b := range blockers {
		who, age := b.Sink, "-"
		if b.PID != 0 {
			who = fmt.Sprintf("%s (pid %d)", cmp.Or(b.Application, "unnamed"), b.PID)
		} else if who == "" {
			who = b.Application
		}
		if b.Age > 0 {
			age = command.Age(b.Age)
		}
		rows = append(rows, []string{b.Kind, command.Cell(who), age, command.Cell(b.Holds), command.Cell(b.Detail)})
		rows = append(rows, []string{"", "", "", "", "-> " + b.Remedy})
	}
	return console.WriteTable(c.env.Console, []string{"WHAT", "WHO", "FOR", "HOLDS", "DETAIL"}, rows)
}
