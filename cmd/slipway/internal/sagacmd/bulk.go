package sagacmd

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/slipwayhq/slipway/cmd/slipway/internal/command"
	"github.com/slipwayhq/slipway/cmd/slipway/internal/console"
	"github.com/slipwayhq/slipway/platform/saga/sagapg"
)

// bulkOptions are the flags of slipway saga bulk.
type bulkOptions struct {
	filter       *filterFlags
	action, rate string
	limit        int
	preview      bool
	reason       *command.Reason
	consent      *command.Consent
	format       *console.Format
}

func (c *commands) bulk() *cobra.Command {
	o := bulkOptions{}
	cmd := &cobra.Command{
		Use:   "bulk --action ACTION (--stuck | --type NAME | ...) --reason TEXT",
		Short: "Do the same with every saga that a filter selects, at a rate that the callees can bear",
		Long: `Do the same with every saga that a filter selects: retry, compensate, skip or resolve. Each is looked at again
before it is changed: one that gets on by itself meanwhile is left alone, and one that refuses does not hold
up the others. --preview tells what would happen, and changes nothing. What was done when it is interrupted
stays done; calling it again goes on with the rest.`,
		Example: `  slipway saga bulk --action retry --stuck --type checkout --preview
  slipway saga bulk --action retry --stuck --type checkout --rate 20/s --reason "the provider is back"
  slipway saga bulk --action compensate --why needs_operator --since 6h --reason "no such transfers at the bank" --yes`,
		Args: command.NoArgs,
	}
	o.filter = addFilter(cmd)
	f := cmd.Flags()
	f.StringVar(&o.action, "action", "", "retry, compensate, skip or resolve (required)")
	f.StringVar(&o.rate, "rate", "50/s", "how many a second at most")
	f.IntVar(&o.limit, "limit", 0, "so many at most, the oldest first (default all)")
	f.BoolVar(&o.preview, "preview", false, "only tell what would happen")
	o.reason, o.consent, o.format = command.ReasonFlag(cmd, true), command.ConsentFlag(cmd, c.env), command.OutputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		b, by, err := c.bulkOf(o)
		if err != nil {
			return err
		}
		return c.do(cmd.Context(), func(ctx context.Context, s session) error { return c.runBulk(ctx, s, o, b, by) })
	}
	return cmd
}

// bulkOf finds mistakes before there is a database.
func (c *commands) bulkOf(o bulkOptions) (b sagapg.Bulk, by sagapg.Act, err error) {
	if o.action == "" {
		return b, by, command.Usagef("--action is missing: retry, compensate, skip or resolve")
	}
	if o.limit < 0 {
		return b, by, command.Usagef("--limit %d: want 1 or more", o.limit)
	}
	rate, err := strconv.ParseFloat(strings.TrimSuffix(o.rate, "/s"), 64)
	if err != nil || !(rate > 0) {
		return b, by, command.Usagef("--rate %s: want a number above 0, as 20/s", o.rate)
	}
	if err := o.filter.check(); err != nil {
		return b, by, err
	}
	f := o.filter.filter
	if o.filter.since != "" {
		f.Since = time.Now() // it is set; which time it is the database says
	}
	b = sagapg.Bulk{Action: o.action, Filter: f, Rate: rate, Preview: o.preview}
	if err := b.Validate(); err != nil {
		return b, by, command.Usagef("%w", err)
	}
	if o.preview {
		return b, by, nil
	}
	if by, err = c.by(o.reason); err != nil {
		return b, by, err
	}
	return b, by, o.consent.Possible()
}

func (c *commands) runBulk(ctx context.Context, s session, o bulkOptions, b sagapg.Bulk, by sagapg.Act) (err error) {
	if b.Filter, err = o.filter.on(ctx, s); err != nil {
		return err
	}
	n, err := s.Count(ctx, b.Filter)
	if err != nil {
		return err
	}
	if b.Filter.Limit = o.limit; o.limit > 0 {
		n = min(n, int64(o.limit))
	}
	if n > 0 && !b.Preview {
		takes := time.Duration(float64(n-1) / b.Rate * float64(time.Second)).Round(100 * time.Millisecond)
		if err := o.consent.Ask(fmt.Sprintf("%s %s (%s)? At %g a second it takes %s.", b.Action, command.Count(n, "saga"), b.Filter, b.Rate, command.Age(takes))); err != nil {
			return err
		}
	}
	result, err := c.watchBulk(ctx, s, b, by, n)
	if err != nil && result.Changed == 0 {
		return err
	}
	shown := c.env.Result(*o.format, result, func() error { return c.showBulk(b, result) })
	switch {
	case err != nil:
		return err
	case shown == nil && len(result.Refused) > 0 && !b.Preview:
		return fmt.Errorf("%s refused: %s", command.Count(int64(len(result.Refused)), "saga"), result.Refused[0].Error)
	}
	return shown
}

// sayEvery is how often progress is said.
const sayEvery = 5 * time.Second

// watchBulk says how far it is.
func (c *commands) watchBulk(ctx context.Context, s session, b sagapg.Bulk, by sagapg.Act, n int64) (sagapg.BulkResult, error) {
	if n == 0 {
		return s.Bulk(ctx, b, by, nil)
	}
	step := c.env.Console.Progress().Start(fmt.Sprintf("%s of %s", b.Action, command.Count(n, "saga")))
	said := time.Now()
	result, err := s.Bulk(ctx, b, by, func(r sagapg.BulkResult) {
		if time.Since(said) > sayEvery {
			said = time.Now()
			c.env.Console.Notef("  … %d of %d", r.Changed+r.Left+len(r.Refused), r.Selected)
		}
	})
	if err != nil {
		step.Fail()
		return result, err
	}
	step.Done("%s", counts(b, result))
	return result, nil
}

func counts(b sagapg.Bulk, r sagapg.BulkResult) string {
	verb := "changed"
	if b.Preview {
		verb = "would be changed"
	}
	text := fmt.Sprintf("%d of %s %s", r.Changed, command.Count(int64(r.Selected), "saga"), verb)
	if r.Left > 0 {
		text += fmt.Sprintf(", %d got on by themselves", r.Left)
	}
	if len(r.Refused) > 0 {
		text += fmt.Sprintf(", %d refused", len(r.Refused))
	}
	return text
}

// maxRefused is how many refusals a table shows; JSON has them all.
const maxRefused = 10

func (c *commands) showBulk(b sagapg.Bulk, r sagapg.BulkResult) error {
	if r.Selected == 0 {
		return c.env.Say("no saga is selected (%s)", b.Filter)()
	}
	var rows [][]string
	for _, m := range r.Moves {
		rows = append(rows, []string{strconv.Itoa(m.Count), fmt.Sprintf("%s v%d", m.Name, m.Version), m.From, m.To})
	}
	for i, refusal := range r.Refused {
		if i == maxRefused {
			c.env.Console.Notef("! and %d more: --output json has them all", len(r.Refused)-i)
			break
		}
		c.env.Console.Notef("! %s", refusal.Error)
	}
	if len(rows) == 0 {
		return c.env.Say("nothing was changed")()
	}
	return console.WriteTable(c.env.Console, []string{"COUNT", "SAGA", "FROM", "TO"}, rows)
}
