package sagacmd

import (
	"context"
	"fmt"
	"slices"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"github.com/slipwayhq/slipway/platform/saga"
	"github.com/slipwayhq/slipway/platform/saga/sagapg"
)

func (c *commands) compensate() *cobra.Command {
	return c.decides(&cobra.Command{
		Use:   "compensate ID...",
		Short: "Have a saga undone whose pivot has not happened",
		Long: `Have a saga undone, step by step, the last one first. After its pivot that cannot be. If nobody knows whether
the pivot has happened, find that out first: compensate takes your word for it that it has not.`,
		Example: `  slipway saga compensate 019ab0f6-7c1e-7a53-8d55-3c0f5a1c2b3d --reason "the customer has cancelled"
  slipway saga compensate 019ab0f6-7c1e-7a53-8d55-3c0f5a1c2b3d --reason "the bank has no such transfer" --yes`,
	}, decision{
		question: func(sagas []sagapg.Detail) string {
			return ask(sagas, compensateQuestion, "Undo %d sagas? Where a pivot may have happened, you say that it has not and never will.")
		},
		act: func(ctx context.Context, s session, id uuid.UUID, by sagapg.Act) (sagapg.Change, error) {
			return s.Compensate(ctx, id, by)
		},
	})
}

func compensateQuestion(d sagapg.Detail) string {
	question := fmt.Sprintf("Undo %s?", title(d.Saga))
	at := slices.IndexFunc(d.Plan, func(s sagapg.PlannedStep) bool { return s.Current && s.Kind == saga.KindPivot })
	if at >= 0 && d.Plan[at].State == saga.StepUncertain.String() {
		question += fmt.Sprintf(" Its pivot %s may have happened: you say that it has not and never will.", d.Plan[at].Name)
	}
	return question
}
