package sagacmd

import (
	"context"
	"fmt"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"github.com/slipwayhq/slipway/platform/saga/sagapg"
)

func (c *commands) resolve() *cobra.Command {
	return c.decides(&cobra.Command{
		Use:   "resolve ID --reason TEXT",
		Short: "End a saga where it is: somebody has put in order by hand what it has done and not done",
		Example: `  slipway saga resolve 019ab0f6-7c1e-7a53-8d55-3c0f5a1c2b3d --reason "refunded and released by hand, ticket 4711"
  slipway saga resolve 019ab0f6-7c1e-7a53-8d55-3c0f5a1c2b3d --reason "a test order" --yes`,
	}, decision{
		reason: true, one: true,
		question: func(sagas []sagapg.Detail) string {
			d := sagas[0]
			return fmt.Sprintf("End %s, which is %s? Nothing more of it is done, and nothing undone.", title(d.Saga), d.Status)
		},
		act: func(ctx context.Context, s session, id uuid.UUID, by sagapg.Act) (sagapg.Change, error) {
			return s.Resolve(ctx, id, by)
		},
	})
}
