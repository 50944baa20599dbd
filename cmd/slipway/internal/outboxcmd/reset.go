package outboxcmd

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/slipwayhq/slipway/cmd/slipway/internal/command"
)

// resetDone is the result of slipway outbox reset.
type resetDone struct {
	Unsent int64 `json:"unsent"`
}

func (c *commands) reset() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "reset --reason TEXT",
		Short: "Go on after the database was restored into another cluster; writers wait meanwhile",
		Long: `Go on after the database was restored into another cluster, or upgraded by dump and restore: the relay
refuses to publish there, because positions are transaction ids of the old cluster. What was published by the
positions that came with the backup stays published, the rest is published in order. It takes the outbox for
itself meanwhile: transactions that add events wait.`,
		Example: `  slipway outbox reset --reason "restored the backup of 03:00"`,
		Args:    command.NoArgs,
	}
	reason, consent := command.ReasonFlag(cmd, true), command.ConsentFlag(cmd, c.env)
	format := command.OutputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		by, err := c.by(reason)
		if err != nil {
			return err
		}
		if err := consent.Possible(); err != nil {
			return err
		}
		return c.do(cmd.Context(), func(ctx context.Context, s session) error {
			if _, err := s.Sinks(ctx); err != nil {
				return err
			}
			if err := consent.Ask("Make this cluster the one that the positions of all sinks belong to? Transactions that add events wait meanwhile."); err != nil {
				return err
			}
			unsent, err := s.Reset(ctx, by)
			if err != nil {
				return err
			}
			return c.env.Result(*format, resetDone{unsent}, c.env.Say("reset; %s to publish. A relay that has refused to start must be started again", command.Count(unsent, "event")))
		})
	}
	return cmd
}
