package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/slipwayhq/slipway/cmd/slipway/internal/command"
	"github.com/slipwayhq/slipway/cmd/slipway/internal/console"
	"github.com/slipwayhq/slipway/cmd/slipway/internal/devenv"
	"github.com/slipwayhq/slipway/cmd/slipway/internal/migrations"
	"github.com/slipwayhq/slipway/cmd/slipway/internal/project"
	"github.com/slipwayhq/slipway/platform/postgres/migrate"
)

// migrateOptions are the flags that choose files and databases.
type migrateOptions struct {
	service, dir, databaseURL string
}

func (a *app) migrate() *cobra.Command {
	o := &migrateOptions{}
	cmd := command.Group(&cobra.Command{
		Use:   "migrate",
		Short: "Apply and inspect the database migrations of services",
		Long: `Apply and inspect the database migrations of services: the tables of the platform, then the SQL files of
the service.

Which files: those of the services in slipway.yaml, all or the one of --service. With --dir those of that
folder, recorded under the name of --service; this needs no slipway.yaml.
Which database: --database-url, else DATABASE_URL, else that of the running slipway dev.`,
		Example: `  slipway migrate status
  slipway migrate up --service order --database-url "$DATABASE_URL"
  slipway migrate up --service order --dir /migrations   # in a job, with DATABASE_URL set
  slipway migrate hash --service order                   # after a file was added`,
	}, a.migrateUp(o), a.migrateStatus(o), a.migrateHash(o), a.migratePrint(o))
	f := cmd.PersistentFlags()
	f.StringVar(&o.service, "service", "", "only this service (default all)")
	f.StringVar(&o.dir, "dir", "", "folder of the service's SQL files, instead of that in slipway.yaml")
	f.StringVar(&o.databaseURL, "database-url", "", "address of the service's database (default $DATABASE_URL, then that of slipway dev)")
	return cmd
}

// target is a service with its files and its database.
type target struct {
	service    string
	dir        string // of its own files, "" for none
	components []migrate.Component
	url        string
}

// targets finds the files.
func (a *app) targets(o *migrateOptions) ([]target, error) {
	if o.dir != "" {
		if o.service == "" {
			return nil, command.Usagef("--dir needs --service: the name under which the files are recorded")
		}
		return []target{{service: o.service, dir: o.dir, components: migrations.Folder(o.service, o.dir)}}, nil
	}
	p, err := project.Open(".")
	if errors.Is(err, project.ErrNotFound) {
		return nil, fmt.Errorf("%w, or give --dir and --service", err)
	}
	if err != nil {
		return nil, err
	}
	var found []target
	for _, s := range p.Services {
		if o.service == "" && s.Need(project.Postgres) || o.service == s.Name {
			found = append(found, target{service: s.Name, dir: migrations.Dir(p, s), components: migrations.Of(p, s)})
		}
	}
	switch {
	case len(found) > 0:
		return found, nil
	case o.service != "":
		return nil, command.Usagef("there is no service %s in %s: choose from %s", o.service, project.FileName, strings.Join(p.Names(), ", "))
	default:
		return nil, fmt.Errorf("no service of %s needs postgres", project.FileName)
	}
}

// connected finds the files and the database of each.
func (a *app) connected(o *migrateOptions) ([]target, error) {
	targets, err := a.targets(o)
	if err != nil {
		return nil, err
	}
	url := o.databaseURL
	if url == "" {
		url = devenv.Lookup(a.environ, "DATABASE_URL")
	}
	if url != "" {
		if len(targets) > 1 {
			return nil, command.Usagef("a database URL is that of one service: choose it with --service")
		}
		targets[0].url = url
		return targets, nil
	}
	p, err := project.Open(".")
	if err != nil {
		return nil, command.Usagef("which database? give --database-url or set DATABASE_URL")
	}
	state, err := devenv.Find(p)
	if err != nil && !errors.Is(err, devenv.ErrNotRunning) {
		return nil, err
	}
	for i := range targets {
		found, ok := state.DatabaseURL(targets[i].service)
		if !ok {
			return nil, fmt.Errorf("which database of %s? give --database-url, set DATABASE_URL, or start %s dev", targets[i].service, a.program)
		}
		targets[i].url = found
	}
	return targets, nil
}

// applied is a row of slipway migrate up.
type applied struct {
	Service     string `json:"service"`
	Component   string `json:"component"`
	Version     string `json:"version"`
	Description string `json:"description"`
	Statements  int    `json:"statements"`
	Millis      int64  `json:"took_ms"`
}

func (a *app) migrateUp(o *migrateOptions) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "up",
		Short:   "Apply the migrations that a database does not have",
		Example: `  slipway migrate up --service order --database-url "$DATABASE_URL"`,
		Args:    command.NoArgs,
	}
	format := command.OutputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		targets, err := a.connected(o)
		if err != nil {
			return err
		}
		ctx, release := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM)
		defer release()
		rows := []applied{}
		for _, t := range targets {
			done, err := a.up(ctx, t)
			rows = append(rows, done...)
			if err != nil {
				return errors.Join(a.showApplied(*format, rows), err)
			}
		}
		return a.showApplied(*format, rows)
	}
	return cmd
}

func (a *app) up(ctx context.Context, t target) ([]applied, error) {
	step := a.console.Progress().Start("migrating " + t.service)
	cfg := migrate.Config{Notice: func(message string) { a.console.Notef("  ! %s: %s", t.service, message) }}
	done, err := cfg.Up(ctx, t.url, t.components...)
	var rows []applied
	for _, m := range done {
		rows = append(rows, applied{t.service, m.Component, m.Version, m.Description, m.Statements, m.Took.Milliseconds()})
	}
	if err != nil {
		step.Fail()
		return rows, fmt.Errorf("migrate %s: %w", t.service, err)
	}
	step.Done("%s: applied %d migrations", t.service, len(done))
	return rows, nil
}

func (a *app) showApplied(format console.Format, rows []applied) error {
	if format == console.JSON {
		return console.WriteJSON(a.console, rows)
	}
	if len(rows) == 0 {
		a.console.Printf("nothing to apply")
		return nil
	}
	cells := make([][]string, len(rows))
	for i, r := range rows {
		cells[i] = []string{r.Service, r.Component, r.Version, r.Description, fmt.Sprint(r.Statements), fmt.Sprintf("%d ms", r.Millis)}
	}
	return console.WriteTable(a.console, []string{"SERVICE", "COMPONENT", "VERSION", "DESCRIPTION", "STATEMENTS", "TOOK"}, cells)
}

// state is a row of slipway migrate status.
type state struct {
	Service     string            `json:"service"`
	Component   string            `json:"component"`
	Version     string            `json:"version"`
	Description string            `json:"description"`
	Condition   migrate.Condition `json:"condition"`
	AppliedAt   *time.Time        `json:"applied_at,omitempty"`
	AppliedBy   string            `json:"applied_by,omitempty"`
	Error       string            `json:"error,omitempty"`
}

func (a *app) migrateStatus(o *migrateOptions) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show every migration that the files or a database know",
		Example: `  slipway migrate status                     # of all services, with slipway dev running
  slipway migrate status --service order --output json`,
		Args: command.NoArgs,
	}
	format := command.OutputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		targets, err := a.connected(o)
		if err != nil {
			return err
		}
		rows := []state{}
		for _, t := range targets {
			states, err := migrate.Status(cmd.Context(), t.url, t.components...)
			if err != nil {
				return fmt.Errorf("read status of %s: %w", t.service, err)
			}
			for _, s := range states {
				rows = append(rows, stateOf(t.service, s))
			}
		}
		if *format == console.JSON {
			return console.WriteJSON(a.console, rows)
		}
		return a.showStates(rows)
	}
	return cmd
}

func stateOf(service string, s migrate.State) state {
	row := state{
		Service: service, Component: s.Component, Version: s.Version, Description: s.Description,
		Condition: s.Condition, AppliedBy: s.AppliedBy, Error: s.Error,
	}
	if !s.AppliedAt.IsZero() {
		at := s.AppliedAt.UTC()
		row.AppliedAt = &at
	}
	return row
}

func (a *app) showStates(rows []state) error {
	cells := make([][]string, len(rows))
	for i, r := range rows {
		at := ""
		if r.AppliedAt != nil {
			at = r.AppliedAt.Local().Format(time.DateTime)
		}
		cells[i] = []string{r.Service, r.Component, r.Version, r.Description, string(r.Condition), at, r.Error}
	}
	return console.WriteTable(a.console, []string{"SERVICE", "COMPONENT", "VERSION", "DESCRIPTION", "CONDITION", "APPLIED AT", "ERROR"}, cells)
}
