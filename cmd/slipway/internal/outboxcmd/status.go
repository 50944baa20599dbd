package outboxcmd

import (
	"context"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/slipwayhq/slipway/cmd/slipway/internal/command"
	"github.com/slipwayhq/slipway/cmd/slipway/internal/console"
	"github.com/slipwayhq/slipway/platform/outbox"
)

func (c *commands) status() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show for each sink what waits and who publishes, and how large the tables are",
		Example: `  slipway outbox status
  slipway outbox status --service order --output json`,
		Args: command.NoArgs,
	}
	format := command.OutputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		return c.do(cmd.Context(), func(ctx context.Context, s session) error {
			status, err := s.Status(ctx)
			if err != nil {
				return err
			}
			return c.env.Result(*format, status, func() error { return c.showStatus(status) })
		})
	}
	return cmd
}

func (c *commands) showStatus(status outbox.Status) error {
	if len(status.Sinks) == 0 {
		c.env.Console.Printf("no relay has run on this database yet: there is no sink\n")
	} else if err := c.showSinks(status.Sinks); err != nil {
		return err
	}
	rows := make([][]string, len(status.Children))
	for i, child := range status.Children {
		rows[i] = []string{strconv.Itoa(int(child.Slot)), child.State, command.Bytes(child.Bytes), command.Time(child.OpenedAt), command.Time(child.ClosedAt)}
	}
	return console.WriteTable(c.env.Console, []string{"SLOT", "STATE", "SIZE", "OPENED", "CLOSED"}, rows)
}

func (c *commands) showSinks(sinks []outbox.SinkStatus) error {
	rows := make([][]string, len(sinks))
	for i, s := range sinks {
		oldest, relay, paused := "-", "none alive", "no"
		if s.Unsent > 0 {
			oldest = command.Age(s.OldestUnsent)
		}
		if s.Alive {
			relay = "alive"
		}
		if s.PausedAt != nil {
			paused = "for " + command.Age(time.Since(*s.PausedAt))
		}
		parked := "-"
		if s.ParkedAggregates > 0 {
			parked = command.Count(s.ParkedEvents, "event") + " of " + command.Count(s.ParkedAggregates, "aggregate")
		}
		rows[i] = []string{
			command.Cell(s.Sink), strconv.FormatInt(s.Unsent, 10), oldest, parked, relay, holder(s.Holder), paused,
			strconv.FormatInt(s.OpenReplays, 10), command.Time(s.PublishedAt),
		}
	}
	header := []string{"SINK", "UNSENT", "OLDEST", "PARKED", "RELAY", "HOLDER", "PAUSED", "REPLAYS", "LAST PUBLISHED"}
	if err := console.WriteTable(c.env.Console, header, rows); err != nil {
		return err
	}
	c.env.Console.Printf("")
	return nil
}

func holder(name string) string {
	if name == "" {
		return "-"
	}
	return command.Cell(name)
}
