package command

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/slipwayhq/slipway/cmd/slipway/internal/console"
)

// Journal is what operators did with one part of the system.
type Journal[E any] struct {
	Group string // of the command, as outbox of slipway outbox journal
	// Read returns the latest entries, the latest first.
	Read func(ctx context.Context, limit int) ([]E, error)
	// Header and Row make the table.
	Header []string
	Row    func(E) []string
}

// JournalCommand returns the command journal of a group.
func JournalCommand[E any](env Env, j Journal[E]) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "journal",
		Short:   "Show what operators did, the latest first",
		Example: fmt.Sprintf("  slipway %[1]s journal\n  slipway %[1]s journal --limit 1000 --output json", j.Group),
		Args:    NoArgs,
	}
	limit, format := LimitFlag(cmd), OutputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		entries, err := j.Read(cmd.Context(), *limit)
		if err != nil {
			return err
		}
		return env.Result(*format, entries, func() error { return showJournal(env, j, entries) })
	}
	return cmd
}

func showJournal[E any](env Env, j Journal[E], entries []E) error {
	if len(entries) == 0 {
		return env.Say("nobody has done anything yet")()
	}
	rows := make([][]string, len(entries))
	for i, e := range entries {
		rows[i] = j.Row(e)
	}
	return console.WriteTable(env.Console, j.Header, rows)
}

// TableOf writes what was listed as a table, and says so when there may be more than the
// limit.
func (e Env) TableOf(header []string, rows [][]string, limit int) error {
	if err := console.WriteTable(e.Console, header, rows); err != nil {
		return err
	}
	if len(rows) == limit {
		e.Console.Notef("\nthere may be more: --limit")
	}
	return nil
}
