package sagacmd

import (
	"context"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/slipwayhq/slipway/cmd/slipway/internal/command"
	"github.com/slipwayhq/slipway/platform/saga/sagapg"
)

// filterFlags are those that select sagas.
type filterFlags struct {
	filter sagapg.Filter
	since  string
}

// whys are the reasons for which a saga is stuck.
var whys = []string{
	sagapg.StuckRetrying, sagapg.StuckNoWorker, sagapg.StuckCompensationFailed, sagapg.StuckNeedsOperator, sagapg.StuckOverdue, sagapg.StuckLeaseChurn,
}

func addFilter(cmd *cobra.Command) *filterFlags {
	o := &filterFlags{}
	f := cmd.Flags()
	f.BoolVar(&o.filter.Stuck, "stuck", false, "only those that do not get on")
	f.StringSliceVar(&o.filter.Reasons, "why", nil, "only those that are stuck for this: "+strings.Join(whys, ", "))
	f.StringVar(&o.filter.Name, "type", "", "only those of this definition, as checkout")
	f.IntVar(&o.filter.Version, "version", 0, "only those of this version of their definition")
	f.StringVar(&o.filter.Status, "status", "", "only those in this status: running, compensating or needs_operator, or of those that are over completed, compensated or resolved")
	f.StringVar(&o.since, "since", "", "only those that were started since a time as 2026-11-23T09:30:00Z, or within 2h or 90m")
	f.StringVar(&o.filter.ID, "id", "", "only those whose id begins so")
	return o
}

// check finds mistakes before there is a database.
func (o *filterFlags) check() error {
	for _, why := range o.filter.Reasons {
		if !slices.Contains(whys, why) {
			return command.Usagef("--why %s: want %s", why, strings.Join(whys, ", "))
		}
	}
	if o.since != "" {
		if _, err := command.ParseSince(o.since); err != nil {
			return err
		}
	}
	if err := o.filter.Validate(); err != nil {
		return command.Usagef("%w", err)
	}
	return nil
}

// on returns the filter with times by the clock of the database.
func (o *filterFlags) on(ctx context.Context, s session) (f sagapg.Filter, err error) {
	f = o.filter
	if o.since == "" {
		return f, nil
	}
	since, err := command.ParseSince(o.since)
	if err != nil {
		return f, err
	}
	f.Since, err = since.On(ctx, s.pool)
	return f, err
}
