package cli

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/slipwayhq/slipway/cmd/slipway/internal/command"
	"github.com/slipwayhq/slipway/platform/postgres/migrate"
)

func (a *app) migrateHash(o *migrateOptions) *cobra.Command {
	return &cobra.Command{
		Use:     "hash",
		Short:   "Write atlas.sum after SQL files were added or edited; needs no database",
		Example: "  slipway migrate hash --service order",
		Args:    command.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			targets, err := a.targets(o)
			if err != nil {
				return err
			}
			for _, t := range targets {
				if t.dir == "" {
					a.console.Printf("%s has no migrations of its own", t.service)
					continue
				}
				if err := migrate.Hash(t.dir); err != nil {
					return fmt.Errorf("hash migrations of %s: %w", t.service, err)
				}
				a.console.Printf("wrote %s/atlas.sum", t.dir)
			}
			return nil
		},
	}
}

func (a *app) migratePrint(o *migrateOptions) *cobra.Command {
	var all bool
	cmd := &cobra.Command{
		Use:   "print",
		Short: "Print the SQL that up would execute, for somebody who applies it by hand",
		Example: `  slipway migrate print --service order --database-url "$DATABASE_URL" > order.sql
  slipway migrate print --service order --all   # every file, without a database`,
		Args: command.NoArgs,
	}
	cmd.Flags().BoolVar(&all, "all", false, "print all files, whatever a database has")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		find := a.connected
		if all {
			find = a.targets
		}
		targets, err := find(o)
		if err != nil {
			return err
		}
		if len(targets) > 1 {
			return command.Usagef("SQL is for the database of one service: choose it with --service")
		}
		t := targets[0]
		if all && o.databaseURL != "" {
			return command.Usagef("--all needs no --database-url")
		}
		if err := migrate.Print(cmd.Context(), a.console, t.url, t.components...); err != nil {
			return fmt.Errorf("print migrations of %s: %w", t.service, err)
		}
		return nil
	}
	return cmd
}
