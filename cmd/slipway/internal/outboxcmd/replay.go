package outboxcmd

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/slipwayhq/slipway/cmd/slipway/internal/command"
	"github.com/slipwayhq/slipway/cmd/slipway/internal/console"
	"github.com/slipwayhq/slipway/platform/outbox"
)

// replayOptions are the flags of slipway outbox replay.
type replayOptions struct {
	since        string
	sink         *string
	dryRun, wait bool
	cancel       int64
	reason       *command.Reason
	consent      *command.Consent
	format       *console.Format
}

// replayed is the result of slipway outbox replay.
type replayed struct {
	outbox.ReplayPlan
	// Published counts what was published again, LeftOut what the broker did not take,
	// with --wait.
	Published  int64      `json:"published,omitempty"`
	LeftOut    int64      `json:"left_out,omitempty"`
	FinishedAt *time.Time `json:"finished_at,omitempty"`
}

func (c *commands) replay() *cobra.Command {
	o := replayOptions{}
	cmd := &cobra.Command{
		Use:   "replay --since TIME | --cancel ID",
		Short: "Publish again what was published since a time, for a broker that has lost it",
		Long: `Publish again what was published since a time, for a broker that has lost it: in order, under the same
event ids, so that consumers with an inbox apply nothing twice. Events go back for as long as the retention
of the outbox. Live events go on in between. What is parked or was discarded is not sent; what the broker
refuses, or does not take in OUTBOX_MAX_ATTEMPTS, is left out, counted, and named in the log of the relay.
Until a replay has ended the outbox keeps every event: --cancel gives one up.`,
		Example: `  slipway outbox replay --since 2h --dry-run
  slipway outbox replay --since 2026-11-23T09:30:00Z --reason "the broker lost its disk" --wait
  slipway outbox replay --cancel 3 --reason "asked for the wrong day"`,
		Args: command.NoArgs,
	}
	f := cmd.Flags()
	f.StringVar(&o.since, "since", "", "from when on: a time as 2026-11-23T09:30:00Z, or how long ago as 2h or 90m (required without --cancel)")
	f.BoolVar(&o.dryRun, "dry-run", false, "only count")
	f.BoolVar(&o.wait, "wait", false, "return when all of it is published")
	f.Int64Var(&o.cancel, "cancel", 0, "give up the replay of this id instead; with --reason")
	o.sink = sinkFlag(cmd, "the only one")
	o.reason, o.consent, o.format = command.ReasonFlag(cmd, false), command.ConsentFlag(cmd, c.env), command.OutputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if cmd.Flags().Changed("cancel") {
			if err := o.checkCancel(cmd); err != nil {
				return err
			}
			return c.do(cmd.Context(), func(ctx context.Context, s session) error { return c.cancelReplay(ctx, s, o) })
		}
		at, err := command.ParseSince(o.since)
		if err != nil {
			return err
		}
		if o.dryRun && o.wait {
			return command.Usagef("--dry-run publishes nothing to --wait for")
		}
		if !o.dryRun {
			if err := o.consent.Possible(); err != nil {
				return err
			}
		}
		return c.do(cmd.Context(), func(ctx context.Context, s session) error { return c.runReplay(ctx, s, o, at) })
	}
	return cmd
}

// onlySink returns the sink, or the only one if none is named.
func (s session) onlySink(ctx context.Context, name string) (string, error) {
	if name != "" {
		return name, s.known(ctx, name)
	}
	sinks, err := s.Sinks(ctx)
	switch {
	case err != nil:
		return "", err
	case len(sinks) == 0:
		return "", fmt.Errorf("nothing was published yet: no relay has run on this database")
	case len(sinks) > 1:
		return "", command.Usagef("which broker? choose with --sink: %s", strings.Join(sinks, ", "))
	}
	return sinks[0], nil
}

func (c *commands) runReplay(ctx context.Context, s session, o replayOptions, from command.Since) error {
	by, err := c.by(o.reason)
	if err != nil {
		return err
	}
	sink, err := s.onlySink(ctx, *o.sink)
	if err != nil {
		return err
	}
	at, err := from.On(ctx, s.pool)
	if err != nil {
		return err
	}
	plan, err := s.Replay(ctx, by, sink, at, true)
	if err != nil {
		return err
	}
	if o.dryRun {
		return c.env.Result(*o.format, plan, func() error { return c.showPlan(plan) })
	}
	c.warnIncomplete(plan)
	if err := o.consent.Ask(fmt.Sprintf("Publish %s since %s to %s again?", command.Count(plan.Events, "event"), command.Time(&at), sink)); err != nil {
		return err
	}
	if plan, err = s.Replay(ctx, by, sink, at, false); err != nil {
		return err
	}
	done := replayed{ReplayPlan: plan}
	if o.wait {
		if done, err = c.waitForReplay(ctx, s, plan); err != nil {
			return err
		}
	}
	return c.env.Result(*o.format, done, func() error {
		if o.wait {
			c.env.Console.Printf("replay %d: published %s again", plan.Replay, command.Count(done.Published, "event"))
			if done.LeftOut > 0 {
				c.env.Console.Notef("! left out %s that the broker did not take: the log of the relay names them", command.Count(done.LeftOut, "event"))
			}
			return nil
		}
		c.env.Console.Printf("replay %d: %s will be published again; slipway outbox status shows it until it is done", plan.Replay, command.Count(plan.Events, "event"))
		return nil
	})
}

func (c *commands) warnIncomplete(plan outbox.ReplayPlan) {
	if plan.Complete {
		return
	}
	kept := "none is kept"
	if plan.Oldest != nil {
		kept = "the oldest that is kept is of " + command.Time(plan.Oldest)
	}
	c.env.Console.Notef("! events may be missing, it does not reach back to %s: %s", command.Time(&plan.Since), kept)
}

func (c *commands) showPlan(plan outbox.ReplayPlan) error {
	c.warnIncomplete(plan)
	if plan.Events == 0 {
		c.env.Console.Printf("nothing that is kept was published to %s since %s", plan.Sink, command.Time(&plan.Since))
		return nil
	}
	var rows [][]string
	for _, kind := range slices.Sorted(maps.Keys(plan.Types)) {
		rows = append(rows, []string{command.Cell(kind), strconv.FormatInt(plan.Types[kind], 10)})
	}
	rows = append(rows, []string{"all to " + command.Cell(plan.Sink) + " since " + command.Time(&plan.Since), strconv.FormatInt(plan.Events, 10)})
	return console.WriteTable(c.env.Console, []string{"TYPE", "EVENTS"}, rows)
}
