package sagacmd

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/slipwayhq/slipway/cmd/slipway/internal/command"
)

func (c *commands) signal() *cobra.Command {
	var payload, file string
	cmd := &cobra.Command{
		Use:   "signal ID NAME",
		Short: "Give a saga the signal that it waits for, or will wait for",
		Example: `  slipway saga signal 019ab0f6-7c1e-7a53-8d55-3c0f5a1c2b3d approval --payload '{"by": "ann"}' --reason "approved by phone"
  slipway saga signal 019ab0f6-7c1e-7a53-8d55-3c0f5a1c2b3d approval --file approval.json`,
		Args: func(_ *cobra.Command, args []string) error {
			switch {
			case len(args) < 2 || args[1] == "":
				return command.Usagef("ID or NAME is missing: slipway saga show ID has the waits of a saga")
			case len(args) > 2:
				return command.Usagef("unknown argument %q: one signal at a time", args[2])
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&payload, "payload", "", "what comes with it (default nothing)")
	cmd.Flags().StringVar(&file, "file", "", "file with what comes with it, - for the input")
	reason, format := command.ReasonFlag(cmd, false), command.OutputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		id, err := sagaID(args[0])
		if err != nil {
			return err
		}
		if file != "" && payload != "" {
			return command.Usagef("--payload or --file: one of them")
		}
		data := []byte(payload)
		if file != "" {
			if data, err = contents(cmd, file); err != nil {
				return err
			}
		}
		by, err := c.by(reason)
		if err != nil {
			return err
		}
		return c.do(cmd.Context(), func(ctx context.Context, s session) error {
			change, err := s.Signal(ctx, id, args[1], data, by)
			if err != nil {
				return err
			}
			return c.env.Result(*format, change, c.env.Say("%s %s: signal %s is there; the saga is %s", change.Name, change.ID, command.Cell(args[1]), change.From))
		})
	}
	return cmd
}
