package inboxcmd

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/slipwayhq/slipway/cmd/slipway/internal/command"
	"github.com/slipwayhq/slipway/platform/inbox"
)

func (c *commands) waiting() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "waiting",
		Short: "List the keys whose events wait for a version that has not come, the longest waiting first",
		Long: `List the keys whose events wait for a version that has not come, the longest waiting first.

It may be on its way: look at slipway outbox status and list on the database of its producer, and replay from
there what the broker has lost. What will never come can be skipped. Keys that a dead letter holds up are in
slipway inbox dead list.`,
		Example: `  slipway inbox waiting
  slipway inbox waiting --consumer shipping --limit 1000 --output json`,
		Args: command.NoArgs,
	}
	consumer, limit := consumerFlag(cmd, "only those of this consumer (default all)"), command.LimitFlag(cmd)
	format := command.OutputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		return c.do(cmd.Context(), func(ctx context.Context, s session) error {
			if err := s.known(ctx, *consumer); err != nil {
				return err
			}
			keys, err := s.Waiting(ctx, inbox.Filter{Consumer: *consumer, Limit: *limit})
			if err != nil {
				return err
			}
			return c.env.Result(*format, keys, func() error { return c.showWaiting(keys, *limit) })
		})
	}
	return cmd
}

func (c *commands) showWaiting(keys []inbox.WaitingKey, limit int) error {
	if len(keys) == 0 {
		return c.env.Say("nothing waits for a version")()
	}
	rows := make([][]string, len(keys))
	for i, k := range keys {
		rows[i] = []string{
			k.Consumer, command.Cell(k.Key), versions(k.Next, k.First-1), strconv.FormatInt(k.Waiting, 10),
			command.Age(time.Since(k.Since)) + " ago",
		}
	}
	return c.env.TableOf([]string{"CONSUMER", "KEY", "WAITS FOR", "WAITING", "SINCE"}, rows, limit)
}

// versions names a range of them.
func versions(from, to int64) string {
	if from == to {
		return fmt.Sprintf("version %d", from)
	}
	return fmt.Sprintf("versions %d to %d", from, to)
}
