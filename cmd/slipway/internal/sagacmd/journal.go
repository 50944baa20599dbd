package sagacmd

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/slipwayhq/slipway/cmd/slipway/internal/command"
	"github.com/slipwayhq/slipway/platform/saga/sagapg"
)

func (c *commands) journal() *cobra.Command {
	return command.JournalCommand(c.env, command.Journal[sagapg.JournalEntry]{
		Group: "saga",
		Read: func(ctx context.Context, limit int) (entries []sagapg.JournalEntry, err error) {
			err = c.do(ctx, func(ctx context.Context, s session) error {
				entries, err = s.Journal(ctx, limit)
				return err
			})
			return entries, err
		},
		Header: []string{"AT", "WHO", "ACTION", "SAGA", "REASON", "DETAIL"},
		Row: func(e sagapg.JournalEntry) []string {
			id := "-"
			if e.SagaID != nil {
				id = e.SagaID.String()
			}
			return []string{command.Time(&e.At), command.Cell(e.Who), e.Action, id, command.Cell(e.Reason), command.Cell(e.Detail)}
		},
	})
}
