package inboxcmd

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/slipwayhq/slipway/cmd/slipway/internal/command"
	"github.com/slipwayhq/slipway/platform/inbox"
)

func (c *commands) journal() *cobra.Command {
	return command.JournalCommand(c.env, command.Journal[inbox.JournalEntry]{
		Group: "inbox",
		Read: func(ctx context.Context, limit int) (entries []inbox.JournalEntry, err error) {
			err = c.do(ctx, func(ctx context.Context, s session) error {
				entries, err = s.Journal(ctx, limit)
				return err
			})
			return entries, err
		},
		Header: []string{"AT", "WHO", "ACTION", "REASON", "DETAIL"},
		Row: func(e inbox.JournalEntry) []string {
			return []string{command.Time(&e.At), command.Cell(e.Who), e.Action, command.Cell(e.Reason), command.Cell(e.Detail)}
		},
	})
}
