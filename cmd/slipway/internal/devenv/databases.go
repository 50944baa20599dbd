package devenv

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"os"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/slipwayhq/slipway/cmd/slipway/internal/migrations"
	"github.com/slipwayhq/slipway/cmd/slipway/internal/proc"
	"github.com/slipwayhq/slipway/cmd/slipway/internal/project"
	"github.com/slipwayhq/slipway/platform/postgres/migrate"
)

// makeDatabases gives each service its own database and role, and the database its
// tables.
func (e *Env) makeDatabases(ctx context.Context, db database) error {
	conn, err := pgx.Connect(ctx, db.adminURL)
	if err != nil {
		return fmt.Errorf("connect to PostgreSQL (%s): %w", db.source, err)
	}
	defer conn.Close(context.WithoutCancel(ctx))
	for _, s := range e.cfg.Project.Services {
		if !s.Need(project.Postgres) {
			continue
		}
		password, err := e.credential(s.Name)
		if err != nil {
			return err
		}
		t := tenant{role: roleOf(s.Name), password: password}
		if db.server == nil {
			t.owner = "slipway dev in " + e.cfg.Project.Dir
		}
		if err := t.create(ctx, conn); err != nil {
			return fmt.Errorf("make database for %s: %w", s.Name, err)
		}
		e.databases[s.Name] = t.url(db.adminURL)
		if err := e.migrate(ctx, s); err != nil {
			return err
		}
	}
	return nil
}

func (e *Env) migrate(ctx context.Context, s project.Service) error {
	step := e.progress.Start("migrating " + s.Name)
	applied, err := migrate.Up(ctx, e.databases[s.Name], migrations.Of(e.cfg.Project, s)...)
	if err != nil {
		step.Fail()
		if full := explainFull("migrate "+s.Name, e.at.root, err); full != nil {
			return full
		}
		return fmt.Errorf("migrate %s: %w", s.Name, err)
	}
	step.Done("database %s, migrations applied: %d", roleOf(s.Name), len(applied))
	return nil
}

// roleOf names the role and the database of a service.
func roleOf(service string) string { return strings.ReplaceAll(service, "-", "_") }

// tenant is a role with a database of the same name.
type tenant struct {
	role, password string
	// owner marks the role on a server that others use too. Empty on our own.
	owner string
}

// create makes the role and the database, or adopts those of an earlier run.
func (t tenant) create(ctx context.Context, conn *pgx.Conn) error {
	if err := t.createRole(ctx, conn); err != nil {
		return err
	}
	var owner string
	err := conn.QueryRow(ctx, "SELECT pg_get_userbyid(datdba) FROM pg_database WHERE datname = $1", t.role).Scan(&owner)
	switch {
	case err == nil && owner != t.role:
		return fmt.Errorf("database %s belongs to %s, not to %s: rename it, or use another server", t.role, owner, t.role)
	case err == nil:
		return nil
	case !errors.Is(err, pgx.ErrNoRows):
		return fmt.Errorf("look for database %s: %w", t.role, err)
	}
	name := pgx.Identifier{t.role}.Sanitize()
	return execute(ctx, conn,
		"CREATE DATABASE "+name+" OWNER "+name,
		"REVOKE ALL ON DATABASE "+name+" FROM PUBLIC")
}

func (t tenant) createRole(ctx context.Context, conn *pgx.Conn) error {
	var mark *string
	err := conn.QueryRow(ctx, "SELECT shobj_description(oid, 'pg_authid') FROM pg_roles WHERE rolname = $1", t.role).Scan(&mark)
	if err != nil && !errors.Is(err, pgx.ErrNoRows) {
		return fmt.Errorf("look for role %s: %w", t.role, err)
	}
	exists := err == nil
	if exists && t.owner != "" && (mark == nil || *mark != t.owner) {
		return fmt.Errorf("role %s is there already and was not made by this project: use another server, or drop it if nobody needs it", t.role)
	}
	name, verb := pgx.Identifier{t.role}.Sanitize(), "CREATE"
	if exists {
		verb = "ALTER"
	}
	statements := []string{verb + " ROLE " + name + " LOGIN PASSWORD " + literal(t.password)}
	if t.owner != "" {
		// Who is not superuser must be a member to make a database for the role.
		statements = append(statements, "COMMENT ON ROLE "+name+" IS "+literal(t.owner), "GRANT "+name+" TO CURRENT_USER")
	}
	return execute(ctx, conn, statements...)
}

func literal(text string) string { return "'" + strings.ReplaceAll(text, "'", "''") + "'" }

func execute(ctx context.Context, conn *pgx.Conn, statements ...string) error {
	for _, sql := range statements {
		if _, err := conn.Exec(ctx, sql); err != nil {
			what, _, _ := strings.Cut(sql, " PASSWORD ")
			return fmt.Errorf("execute %s: %w", what, err)
		}
	}
	return nil
}

// url is the address of the tenant's database on the server of the other address.
func (t tenant) url(admin string) string {
	u, err := url.Parse(admin)
	if err != nil {
		return "" // was checked when the server was opened
	}
	u.User, u.Path = url.UserPassword(t.role, t.password), "/"+t.role
	return u.String()
}

// credential returns the password of that name and draws it the first time. It is
// for one goroutine.
func (e *Env) credential(name string) (string, error) {
	all, err := e.credentials()
	if err != nil {
		return "", err
	}
	if all[name] == "" {
		all[name] = rand.Text()
		if err := proc.WriteFile(e.at.credentials(), all); err != nil {
			return "", e.at.explain(fmt.Errorf("keep password: %w", err))
		}
	}
	return all[name], nil
}

func (e *Env) credentials() (map[string]string, error) {
	all := map[string]string{}
	text, err := os.ReadFile(e.at.credentials())
	if err == nil {
		err = json.Unmarshal(text, &all)
	}
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("read %s: %w", e.at.credentials(), err)
	}
	return all, nil
}

// hasCredential tells whether the password was ever drawn.
func (e *Env) hasCredential(name string) bool {
	all, err := e.credentials()
	return err == nil && all[name] != ""
}
