package command

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/spf13/cobra"

	"github.com/slipwayhq/slipway/cmd/slipway/internal/devenv"
	"github.com/slipwayhq/slipway/cmd/slipway/internal/project"
	"github.com/slipwayhq/slipway/platform/postgres"
)

// Database is the database that a command operates on, as its flags choose it.
type Database struct {
	env          Env
	service, url string
}

// DatabaseFlags adds the flags --service and --database-url to a command and those
// below it.
func DatabaseFlags(cmd *cobra.Command, env Env) *Database {
	d := &Database{env: env}
	f := cmd.PersistentFlags()
	f.StringVar(&d.service, "service", "", "service of the running slipway dev whose database it is")
	f.StringVar(&d.url, "database-url", "", "address of the database (default $DATABASE_URL, then that of slipway dev)")
	return d
}

// find returns the address and where it comes from: --database-url, the service of
// the running slipway dev if --service names one, DATABASE_URL, or the only service
// with a database of the running slipway dev.
func (d *Database) find() (url, from string, err error) {
	if d.url != "" {
		return d.url, "--database-url", nil
	}
	given := devenv.Lookup(d.env.Environ, "DATABASE_URL")
	if given != "" && d.service == "" {
		return given, "DATABASE_URL", nil
	}
	url, from, err = d.ofDev()
	if given != "" && (errors.Is(err, project.ErrNotFound) || errors.Is(err, devenv.ErrNotRunning)) {
		return given, "DATABASE_URL", nil
	}
	if errors.Is(err, project.ErrNotFound) {
		return "", "", Usagef("which database? give --database-url or set DATABASE_URL")
	}
	return url, from, err
}

// ofDev looks in the running slipway dev.
func (d *Database) ofDev() (url, from string, err error) {
	p, err := project.Open(".")
	if err != nil {
		return "", "", err
	}
	service, err := d.choose(p)
	if err != nil {
		return "", "", err
	}
	state, err := devenv.Find(p)
	if err != nil && !errors.Is(err, devenv.ErrNotRunning) {
		return "", "", err
	}
	url, ok := state.DatabaseURL(service)
	if !ok {
		return "", "", fmt.Errorf("which database of %s? give --database-url, set DATABASE_URL, or start %s dev: %w",
			service, d.env.Program, devenv.ErrNotRunning)
	}
	return url, "slipway dev, service " + service, nil
}

func (d *Database) choose(p *project.Project) (string, error) {
	var names []string
	for _, s := range p.Services {
		if s.Need(project.Postgres) {
			names = append(names, s.Name)
		}
		if s.Need(project.Postgres) && s.Name == d.service {
			return s.Name, nil
		}
	}
	switch {
	case len(names) == 0:
		return "", fmt.Errorf("no service of %s needs postgres", project.FileName)
	case d.service != "":
		return "", Usagef("there is no service %s with a database in %s: choose from %s", d.service, project.FileName, strings.Join(names, ", "))
	case len(names) > 1:
		return "", Usagef("which database? choose a service with --service: %s", strings.Join(names, ", "))
	}
	return names[0], nil
}

// Do connects and calls do with a context that ends when the process is asked to
// stop.
func (d *Database) Do(ctx context.Context, do func(ctx context.Context, db *pgxpool.Pool) error) error {
	url, from, err := d.find()
	if err != nil {
		return err
	}
	ctx, release := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer release()
	db, err := postgres.Open(ctx, postgres.Config{
		URL: url, MaxConns: 2, AppName: "slipway-cli", StatementTimeout: time.Minute, IdleInTxTimeout: time.Minute,
	}, nil, nil, nil)
	if err != nil {
		return fmt.Errorf("%w (from %s)", err, from)
	}
	defer db.Close()
	if err := db.Ping(ctx); err != nil {
		err = fmt.Errorf("connect to the database of %s: %w", from, err)
		if postgres.IsUnavailable(err) {
			err = fmt.Errorf("%w\nDoes it run, and is the address right? With another one: --database-url", err)
		}
		return err
	}
	return explain(do(ctx, db))
}

// explain adds what to do about errors of the database.
func explain(err error) error {
	switch postgres.SQLState(err) {
	case "42501":
		return fmt.Errorf("%w\nUse an account that may write to the tables of the schema slipway, as that of the service", err)
	case "55P03":
		return fmt.Errorf("%w\nSomebody holds a lock: slipway outbox blockers shows open transactions; then try again", err)
	case "57014":
		return fmt.Errorf("%w\nFor more time add ?statement_timeout=0 to the database URL", err)
	}
	return err
}
