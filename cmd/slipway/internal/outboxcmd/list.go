package outboxcmd

import (
	"context"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/slipwayhq/slipway/cmd/slipway/internal/command"
	"github.com/slipwayhq/slipway/platform/outbox"
)

func (c *commands) list() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List parked aggregates: the broker did not take an event, the later ones wait behind it",
		Example: `  slipway outbox list
  slipway outbox list --sink broker --limit 1000 --output json`,
		Args: command.NoArgs,
	}
	sink, limit := sinkFlag(cmd, "all"), command.LimitFlag(cmd)
	format := command.OutputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		return c.do(cmd.Context(), func(ctx context.Context, s session) error {
			if err := s.known(ctx, *sink); err != nil {
				return err
			}
			parked, err := s.Parked(ctx, *sink, *limit)
			if err != nil {
				return err
			}
			return c.env.Result(*format, parked, func() error { return c.showParked(parked, *limit) })
		})
	}
	return cmd
}

func (c *commands) showParked(parked []outbox.ParkedAggregate, limit int) error {
	if len(parked) == 0 {
		c.env.Console.Printf("nothing is parked")
		return nil
	}
	rows := make([][]string, len(parked))
	for i, p := range parked {
		next := "when you redrive it"
		if p.NextAttemptAt != nil {
			next = "in " + command.Age(max(0, time.Until(*p.NextAttemptAt)))
		}
		rows[i] = []string{
			command.Cell(p.Sink), command.Cell(p.AggregateType + "/" + p.AggregateID), strconv.FormatInt(p.Events, 10), p.FirstEvent.String(),
			command.Age(time.Since(p.ParkedAt)) + " ago", strconv.Itoa(p.Attempts), next, command.Cell(p.Error),
		}
	}
	header := []string{"SINK", "AGGREGATE", "EVENTS", "FIRST EVENT", "PARKED", "ATTEMPTS", "NEXT ATTEMPT", "ERROR"}
	return c.env.TableOf(header, rows, limit)
}
