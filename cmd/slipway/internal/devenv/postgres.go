package devenv

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"github.com/slipwayhq/slipway/platform/postgres/pgserver"
)

// postgresRecord names the record of the private server, whose process pgserver
// runs.
const postgresRecord = "postgres"

// database is a PostgreSQL that was started or found.
type database struct {
	server   server // nil when it is not ours to stop
	adminURL string
	source   string
	data     string
}

// ErrNoPostgres says that PostgreSQL cannot be had in any way.
var ErrNoPostgres = errors.New("no PostgreSQL")

// startPostgres gives every service that needs one a database with its tables.
func (e *Env) startPostgres(ctx context.Context) error {
	step := e.progress.Start("starting PostgreSQL")
	db, err := e.openPostgres(ctx)
	if err != nil {
		step.Fail()
		return err
	}
	e.postgres, e.servers.database = db.server, db.adminURL
	if db.server != nil {
		e.watch(db.server, func() error { return ended("PostgreSQL", db.server.Err()) })
	}
	step.Done("PostgreSQL at %s, %s", hostOf(db.adminURL), db.source)
	if err := e.addServer(Server{Name: "PostgreSQL", Addr: hostOf(db.adminURL), Source: db.source, Data: db.data}); err != nil {
		return err
	}
	return e.makeDatabases(ctx, db)
}

// openPostgres takes the first way that is open.
func (e *Env) openPostgres(ctx context.Context) (database, error) {
	way, err := choosePostgres(ctx, e.at, e.cfg.Environ)
	switch {
	case err != nil:
		return database{}, err
	case way.url != "":
		return database{adminURL: way.url, source: way.source}, nil
	case way.programs != nil:
		return e.runPostgres(ctx, way.place, *way.programs)
	case way.docker:
		return e.runContainer(ctx)
	}
	downloaded, err := e.download(ctx)
	if err == nil {
		return e.runPostgres(ctx, way.place, downloaded)
	}
	if full := explainFull("download PostgreSQL", filepath.Dir(downloadDir()), err); full != nil {
		return database{}, full
	}
	return database{}, way.noneOpen(err)
}

// way is how PostgreSQL is come by: by a URL, by programs, in Docker or, when it is
// none of these, by a download.
type way struct {
	url      string
	programs *pgserver.Binaries
	docker   bool

	source string // for people
	place  string // of the private server
	// why it is not the ways before the download
	errPrograms, errDocker error
}

// choosePostgres prefers DATABASE_URL, then installed programs, Docker, a download.
// Data of an earlier run decides for the programs that made it.
func choosePostgres(ctx context.Context, at layout, environ []string) (way, error) {
	if given := Lookup(environ, "DATABASE_URL"); given != "" {
		return way{url: given, source: "from DATABASE_URL"}, checkURL(given)
	}
	place, err := pgserver.Place(at.postgres())
	if err != nil {
		return way{}, fmt.Errorf("find a place for PostgreSQL: %w", err)
	}
	w := way{place: place}
	made := dataMajor(place)
	found, errFound := pgserver.FindBinaries(ctx, "", made)
	if errFound != nil {
		w.errPrograms = errFound
		found, errFound = pgserver.FindBinaries(ctx, filepath.Join(downloadDir(), "bin"), made)
	}
	if errFound == nil || made > 0 { // what is to be done about other data, the server says
		w.programs, w.source = &found, fmt.Sprintf("PostgreSQL %d of %s", found.Major, found.Dir)
		return w, nil
	}
	w.errDocker = dockerAnswers(ctx, environ)
	w.docker = w.errDocker == nil
	w.source = image + " in Docker"
	return w, nil
}

// noneOpen lists the four ways and why none is open.
func (w way) noneOpen(download error) error {
	return fmt.Errorf(`%w: do one of these, then start again
  1. set DATABASE_URL to a server whose account may create databases and roles
  2. install PostgreSQL (%w)
  3. start Docker (%w)
  4. let it be downloaded (%w)`, ErrNoPostgres, w.errPrograms, w.errDocker, download)
}

// runPostgres runs the private server.
func (e *Env) runPostgres(ctx context.Context, place string, programs pgserver.Binaries) (database, error) {
	if err := requireFree(e.at.root, place); err != nil {
		return database{}, err
	}
	// A place outside the project is entered by an account that is not root.
	if err := os.MkdirAll(filepath.Dir(place), 0o755); err != nil {
		return database{}, fmt.Errorf("make folder: %w", err)
	}
	s, err := pgserver.Start(ctx, pgserver.Config{Dir: place, Port: PostgresPort + e.cfg.PortOffset, BinDir: programs.Dir})
	if err != nil {
		return database{}, err
	}
	if pid := postmaster(place); pid > 0 {
		if _, err := e.at.records().Add(postgresRecord, pid, syscall.SIGINT); err != nil {
			return database{}, errors.Join(err, s.Stop(context.WithoutCancel(ctx)))
		}
	}
	programs = s.Binaries()
	return database{
		server: s, adminURL: s.URL("postgres"), data: place,
		source: fmt.Sprintf("PostgreSQL %d of %s", programs.Major, programs.Dir),
	}, nil
}

// dataMajor returns the version that made the data in place, or 0.
func dataMajor(place string) int {
	text, _ := os.ReadFile(filepath.Join(place, "data", "PG_VERSION"))
	major, _ := strconv.Atoi(strings.TrimSpace(string(text)))
	return major
}

func postmaster(place string) int {
	text, _ := os.ReadFile(filepath.Join(place, "data", "postmaster.pid"))
	first, _, _ := strings.Cut(string(text), "\n")
	pid, _ := strconv.Atoi(strings.TrimSpace(first))
	return pid
}

// checkURL refuses forms of DATABASE_URL that the services' own addresses cannot be
// made of.
func checkURL(given string) error {
	u, err := url.Parse(given)
	if err != nil || u.Host == "" || u.Scheme != "postgres" && u.Scheme != "postgresql" {
		return errors.New("read DATABASE_URL: want postgres://user:password@host:port/database, with an account that may create databases and roles")
	}
	return nil
}

func hostOf(databaseURL string) string {
	u, err := url.Parse(databaseURL)
	if err != nil {
		return ""
	}
	return u.Host
}
