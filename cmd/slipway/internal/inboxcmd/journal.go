package inboxcmd

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/slipwayhq/slipway/cmd/slipway/internal/command"
	"github.com/slipwayhq/slipway/cmd/slipway/internal/console"
	"github.com/slipwayhq/slipway/platform/inbox"
)

func (c *commands) journal() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "journal",
		Short: "Show what operators did, the latest first",
		Example: `  slipway inbox journal
  slipway inbox journal --limit 1000 --output json`,
		Args: command.NoArgs,
	}
	limit, format := command.LimitFlag(cmd), command.OutputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		return c.do(cmd.Context(), func(ctx context.Context, s session) error {
			entries, err := s.Journal(ctx, *limit)
			if err != nil {
				return err
			}
			return c.env.Result(*format, entries, func() error { return c.showJournal(entries) })
		})
	}
	return cmd
}

func (c *commands) showJournal(entries []inbox.JournalEntry) error {
	if len(entries) == 0 {
		return c.env.Say("nobody has done anything yet")()
	}
	rows := make([][]string, len(entries))
	for i, e := range entries {
		rows[i] = []string{command.Time(&e.At), command.Cell(e.Who), e.Action, command.Cell(e.Reason), command.Cell(e.Detail)}
	}
	return console.WriteTable(c.env.Console, []string{"AT", "WHO", "ACTION", "REASON", "DETAIL"}, rows)
}
