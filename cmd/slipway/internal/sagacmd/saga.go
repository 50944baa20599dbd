// Package sagacmd holds the commands of slipway saga, one file each: what people do with
// sagas that do not get on.
package sagacmd

import (
	"context"
	"fmt"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/spf13/cobra"

	"github.com/slipwayhq/slipway/cmd/slipway/internal/command"
	"github.com/slipwayhq/slipway/platform/saga/sagapg"
)

// commands is what the commands share.
type commands struct {
	env command.Env
	db  *command.Database
}

// New returns the command saga.
func New(env command.Env) *cobra.Command {
	root := &cobra.Command{
		Use:   "saga",
		Short: "Look after the sagas of a service that do not get on",
		Long: `Look after the sagas of a service: those that are stuck and why, what has become of each of their steps, and
what is to be done about them.

Which database: --database-url, else that of --service in the running slipway dev, else DATABASE_URL, else
that of the running slipway dev. A decision is stored, and the service goes on with it within about half a
second, or when it runs again. It takes the saga from the process that runs it: what that does afterwards is
refused, and a call that was on its way counts as of unknown outcome. Every change is journaled with who
(SLIPWAY_OPERATOR, else user@host) and why (--reason).`,
		Example: `  slipway saga list --stuck
  slipway saga show 019ab0f6-7c1e-7a53-8d55-3c0f5a1c2b3d
  slipway saga retry 019ab0f6-7c1e-7a53-8d55-3c0f5a1c2b3d --reason "the provider is back"
  slipway saga bulk --action retry --stuck --type checkout --preview
  slipway saga versions`,
	}
	c := &commands{env: env, db: command.DatabaseFlags(root, env)}
	return command.Group(root, c.list(), c.show(), c.retry(), c.compensate(), c.skip(), c.resolve(), c.setData(),
		c.signal(), c.bulk(), c.versions(), c.journal())
}

// session is the sagas to operate on.
type session struct {
	*sagapg.Operator
	pool *pgxpool.Pool
}

// do connects and calls do.
func (c *commands) do(ctx context.Context, do func(ctx context.Context, s session) error) error {
	return c.db.Do(ctx, func(ctx context.Context, db *pgxpool.Pool) error {
		return do(ctx, session{sagapg.NewOperator(db), db})
	})
}

// by says who does it, and why.
func (c *commands) by(reason *command.Reason) (sagapg.Act, error) {
	why, err := reason.Text()
	return sagapg.Act{Who: command.Who(c.env.Environ), Reason: why}, err
}

func sagaID(text string) (uuid.UUID, error) {
	id, err := uuid.Parse(text)
	if err != nil {
		return id, command.Usagef("saga %q: want a UUID as slipway saga list shows it", text)
	}
	return id, nil
}

// open returns a saga, which must not be over.
func (s session) open(ctx context.Context, id uuid.UUID) (sagapg.Detail, error) {
	d, err := s.Show(ctx, id)
	if err == nil && d.FinishedAt != nil {
		err = fmt.Errorf("saga %s is over, it was %s: nothing was changed", id, d.Status)
	}
	return d, err
}

// title names a saga for people.
func title(s sagapg.Saga) string { return fmt.Sprintf("%s %s", s.Name, s.ID) }
