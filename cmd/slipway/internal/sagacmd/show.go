package sagacmd

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/slipwayhq/slipway/cmd/slipway/internal/command"
	"github.com/slipwayhq/slipway/cmd/slipway/internal/console"
	"github.com/slipwayhq/slipway/platform/saga"
	"github.com/slipwayhq/slipway/platform/saga/sagapg"
)

func (c *commands) show() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "show ID",
		Short: "Show a saga whole: how far its steps are, every attempt, every decision, its state",
		Example: `  slipway saga show 019ab0f6-7c1e-7a53-8d55-3c0f5a1c2b3d
  slipway saga show 019ab0f6-7c1e-7a53-8d55-3c0f5a1c2b3d -o json | jq .data`,
		Args: command.OneArg("ID"),
	}
	format := command.OutputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		id, err := sagaID(args[0])
		if err != nil {
			return err
		}
		return c.do(cmd.Context(), func(ctx context.Context, s session) error {
			d, err := s.Show(ctx, id)
			if err != nil {
				return err
			}
			return c.env.Result(*format, d, func() error { return c.showSaga(d) })
		})
	}
	return cmd
}

func (c *commands) showSaga(d sagapg.Detail) error {
	if err := console.WriteTable(c.env.Console, []string{"FIELD", "VALUE"}, fields(d)); err != nil {
		return err
	}
	c.env.Console.Printf("")
	if err := console.WriteTable(c.env.Console, []string{"STAGE", "STEP", "KIND", "UNDO", "STATE", ""}, planRows(d.Plan)); err != nil {
		return err
	}
	c.env.Console.Printf("")
	if err := console.WriteTable(c.env.Console, []string{"AT", "WHAT", "ATTEMPT", "RESULT", "TOOK", "TRACE", "DETAIL"}, timeline(d)); err != nil {
		return err
	}
	c.env.Console.Printf("\nstate, %s:\n%s", command.Count(int64(len(d.Data)), "byte"), command.Payload(d.Data))
	return nil
}

func fields(d sagapg.Detail) [][]string {
	rows := [][]string{
		{"saga", fmt.Sprintf("%s, version %d", d.Name, d.Version)},
		{"id", d.ID.String()},
		{"status", d.Status},
	}
	add := func(set bool, name, value string) {
		if set {
			rows = append(rows, []string{name, value})
		}
	}
	add(d.Stuck != "", "stuck", d.Stuck)
	add(len(d.Steps) > 0, "at", strings.Join(d.Steps, ", "))
	add(d.FinishedAt == nil, "next", next(d.Saga))
	add(d.Worker != "", "worker", command.Cell(d.Worker))
	add(d.Reason != "", "undone for", command.Cell(d.Reason))
	add(d.Problem != "", "problem", command.Cell(d.Problem))
	for _, at := range []struct {
		name string
		time *time.Time
	}{{"started", &d.CreatedAt}, {"failing since", d.FailingSince}, {"deadline", d.Deadline}, {"over", d.FinishedAt}} {
		add(at.time != nil, at.name, command.Time(at.time))
	}
	for _, s := range d.Signals {
		add(true, "signal "+command.Cell(s.Name), fmt.Sprintf("%s, %s, not taken yet", command.Time(&s.At), command.Count(int64(len(s.Payload)), "byte")))
	}
	for _, name := range slices.Sorted(maps.Keys(d.Headers)) {
		add(true, "header "+command.Cell(name), command.Cell(d.Headers[name]))
	}
	return rows
}

func planRows(plan []sagapg.PlannedStep) [][]string {
	rows := make([][]string, len(plan))
	for i, s := range plan {
		var notes []string
		if s.Attempts > 0 {
			notes = append(notes, command.Count(int64(s.Attempts), "failed attempt"))
		}
		if s.Unknown || s.State == saga.StepUncertain.String() {
			notes = append(notes, "may have happened")
		}
		if s.NotBefore != nil {
			notes = append(notes, in(*s.NotBefore))
		}
		name, undo := s.Name, s.Undo
		if s.Kind == saga.KindUndo {
			name = ""
		}
		if s.Current {
			notes = append([]string{"<-"}, notes...)
		}
		rows[i] = []string{fmt.Sprint(s.Stage), orDash(name), string(s.Kind), orDash(undo), orDash(s.State), strings.Join(notes, " ")}
	}
	return rows
}

// timeline is what has happened, in order.
func timeline(d sagapg.Detail) [][]string {
	type line struct {
		at    time.Time
		cells []string
	}
	lines := []line{{d.CreatedAt, []string{"started", "", "", "", "", ""}}}
	for _, e := range d.Timeline {
		what := e.Step
		if e.Call == saga.CallVerify.String() {
			what += " (verify)"
		}
		lines = append(lines, line{e.At, []string{what, fmt.Sprint(e.Attempt), e.Class, command.Age(e.Took), orDash(e.TraceID), command.Cell(e.Error)}})
	}
	for _, a := range d.Actions {
		lines = append(lines, line{a.At, []string{"! " + a.Action, "", "", "", "", command.Cell(fmt.Sprintf("%s: %s (%s)", a.Who, a.Reason, a.Detail))}})
	}
	slices.SortStableFunc(lines, func(a, b line) int { return a.at.Compare(b.at) })
	if d.FinishedAt != nil {
		lines = append(lines, line{*d.FinishedAt, []string{d.Status, "", "", "", "", ""}})
	}
	rows := make([][]string, len(lines))
	for i, l := range lines {
		rows[i] = append([]string{l.at.Local().Format("2006-01-02 15:04:05.000")}, l.cells...)
	}
	return rows
}
