package sagacmd

import (
	"cmp"
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/slipwayhq/slipway/cmd/slipway/internal/command"
	"github.com/slipwayhq/slipway/platform/saga/sagapg"
)

func (c *commands) versions() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "versions",
		Short: "Show for each version of each saga what is in flight, and which processes run it",
		Long: `Show for each version of each saga what is in flight, and which processes run it. A version may go from the
code when nothing of it is in flight. What is in flight without a worker waits for a program that has it.`,
		Example: `  slipway saga versions
  slipway saga versions --output json | jq '.[] | select(.no_worker)'`,
		Args: command.NoArgs,
	}
	format := command.OutputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		return c.do(cmd.Context(), func(ctx context.Context, s session) error {
			versions, err := s.Versions(ctx)
			if err != nil {
				return err
			}
			return c.env.Result(*format, versions, func() error { return c.showVersions(versions) })
		})
	}
	return cmd
}

func (c *commands) showVersions(versions []sagapg.Version) error {
	if len(versions) == 0 {
		return c.env.Say("no saga was ever defined on this database")()
	}
	rows := make([][]string, len(versions))
	for i, v := range versions {
		oldest := "-"
		if v.Oldest != nil {
			oldest = command.Age(time.Since(*v.Oldest)) + " ago"
		}
		rows[i] = []string{
			v.Name, "v" + strconv.Itoa(v.Version), strconv.FormatInt(v.Running, 10), strconv.FormatInt(v.Compensating, 10),
			strconv.FormatInt(v.NeedsOperator, 10), oldest, workers(v), command.Cell(v.Steps),
		}
	}
	return c.env.TableOf([]string{"SAGA", "VERSION", "RUNNING", "COMPENSATING", "NEEDS OPERATOR", "OLDEST", "WORKERS", "STEPS"}, rows, 0)
}

// workers lists those of a version.
func workers(v sagapg.Version) string {
	var names []string
	for _, w := range v.Workers {
		name := cmp.Or(command.Cell(w.Name), fmt.Sprintf("worker %d", w.ID))
		if !w.Alive {
			name += " (silent for " + command.Age(time.Since(w.SeenAt)) + ")"
		}
		names = append(names, name)
	}
	list := strings.Join(names, ", ")
	switch {
	case v.NoWorker && list != "":
		return "NO WORKER, " + list
	case v.NoWorker:
		return "NO WORKER"
	}
	return orDash(list)
}
