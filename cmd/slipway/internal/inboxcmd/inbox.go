// Package inboxcmd holds the commands of slipway inbox, one file each: what people do
// with the messages that a service could not apply.
package inboxcmd

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/spf13/cobra"

	"github.com/slipwayhq/slipway/cmd/slipway/internal/command"
	"github.com/slipwayhq/slipway/platform/inbox"
)

// commands is what the commands share.
type commands struct {
	env command.Env
	db  *command.Database
}

// New returns the command inbox.
func New(env command.Env) *cobra.Command {
	root := &cobra.Command{
		Use:   "inbox",
		Short: "Look after the messages that a service could not apply",
		Long: `Look after the messages that a service could not apply: its dead letters, and the events that wait for an
earlier one of their key that has not come.

Which database: --database-url, else that of --service in the running slipway dev, else DATABASE_URL, else
that of the running slipway dev. What is to be applied the consumer applies within about a second, or when it
runs again. Every change is journaled with who (SLIPWAY_OPERATOR, else user@host) and why (--reason).`,
		Example: `  slipway inbox dead list
  slipway inbox dead redrive 7 --reason "the handler knows the new currency"
  slipway inbox waiting
  slipway inbox journal`,
	}
	c := &commands{env: env, db: command.DatabaseFlags(root, env)}
	dead := command.Group(&cobra.Command{
		Use:   "dead",
		Short: "List, show, redrive and discard dead letters",
		Example: `  slipway inbox dead list --consumer shipping
  slipway inbox dead show 7`,
	}, c.list(), c.show(), c.redrive(), c.discard())
	return command.Group(root, dead, c.waiting(), c.skip(), c.journal())
}

// session is an inbox to operate on.
type session struct{ *inbox.Operator }

// do connects and calls do.
func (c *commands) do(ctx context.Context, do func(ctx context.Context, s session) error) error {
	return c.db.Do(ctx, func(ctx context.Context, db *pgxpool.Pool) error {
		return do(ctx, session{inbox.NewOperator(db)})
	})
}

// by says who does it, and why.
func (c *commands) by(reason *command.Reason) (inbox.Act, error) {
	why, err := reason.Text()
	return inbox.Act{Who: command.Who(c.env.Environ), Reason: why}, err
}

// consumerFlag adds the flag --consumer.
func consumerFlag(cmd *cobra.Command, usage string) *string {
	return cmd.Flags().String("consumer", "", usage)
}

// known makes sure that a consumer exists. Empty stands for all.
func (s session) known(ctx context.Context, consumer string) error {
	if consumer == "" {
		return nil
	}
	consumers, err := s.Consumers(ctx)
	switch {
	case err != nil:
		return err
	case slices.Contains(consumers, consumer):
		return nil
	case len(consumers) == 0:
		return fmt.Errorf("there is no consumer %q, nor any other: none has run on this database yet", consumer)
	}
	return fmt.Errorf("there is no consumer %q: choose from %s", consumer, strings.Join(consumers, ", "))
}

// deadIDs reads the numbers of dead letters.
func deadIDs(args []string) ([]int64, error) {
	ids := make([]int64, len(args))
	for i, text := range args {
		id, err := strconv.ParseInt(text, 10, 64)
		if err != nil || id < 1 {
			return nil, command.Usagef("dead letter %q: want a number as slipway inbox dead list shows it", text)
		}
		ids[i] = id
	}
	return ids, nil
}

// open returns the dead letters, none of which may be resolved.
func (s session) open(ctx context.Context, ids []int64) ([]inbox.DeadLetter, error) {
	letters := make([]inbox.DeadLetter, len(ids))
	for i, id := range ids {
		var err error
		if letters[i], err = s.Show(ctx, id); err != nil {
			return nil, err
		}
		if letters[i].ResolvedAt != nil {
			return nil, fmt.Errorf("dead letter %d is %s already: nothing was changed", id, letters[i].Resolution)
		}
	}
	return letters, nil
}

// changed is the result of a change.
type changed struct {
	IDs []int64 `json:"dead_letters"`
}

// names lists dead letters for people.
func names(ids []int64) string {
	texts := make([]string, len(ids))
	for i, id := range ids {
		texts[i] = strconv.FormatInt(id, 10)
	}
	if len(ids) == 1 {
		return "dead letter " + texts[0]
	}
	return "dead letters " + strings.Join(texts, ", ")
}
