package outboxcmd

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"github.com/slipwayhq/slipway/cmd/slipway/internal/command"
)

// discarded is the result of slipway outbox discard.
type discarded struct {
	Event uuid.UUID `json:"event_id"`
}

func (c *commands) discard() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "discard EVENT-ID --reason TEXT",
		Short: "Give up a parked event: no consumer gets it, the later ones of its aggregate go on",
		Example: `  slipway outbox discard 019ab0f6-7c1e-7a53-8d55-3c0f5a1c2b3d --reason "test order, larger than any broker takes"
  slipway outbox discard 019ab0f6-7c1e-7a53-8d55-3c0f5a1c2b3d --sink broker --reason "sent by hand" --yes`,
		Args: command.OneArg("EVENT-ID"),
	}
	sink, reason, consent := sinkFlag(cmd, "all that have it parked"), command.ReasonFlag(cmd, true), command.ConsentFlag(cmd, c.env)
	format := command.OutputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		id, err := eventID(args[0])
		if err != nil {
			return err
		}
		by, err := c.by(reason)
		if err != nil {
			return err
		}
		if err := consent.Possible(); err != nil {
			return err
		}
		return c.do(cmd.Context(), func(ctx context.Context, s session) error {
			if err := s.known(ctx, *sink); err != nil {
				return err
			}
			question, err := s.discardQuestion(ctx, *sink, id)
			if err != nil {
				return err
			}
			if err := consent.Ask(question); err != nil {
				return err
			}
			if err := s.Discard(ctx, by, *sink, id); err != nil {
				return err
			}
			return c.env.Result(*format, discarded{id}, c.env.Say("discarded event %s; the later ones of its aggregate are tried at once", id))
		})
	}
	return cmd
}

// discardQuestion describes the event, which must be parked.
func (s session) discardQuestion(ctx context.Context, sink string, id uuid.UUID) (string, error) {
	event, err := s.Show(ctx, id)
	if err != nil {
		return "", err
	}
	var states, parked []string
	for _, name := range slices.Sorted(maps.Keys(event.Sinks)) {
		if sink != "" && name != sink {
			continue
		}
		states = append(states, name+": "+event.Sinks[name])
		if event.Sinks[name] == "parked" {
			parked = append(parked, name)
		}
	}
	if len(parked) == 0 {
		return "", fmt.Errorf("event %s is not parked (%s): only what slipway outbox list shows can be discarded", id, strings.Join(states, ", "))
	}
	return fmt.Sprintf("Give up %s of %s for %s? No consumer there will get it.",
		command.Cell(event.Type), command.Cell(event.AggregateType+"/"+event.AggregateID), strings.Join(parked, ", ")), nil
}
