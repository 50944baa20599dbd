// Package outboxcmd holds the commands of slipway outbox, one file each: what people
// do with the events of a service that wait to be published.
package outboxcmd

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/spf13/cobra"

	"github.com/slipwayhq/slipway/cmd/slipway/internal/command"
	"github.com/slipwayhq/slipway/platform/outbox"
)

// commands is what the commands share.
type commands struct {
	env command.Env
	db  *command.Database
}

// New returns the command outbox.
func New(env command.Env) *cobra.Command {
	root := &cobra.Command{
		Use:   "outbox",
		Short: "Look after the events that a service publishes",
		Long: `Look after the events that a service publishes: what waits and why, what the broker did not take, and what
is to be published again.

Which database: --database-url, else that of --service in the running slipway dev, else DATABASE_URL, else
that of the running slipway dev. A command leaves its wish in the database and the relay, which runs in the
service, fulfils it within about half a second. Every change is journaled with who (SLIPWAY_OPERATOR, else
user@host) and why (--reason).`,
		Example: `  slipway outbox status
  slipway outbox blockers --service order   # who holds things up
  slipway outbox list                       # what the broker did not take`,
	}
	c := &commands{env: env, db: command.DatabaseFlags(root, env)}
	return command.Group(root, c.status(), c.list(), c.show(), c.redrive(), c.discard(), c.replay(),
		c.pause(), c.resume(), c.blockers(), c.journal(), c.reset(), c.removeSink())
}

// session is an outbox to operate on.
type session struct {
	*outbox.Operator
	pool *pgxpool.Pool
}

// do connects and calls do.
func (c *commands) do(ctx context.Context, do func(ctx context.Context, s session) error) error {
	return c.db.Do(ctx, func(ctx context.Context, db *pgxpool.Pool) error {
		return do(ctx, session{outbox.NewOperator(db), db})
	})
}

// sinkFlag adds the flag --sink.
func sinkFlag(cmd *cobra.Command, otherwise string) *string {
	return cmd.Flags().String("sink", "", "broker that it is about, by its name in slipway outbox status (default "+otherwise+")")
}

// known makes sure that a sink exists. Empty stands for all.
func (s session) known(ctx context.Context, sink string) error {
	if sink == "" {
		return nil
	}
	sinks, err := s.Sinks(ctx)
	switch {
	case err != nil:
		return err
	case slices.Contains(sinks, sink):
		return nil
	case len(sinks) == 0:
		return fmt.Errorf("there is no sink %q, nor any other: no relay has run on this database yet", sink)
	}
	return fmt.Errorf("there is no sink %q: choose from %s", sink, strings.Join(sinks, ", "))
}
