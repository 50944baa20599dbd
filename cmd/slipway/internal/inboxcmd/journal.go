package inboxcmd

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/spf13/cobra"

	"github.com/slipwayhq/slipway/cmd/slipway/internal/command"
	"github.com/slipwayhq/slipway/cmd/slipway/internal/console"
)

// journalEntry is something that an operator did.
type journalEntry struct {
	At     time.Time `json:"at"`
	Who    string    `json:"who"`
	Action string    `json:"action"`
	Reason string    `json:"reason"`
	Detail string    `json:"detail"`
}

func (c *commands) journal() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "journal",
		Short: "Show what operators did, the latest first",
		Example: `  slipway inbox journal
  slipway inbox journal --limit 1000 --output json`,
		Args: command.NoArgs,
	}
	limit, format := command.LimitFlag(cmd), command.OutputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		return c.do(cmd.Context(), func(ctx context.Context, s session) error {
			entries, err := s.journal(ctx, *limit)
			if err != nil {
				return err
			}
			return c.env.Result(*format, entries, func() error { return c.showJournal(entries) })
		})
	}
	return cmd
}

func (s session) journal(ctx context.Context, limit int) ([]journalEntry, error) {
	rows, err := s.pool.Query(ctx, "SELECT at, who, action, reason, detail FROM slipway.inbox_journal ORDER BY entry DESC LIMIT $1", limit)
	if err != nil {
		return nil, fmt.Errorf("read inbox journal: %w", err)
	}
	entries, err := pgx.CollectRows(rows, pgx.RowToStructByPos[journalEntry])
	if err != nil {
		return nil, fmt.Errorf("read inbox journal: %w", err)
	}
	return entries, nil
}

func (c *commands) showJournal(entries []journalEntry) error {
	if len(entries) == 0 {
		return c.env.Say("nobody has done anything yet")()
	}
	rows := make([][]string, len(entries))
	for i, e := range entries {
		rows[i] = []string{command.Time(&e.At), command.Cell(e.Who), e.Action, command.Cell(e.Reason), command.Cell(e.Detail)}
	}
	return console.WriteTable(c.env.Console, []string{"AT", "WHO", "ACTION", "REASON", "DETAIL"}, rows)
}
