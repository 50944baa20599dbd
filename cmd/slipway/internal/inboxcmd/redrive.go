package inboxcmd

import (
	"context"
	"fmt"

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
			if err := s.known(ctx, *consumer); err != nil {
				return err
			}
			letters, err := s.chosen(ctx, ids, *consumer)
			if err != nil {
				return err
			}
			c.warnTooOld(letters)
			marked, err := s.Redrive(ctx, inbox.Selection{IDs: ids, Consumer: *consumer}, by)
			if err != nil {
				return err
			}
			say := c.env.Say("%s: to be tried once more; slipway inbox dead list shows what fails again", names(marked))
			if len(marked) == 0 {
				say = c.env.Say("nothing was changed: it was asked for already")
			}
			return c.env.Result(*format, changed{marked}, say)
		})
	}
	return cmd
}

// chosen returns the dead letters with the ids, or without ids all of the consumer,
// as far as anybody reads. None may be resolved, and there must be one.
func (s session) chosen(ctx context.Context, ids []int64, consumer string) ([]inbox.DeadLetter, error) {
	if len(ids) > 0 {
		return s.open(ctx, ids)
	}
	letters, err := s.List(ctx, inbox.Filter{Consumer: consumer, Limit: 1000})
	if err == nil && len(letters) == 0 {
		return nil, fmt.Errorf("%s has no dead letters: slipway inbox dead list shows those of all consumers", consumer)
	}
	return letters, err
}

// warnTooOld names what may have been applied before.
func (c *commands) warnTooOld(letters []inbox.DeadLetter) {
	var old []int64
	for _, d := range letters {
		if d.Class == "too_old" {
			old = append(old, d.ID)
		}
	}
	if len(old) > 0 {
		c.env.Console.Notef("! nobody can say whether it was applied before, its mark is gone: %s", names(old))
	}
}
