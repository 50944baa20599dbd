package sagacmd

import (
	"context"
	"errors"
	"fmt"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"github.com/slipwayhq/slipway/cmd/slipway/internal/command"
	"github.com/slipwayhq/slipway/cmd/slipway/internal/console"
	"github.com/slipwayhq/slipway/platform/saga"
	"github.com/slipwayhq/slipway/platform/saga/sagapg"
)

// decision is a command that decides about sagas that it names.
type decision struct {
	// question is asked before; nil for what needs no consent.
	question func([]sagapg.Detail) string
	reason   bool // is required
	one      bool // at a time
	act      func(ctx context.Context, s session, id uuid.UUID, by sagapg.Act) (sagapg.Change, error)
}

// decides makes the command one that decides.
func (c *commands) decides(cmd *cobra.Command, d decision) *cobra.Command {
	reason, format := command.ReasonFlag(cmd, d.reason), command.OutputFlag(cmd)
	var consent *command.Consent
	if d.question != nil {
		consent = command.ConsentFlag(cmd, c.env)
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		ids, err := d.ids(args)
		if err != nil {
			return err
		}
		by, err := c.by(reason)
		if err != nil {
			return err
		}
		if consent != nil {
			if err := consent.Possible(); err != nil {
				return err
			}
		}
		return c.do(cmd.Context(), func(ctx context.Context, s session) error {
			if err := s.confirm(ctx, ids, d, consent); err != nil {
				return err
			}
			return c.decide(ctx, s, ids, by, d, *format)
		})
	}
	return cmd
}

func (d decision) ids(args []string) ([]uuid.UUID, error) {
	switch {
	case len(args) == 0:
		return nil, command.Usagef("ID is missing: name a saga as slipway saga list shows it")
	case d.one && len(args) > 1:
		return nil, command.Usagef("unknown argument %q: one saga at a time", args[1])
	}
	ids := make([]uuid.UUID, len(args))
	for i, text := range args {
		var err error
		if ids[i], err = sagaID(text); err != nil {
			return nil, err
		}
	}
	return ids, nil
}

// confirm makes sure that none of the sagas is over, and asks.
func (s session) confirm(ctx context.Context, ids []uuid.UUID, d decision, consent *command.Consent) error {
	sagas := make([]sagapg.Detail, len(ids))
	for i, id := range ids {
		var err error
		if sagas[i], err = s.open(ctx, id); err != nil {
			return err
		}
	}
	if d.question == nil {
		return nil
	}
	return consent.Ask(d.question(sagas))
}

// decide acts on one after the other. One that refuses does not hold up the others.
func (c *commands) decide(ctx context.Context, s session, ids []uuid.UUID, by sagapg.Act, d decision, format console.Format) error {
	changes, refused := []sagapg.Change{}, []error{}
	for _, id := range ids {
		change, err := d.act(ctx, s, id, by)
		switch {
		case errors.Is(err, sagapg.ErrInvalid), errors.Is(err, sagapg.ErrNotFound):
			refused = append(refused, err)
		case err != nil:
			return errors.Join(c.showChanges(changes, d.one, format), err)
		default:
			changes = append(changes, change)
		}
	}
	if len(changes) == 0 {
		return errors.Join(refused...)
	}
	return errors.Join(append([]error{c.showChanges(changes, d.one, format)}, refused...)...)
}

func (c *commands) showChanges(changes []sagapg.Change, one bool, format console.Format) error {
	if len(changes) == 0 {
		return nil
	}
	var value any = changes
	if one {
		value = changes[0]
	}
	return c.env.Result(format, value, func() error {
		for _, ch := range changes {
			c.env.Console.Printf("%s %s: %s -> %s", ch.Name, ch.ID, ch.From, ch.To)
			if ch.Interrupted != "" {
				c.env.Console.Notef("! a call of it may have been on its way at %s: its outcome counts as unknown", command.Cell(ch.Interrupted))
			}
			if ch.Status == saga.NeedsOperator.String() {
				c.env.Console.Notef("! it needs a decision still: slipway saga show %s", ch.ID)
			}
		}
		return nil
	})
}

// ask puts a question about one saga or several.
func ask(sagas []sagapg.Detail, one func(sagapg.Detail) string, several string) string {
	if len(sagas) == 1 {
		return one(sagas[0])
	}
	return fmt.Sprintf(several, len(sagas))
}
