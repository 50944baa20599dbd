package sagacmd

import (
	"context"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"github.com/slipwayhq/slipway/platform/saga/sagapg"
)

func (c *commands) retry() *cobra.Command {
	return c.decides(&cobra.Command{
		Use:   "retry ID...",
		Short: "Have the step at hand tried again at once, with all its attempts",
		Long: `Have the step at hand tried again at once, with all its attempts: of a saga that is undone, its undo. A
deadline that is over does not end it again.`,
		Example: `  slipway saga retry 019ab0f6-7c1e-7a53-8d55-3c0f5a1c2b3d
  slipway saga retry 019ab0f6-7c1e-7a53-8d55-3c0f5a1c2b3d --reason "the provider is back"`,
	}, decision{act: func(ctx context.Context, s session, id uuid.UUID, by sagapg.Act) (sagapg.Change, error) {
		return s.Retry(ctx, id, by)
	}})
}
