package outboxcmd

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/slipwayhq/slipway/cmd/slipway/internal/command"
)

// removed is the result of slipway outbox remove-sink.
type removed struct {
	Sink string `json:"sink"`
}

func (c *commands) removeSink() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "remove-sink NAME --reason TEXT",
		Short:   "Forget a sink that nobody publishes to any more, with what is parked for it",
		Example: `  slipway outbox remove-sink kafka --reason "all consumers read from broker now"`,
		Args:    command.OneArg("NAME"),
	}
	reason, consent := command.ReasonFlag(cmd, true), command.ConsentFlag(cmd, c.env)
	format := command.OutputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		name := args[0]
		if name == "" {
			return command.Usagef("NAME is missing")
		}
		by, err := c.by(reason)
		if err != nil {
			return err
		}
		if err := consent.Possible(); err != nil {
			return err
		}
		return c.do(cmd.Context(), func(ctx context.Context, s session) error {
			if err := s.abandoned(ctx, name); err != nil {
				return err
			}
			if err := consent.Ask(fmt.Sprintf("Forget the sink %s, what it has published and what is parked for it?", name)); err != nil {
				return err
			}
			if err := s.RemoveSink(ctx, by, name); err != nil {
				return err
			}
			return c.env.Result(*format, removed{name}, c.env.Say("removed the sink %s: the outbox keeps no event for it any more", name))
		})
	}
	return cmd
}

// abandoned makes sure that no relay publishes to the sink: it would begin again
// from the oldest event that is kept.
func (s session) abandoned(ctx context.Context, name string) error {
	if err := s.known(ctx, name); err != nil {
		return err
	}
	blockers, err := s.Blockers(ctx)
	if err != nil {
		return err
	}
	for _, b := range blockers {
		if b.Kind == "no_relay" && b.Sink == name {
			return nil
		}
	}
	return fmt.Errorf("a relay publishes to the sink %s: stop it first, or it would publish everything that is kept once more", name)
}
