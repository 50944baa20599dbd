package inboxcmd

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/slipwayhq/slipway/cmd/slipway/internal/command"
	"github.com/slipwayhq/slipway/platform/inbox"
)

func (c *commands) redrive() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "redrive ID... | --all --consumer NAME",
		Short: "Have dead letters tried once more; one that fails again stays, with the new error",
		Example: `  slipway inbox dead redrive 7 8 --reason "the handler knows the new currency"
  slipway inbox dead redrive --all --consumer shipping`,
	}
	all := cmd.Flags().Bool("all", false, "every dead letter of the consumer")
	consumer := consumerFlag(cmd, "whose dead letters --all means")
	reason, format := command.ReasonFlag(cmd, false), command.OutputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		ids, err := deadIDs(args)
		switch {
		case err != nil:
			return err
		case *all == (len(ids) > 0):
			return command.Usagef("which dead letters? name their IDs, or say --all with --consumer")
		case *all != (*consumer != ""):
			return command.Usagef("--all and --consumer go together")
		}
		by, err := c.by(reason)
		if err != nil {
			return err
		}
		return c.do(cmd.Context(), func(ctx context.Context, s session) error {
			if err := c.checkRedrive(ctx, s, *consumer, ids); err != nil {
				return err
			}
			marked, err := s.Redrive(ctx, inbox.Selection{IDs: ids, Consumer: *consumer}, by)
			if err != nil {
				return err
			}
			say := c.env.Say("%s: to be tried once more; slipway inbox dead list shows what fails again", names(marked))
			if len(marked) == 0 {
				say = c.env.Say("nothing to redrive, or it was asked for already")
			}
			return c.env.Result(*format, changed{marked}, say)
		})
	}
	return cmd
}

// checkRedrive makes sure that everything is there, and warns of what may have been
// applied before.
func (c *commands) checkRedrive(ctx context.Context, s session, consumer string, ids []int64) error {
	if err := s.known(ctx, consumer); err != nil {
		return err
	}
	letters, err := s.open(ctx, ids)
	if err != nil {
		return err
	}
	for _, d := range letters {
		if d.Class == "too_old" {
			c.env.Console.Notef("! nobody can say whether dead letter %d was applied before: its mark is gone", d.ID)
		}
	}
	return nil
}
