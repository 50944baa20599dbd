package outboxcmd

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/slipwayhq/slipway/cmd/slipway/internal/command"
	"github.com/slipwayhq/slipway/platform/outbox"
)

// redriven is the result of slipway outbox redrive.
type redriven struct {
	Aggregates int `json:"aggregates"`
}

func (c *commands) redrive() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "redrive TYPE/ID | --all",
		Short: "Have parked aggregates tried again at once, in order",
		Example: `  slipway outbox redrive order/42 --reason "the stream takes 8 MB now"
  slipway outbox redrive --all --sink broker`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 1 {
				return command.Usagef("unknown argument %q: one aggregate at a time, or --all", args[1])
			}
			return nil
		},
	}
	all := cmd.Flags().Bool("all", false, "every parked aggregate")
	sink, reason := sinkFlag(cmd, "all"), command.ReasonFlag(cmd, false)
	format := command.OutputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if *all == (len(args) == 1) {
			return command.Usagef("which aggregates? name one as TYPE/ID, or say --all")
		}
		keys := []aggregate{{}}
		if !*all {
			if keys = aggregates(args[0]); len(keys) == 0 {
				return command.Usagef("aggregate %q: want TYPE/ID as slipway outbox list shows it", args[0])
			}
		}
		by, err := c.by(reason)
		if err != nil {
			return err
		}
		return c.do(cmd.Context(), func(ctx context.Context, s session) error {
			if err := s.known(ctx, *sink); err != nil {
				return err
			}
			n, err := s.redriveAny(ctx, by, *sink, keys)
			if errors.Is(err, outbox.ErrNotFound) {
				return fmt.Errorf("%w: slipway outbox list shows what is parked", err)
			}
			if err != nil {
				return err
			}
			return c.env.Result(*format, redriven{n}, c.env.Say("%s will be tried again at once: slipway outbox list shows what stays parked", command.Count(int64(n), "aggregate")))
		})
	}
	return cmd
}

// aggregate names one, or all when it is empty.
type aggregate struct{ kind, id string }

// aggregates returns what TYPE/ID can mean: both may hold slashes.
func aggregates(key string) []aggregate {
	var all []aggregate
	for i := range len(key) {
		if key[i] == '/' && i > 0 && i < len(key)-1 {
			all = append(all, aggregate{key[:i], key[i+1:]})
		}
	}
	return all
}

// redriveAny redrives the first of the aggregates that is parked.
func (s session) redriveAny(ctx context.Context, by outbox.By, sink string, keys []aggregate) (n int, err error) {
	for _, key := range keys {
		n, err = s.Redrive(ctx, by, sink, key.kind, key.id)
		if !errors.Is(err, outbox.ErrNotFound) {
			return n, err
		}
	}
	return n, err
}

// by says who does it, and why.
func (c *commands) by(reason *command.Reason) (outbox.By, error) {
	why, err := reason.Text()
	return outbox.By{Who: command.Who(c.env.Environ), Why: why}, err
}
