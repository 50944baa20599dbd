package outboxcmd

import (
	"context"
	"strings"

	"github.com/spf13/cobra"

	"github.com/slipwayhq/slipway/cmd/slipway/internal/command"
	"github.com/slipwayhq/slipway/platform/outbox"
)

// switched is the result of slipway outbox pause and resume.
type switched struct {
	Sinks []string `json:"sinks"`
}

func (c *commands) pause() *cobra.Command {
	return c.toggle(&cobra.Command{
		Use:     "pause",
		Short:   "Stop publishing until resume: business goes on, events wait",
		Example: `  slipway outbox pause --reason "the broker moves"`,
	}, "paused %s: events wait until slipway outbox resume", (*outbox.Operator).Pause)
}

func (c *commands) resume() *cobra.Command {
	return c.toggle(&cobra.Command{
		Use:     "resume",
		Short:   "Publish again what was paused",
		Example: "  slipway outbox resume --sink broker",
	}, "resumed %s", (*outbox.Operator).Resume)
}

// toggle completes a command that does something to sinks and says so.
func (c *commands) toggle(cmd *cobra.Command, done string,
	do func(o *outbox.Operator, ctx context.Context, by outbox.By, sink string) ([]string, error),
) *cobra.Command {
	cmd.Args = command.NoArgs
	sink, reason := sinkFlag(cmd, "all"), command.ReasonFlag(cmd, false)
	format := command.OutputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		by, err := c.by(reason)
		if err != nil {
			return err
		}
		return c.do(cmd.Context(), func(ctx context.Context, s session) error {
			if err := s.known(ctx, *sink); err != nil {
				return err
			}
			sinks, err := do(s.Operator, ctx, by, *sink)
			if err != nil {
				return err
			}
			return c.env.Result(*format, switched{sinks}, c.env.Say(done, strings.Join(sinks, ", ")))
		})
	}
	return cmd
}
