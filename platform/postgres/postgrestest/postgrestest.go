package postgrestest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/slipwayhq/slipway/platform/postgres/migrate"
	"github.com/slipwayhq/slipway/platform/postgres/pgserver"
)

// shared is the server of this test binary.
var shared struct {
	sync.Mutex
	started   bool
	err       error
	server    server
	templates map[string]*template
	databases int
}

// template is a migrated database that others are copied from.
type template struct {
	once sync.Once
	name string
	err  error
}

// New returns the URL of an empty database to which the components' migrations
// have been applied. It is dropped when the test ends. New may be called from
// parallel tests.
func New(tb testing.TB, comps ...migrate.Component) string {
	tb.Helper()
	srv, err := sharedServer()
	if err != nil {
		unavailable(tb, err)
	}
	ctx, cancel := context.WithTimeout(tb.Context(), time.Minute)
	defer cancel()
	source, err := migrated(ctx, srv, comps)
	if err != nil {
		tb.Fatalf("make database template: %v", err)
	}
	name := databaseName(tb.Name())
	if err := admin(ctx, srv, "CREATE DATABASE "+name+" TEMPLATE "+source); err != nil {
		tb.Fatalf("create database: %v", err)
	}
	tb.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		_ = admin(ctx, srv, "DROP DATABASE IF EXISTS "+name+" WITH (FORCE)")
	})
	return srv.url(name)
}

// unavailable ends a test that has no server.
func unavailable(tb testing.TB, err error) {
	tb.Helper()
	if os.Getenv("CI") != "" { //nolint:forbidigo // a test helper has no application to configure it
		tb.Fatalf("no PostgreSQL for this test: %v", err)
	}
	tb.Skipf("no PostgreSQL for this test: %v", err)
}

// sharedServer starts the server once. What the first caller got, all get.
func sharedServer() (server, error) {
	shared.Lock()
	defer shared.Unlock()
	if !shared.started {
		shared.started = true
		shared.templates = map[string]*template{}
		shared.server, shared.err = startShared()
	}
	return shared.server, shared.err
}

// migrated returns the name of a database with the components' migrations.
func migrated(ctx context.Context, srv server, comps []migrate.Component) (string, error) {
	if len(comps) == 0 {
		return "template1", nil
	}
	key, err := fingerprint(comps)
	if err != nil {
		return "", err
	}
	shared.Lock()
	tmpl, ok := shared.templates[key]
	if !ok {
		tmpl = &template{name: "template_" + key}
		shared.templates[key] = tmpl
	}
	shared.Unlock()
	tmpl.once.Do(func() {
		if tmpl.err = admin(ctx, srv, "CREATE DATABASE "+tmpl.name); tmpl.err == nil {
			_, tmpl.err = migrate.Up(ctx, srv.url(tmpl.name), comps...)
		}
	})
	return tmpl.name, tmpl.err
}

// admin executes a statement on the server's own database.
func admin(ctx context.Context, srv server, sql string) error {
	conn, err := pgx.Connect(ctx, srv.url("postgres"))
	if err != nil {
		return fmt.Errorf("connect to test server: %w", err)
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	_, err = conn.Exec(ctx, sql)
	return err
}

// StartServer starts a server that belongs to the test, from local binaries. The
// test may stop, kill, pause and restart it.
func StartServer(tb testing.TB) *pgserver.Server {
	tb.Helper()
	s, err := pgserver.Start(tb.Context(), privateConfig(tb))
	return started(tb, s, err)
}

// StartPair starts a primary and a standby that follows it by asynchronous
// streaming replication and can be promoted.
func StartPair(tb testing.TB) (primary, standby *pgserver.Server) {
	tb.Helper()
	primary = StartServer(tb)
	standby, err := pgserver.StartStandby(tb.Context(), primary, privateConfig(tb))
	return primary, started(tb, standby, err)
}

func started(tb testing.TB, s *pgserver.Server, err error) *pgserver.Server {
	tb.Helper()
	if errors.Is(err, pgserver.ErrNoBinaries) {
		unavailable(tb, err)
	}
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		_ = s.Kill()
	})
	return s
}

func privateConfig(tb testing.TB) pgserver.Config {
	tb.Helper()
	dir, err := newDir()
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = os.RemoveAll(dir) })
	return pgserver.Config{Dir: dir, Fast: true, Settings: map[string]string{
		"wal_retrieve_retry_interval": "100ms", // a standby that has lost its primary looks again soon
	}}
}

// Tests is a *testing.M.
type Tests interface{ Run() int }

// Closing stops the shared server after the tests and removes its folder, for a
// package that looks for leaks:
//
//	func TestMain(m *testing.M) { goleak.VerifyTestMain(postgrestest.Closing(m)) }
func Closing(tests Tests) Tests { return closing{tests} }

type closing struct{ tests Tests }

// Run runs the tests and returns their exit code.
func (c closing) Run() int {
	code := c.tests.Run()
	shared.Lock()
	defer shared.Unlock()
	if shared.server != nil {
		shared.server.close()
	}
	shared.server, shared.err = nil, errors.New("the tests are over")
	return code
}
