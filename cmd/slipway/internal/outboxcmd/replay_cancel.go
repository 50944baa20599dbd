package outboxcmd

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/slipwayhq/slipway/cmd/slipway/internal/command"
	"github.com/slipwayhq/slipway/platform/outbox"
)

// cancelled is the result of slipway outbox replay --cancel.
type cancelled struct {
	Replay int64 `json:"replay"`
	outbox.ReplayProgress
}

// checkCancel refuses flags that are not those of --cancel.
func (o replayOptions) checkCancel(cmd *cobra.Command) error {
	if o.cancel < 1 {
		return command.Usagef("--cancel %d: want the id of a replay, as slipway outbox blockers shows it", o.cancel)
	}
	for _, other := range []string{"since", "dry-run", "wait", "sink"} {
		if cmd.Flags().Changed(other) {
			return command.Usagef("--cancel gives up a replay that was asked for: it takes no --%s", other)
		}
	}
	if !cmd.Flags().Changed("reason") {
		return command.Usagef("--reason is missing: the journal keeps why it was done")
	}
	return o.consent.Possible()
}

func (c *commands) cancelReplay(ctx context.Context, s session, o replayOptions) error {
	by, err := c.by(o.reason)
	if err != nil {
		return err
	}
	replay, err := s.ReplayProgress(ctx, o.cancel)
	if errors.Is(err, outbox.ErrNotFound) {
		return fmt.Errorf("there is no replay %d: slipway outbox blockers shows those that are not finished", o.cancel)
	}
	if err != nil {
		return err
	}
	if replay.FinishedAt != nil {
		return fmt.Errorf("replay %d has ended already: nothing is left to give up", o.cancel)
	}
	if err := o.consent.Ask(fmt.Sprintf("Give up replay %d to %s, of which %s are published?", o.cancel, command.Cell(replay.Sink), command.Count(replay.Published, "event"))); err != nil {
		return err
	}
	if err := s.CancelReplay(ctx, by, o.cancel); err != nil {
		return err
	}
	if replay, err = s.ReplayProgress(ctx, o.cancel); err != nil {
		return err
	}
	return c.env.Result(*o.format, cancelled{o.cancel, replay}, c.env.Say("replay %d is given up: %s stay published", o.cancel, command.Count(replay.Published, "event")))
}
