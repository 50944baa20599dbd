package inboxcmd

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/slipwayhq/slipway/cmd/slipway/internal/command"
	"github.com/slipwayhq/slipway/cmd/slipway/internal/console"
	"github.com/slipwayhq/slipway/platform/inbox"
)

func (c *commands) show() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "show ID",
		Short: "Show a dead letter whole: the error, the headers, the payload",
		Example: `  slipway inbox dead show 7
  slipway inbox dead show 7 -o json | jq -r .payload | base64 -d`,
		Args: command.OneArg("ID"),
	}
	format := command.OutputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		ids, err := deadIDs(args)
		if err != nil {
			return err
		}
		return c.do(cmd.Context(), func(ctx context.Context, s session) error {
			letter, err := s.Show(ctx, ids[0])
			if err != nil {
				return err
			}
			whole := wholeLetter{letter, command.Text(letter.Payload)}
			return c.env.Result(*format, whole, func() error { return c.showLetter(letter) })
		})
	}
	return cmd
}

// wholeLetter is a dead letter in JSON: the payload in base64 and, if it is a text,
// as that too.
type wholeLetter struct {
	inbox.DeadLetter
	Text *string `json:"payload_text,omitempty"`
}

func (c *commands) showLetter(d inbox.DeadLetter) error {
	version := ""
	if d.Version != 0 {
		version = fmt.Sprintf(", version %d", d.Version)
	}
	rows := [][]string{
		{"dead letter", fmt.Sprintf("%d of %s", d.ID, d.Consumer)},
		{"message", command.Cell(d.MessageID)},
		{"subject", command.Cell(d.Subject)},
		{"key", command.Cell(d.Key) + version},
		{"class", state(d)},
		{"attempts", fmt.Sprintf("%d, first %s (%s ago), last %s", d.Attempts, command.Time(&d.FirstAt), command.Age(time.Since(d.FirstAt)), command.Time(&d.LastAt))},
	}
	if d.Waiting > 0 {
		rows = append(rows, []string{"waiting", command.Count(d.Waiting, "later event") + " of its key"})
	}
	if d.ResolvedAt != nil {
		rows = append(rows, []string{"resolved", d.Resolution + " " + command.Time(d.ResolvedAt)})
	}
	for _, name := range slices.Sorted(maps.Keys(d.Headers)) {
		rows = append(rows, []string{"header " + command.Cell(name), command.Cell(d.Headers[name])})
	}
	if err := console.WriteTable(c.env.Console, []string{"FIELD", "VALUE"}, rows); err != nil {
		return err
	}
	c.env.Console.Printf("\nerror:\n%s\n\npayload, %s:\n%s",
		command.Payload([]byte(d.Error)), command.Count(int64(len(d.Payload)), "byte"), command.Payload(d.Payload))
	return nil
}
