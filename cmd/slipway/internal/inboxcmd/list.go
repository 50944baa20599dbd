package inboxcmd

import (
	"context"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/slipwayhq/slipway/cmd/slipway/internal/command"
	"github.com/slipwayhq/slipway/platform/inbox"
)

func (c *commands) list() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List the dead letters that nobody has decided about, the oldest first",
		Example: `  slipway inbox dead list
  slipway inbox dead list --consumer shipping --limit 1000 --output json`,
		Args: command.NoArgs,
	}
	consumer, limit := consumerFlag(cmd, "only those of this consumer (default all)"), command.LimitFlag(cmd)
	format := command.OutputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		return c.do(cmd.Context(), func(ctx context.Context, s session) error {
			if err := s.known(ctx, *consumer); err != nil {
				return err
			}
			letters, err := s.List(ctx, inbox.Filter{Consumer: *consumer, Limit: *limit})
			if err != nil {
				return err
			}
			return c.env.Result(*format, letters, func() error { return c.showList(letters, *limit) })
		})
	}
	return cmd
}

func (c *commands) showList(letters []inbox.DeadLetter, limit int) error {
	if len(letters) == 0 {
		return c.env.Say("no dead letters")()
	}
	rows := make([][]string, len(letters))
	for i, d := range letters {
		rows[i] = []string{
			strconv.FormatInt(d.ID, 10), d.Consumer, command.Cell(d.Subject), command.Cell(d.Key), state(d), strconv.Itoa(d.Attempts),
			command.Age(time.Since(d.FirstAt)) + " ago", strconv.FormatInt(d.Waiting, 10), command.Cell(d.Error),
		}
	}
	header := []string{"ID", "CONSUMER", "SUBJECT", "KEY", "CLASS", "ATTEMPTS", "SINCE", "WAITING", "ERROR"}
	return c.env.TableOf(header, rows, limit)
}

// state is the class, with what was asked for.
func state(d inbox.DeadLetter) string {
	if d.RedriveRequestedAt != nil {
		return d.Class + ", to be redriven"
	}
	return d.Class
}
