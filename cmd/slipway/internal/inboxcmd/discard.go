package inboxcmd

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/slipwayhq/slipway/cmd/slipway/internal/command"
	"github.com/slipwayhq/slipway/platform/inbox"
)

func (c *commands) discard() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "discard ID... --reason TEXT",
		Short: "Give dead letters up: they are never applied, what waits behind them goes on",
		Example: `  slipway inbox dead discard 7 --reason "a test order"
  slipway inbox dead discard 7 8 --reason "refunded by hand" --yes`,
	}
	reason, consent := command.ReasonFlag(cmd, true), command.ConsentFlag(cmd, c.env)
	format := command.OutputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		ids, err := deadIDs(args)
		if err != nil {
			return err
		}
		if len(ids) == 0 {
			return command.Usagef("ID is missing: name dead letters as slipway inbox dead list shows them")
		}
		by, err := c.by(reason)
		if err != nil {
			return err
		}
		if err := consent.Possible(); err != nil {
			return err
		}
		return c.do(cmd.Context(), func(ctx context.Context, s session) error {
			letters, err := s.open(ctx, ids)
			if err != nil {
				return err
			}
			if err := consent.Ask(discardQuestion(letters)); err != nil {
				return err
			}
			gone, err := s.Discard(ctx, ids, by)
			if err != nil {
				return err
			}
			if len(gone) == 0 {
				return errors.New("nothing was changed: somebody else has decided meanwhile")
			}
			return c.env.Result(*format, changed{gone}, c.env.Say("discarded %s", names(gone)))
		})
	}
	return cmd
}

func discardQuestion(letters []inbox.DeadLetter) string {
	if len(letters) > 1 {
		return fmt.Sprintf("Give up %d dead letters? They will never be applied.", len(letters))
	}
	d := letters[0]
	return fmt.Sprintf("Give up %s of %s? %s will never apply it.", command.Cell(d.Subject), command.Cell(d.Key), d.Consumer)
}
