package inboxcmd

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/slipwayhq/slipway/cmd/slipway/internal/command"
	"github.com/slipwayhq/slipway/platform/inbox"
)

func (c *commands) skip() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "skip CONSUMER KEY --version N --reason TEXT",
		Short: "Give up versions of a key that will never come, up to N: what waits behind them goes on",
		Example: `  slipway inbox skip shipping order/42 --version 3 --reason "lost in the restore of May 4th"
  slipway inbox skip shipping order/42 --version 3 --reason "lost in the restore of May 4th" --yes`,
		Args: func(_ *cobra.Command, args []string) error {
			switch {
			case len(args) < 2 || args[0] == "" || args[1] == "":
				return command.Usagef("CONSUMER or KEY is missing: slipway inbox waiting shows both")
			case len(args) > 2:
				return command.Usagef("unknown argument %q: one key at a time", args[2])
			}
			return nil
		},
	}
	version := cmd.Flags().Int64("version", 0, "the last version that will never come (required)")
	reason, consent := command.ReasonFlag(cmd, true), command.ConsentFlag(cmd, c.env)
	format := command.OutputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		switch {
		case !cmd.Flags().Changed("version"):
			return command.Usagef("--version is missing: the last version that will never come")
		case *version < 1:
			return command.Usagef("--version %d: want 1 or more", *version)
		}
		by, err := c.by(reason)
		if err != nil {
			return err
		}
		if err := consent.Possible(); err != nil {
			return err
		}
		return c.do(cmd.Context(), func(ctx context.Context, s session) error {
			question, err := s.skipQuestion(ctx, args[0], args[1], *version)
			if err != nil {
				return err
			}
			if err := consent.Ask(question); err != nil {
				return err
			}
			done, err := s.Skip(ctx, args[0], args[1], *version, by)
			if err != nil {
				return err
			}
			return c.env.Result(*format, done, c.env.Say("%s", skipped(done)))
		})
	}
	return cmd
}

// skipQuestion describes what is given up. The key must wait for just that.
func (s session) skipQuestion(ctx context.Context, consumer, key string, version int64) (string, error) {
	if err := s.known(ctx, consumer); err != nil {
		return "", err
	}
	keys, err := s.Waiting(ctx, inbox.Filter{Consumer: consumer, Key: key})
	if err != nil {
		return "", err
	}
	name := command.Cell(key)
	if len(keys) == 0 {
		return "", s.notWaiting(ctx, consumer, key)
	}
	k := keys[0]
	if version < k.Next || version >= k.First {
		return "", fmt.Errorf("%s waits for %s: only that can be skipped, not up to version %d", name, versions(k.Next, k.First-1), version)
	}
	return fmt.Sprintf("Give up %s of %s? %s will never apply it.", versions(k.Next, version), name, consumer), nil
}

// notWaiting says why there is nothing to skip.
func (s session) notWaiting(ctx context.Context, consumer, key string) error {
	letters, err := s.List(ctx, inbox.Filter{Consumer: consumer, Key: key})
	if err != nil {
		return err
	}
	for _, d := range letters {
		if d.Version != 0 {
			return fmt.Errorf("%s waits for version %d, which is dead letter %d: slipway inbox dead redrive or discard", command.Cell(key), d.Version, d.ID)
		}
	}
	return fmt.Errorf("nothing waits for a version of %s: slipway inbox waiting shows what does", command.Cell(key))
}

func skipped(s inbox.Skipped) string {
	next := "waits for"
	if s.Ready {
		next = "goes on with"
	}
	return fmt.Sprintf("skipped %s of %s; it %s version %d", versions(s.From, s.To), command.Cell(s.Key), next, s.To+1)
}
