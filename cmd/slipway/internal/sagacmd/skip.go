package sagacmd

import (
	"context"
	"fmt"
	"strings"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"github.com/slipwayhq/slipway/platform/saga/sagapg"
)

func (c *commands) skip() *cobra.Command {
	return c.decides(&cobra.Command{
		Use:   "skip ID --reason TEXT",
		Short: "Take the step at hand for done, or for undone, and go on with the next",
		Long: `Take the step at hand for done, because you have done it or seen that it is, and go on with the next. Of a
parallel group all steps are taken for done. If the saga is undone later, so is the step. Of a saga that is
undone, the undo at hand is taken for done.`,
		Example: `  slipway saga skip 019ab0f6-7c1e-7a53-8d55-3c0f5a1c2b3d --reason "voided in the provider's console"
  slipway saga skip 019ab0f6-7c1e-7a53-8d55-3c0f5a1c2b3d --reason "the approval came by phone" --yes`,
	}, decision{
		reason: true, one: true,
		question: func(sagas []sagapg.Detail) string {
			d := sagas[0]
			return fmt.Sprintf("Take %s of %s for done? It is not called for it.", strings.Join(d.Steps, " and "), title(d.Saga))
		},
		act: func(ctx context.Context, s session, id uuid.UUID, by sagapg.Act) (sagapg.Change, error) {
			return s.Skip(ctx, id, by)
		},
	})
}
