// Command dtm runs dtm's server and its client library in one process for the saga
// benchmarks. "dtm" is as it comes: results of steps are written together, some time
// later, by one goroutine. "dtm_durable" writes each of them before the next step
// (UpdateBranchSync).
package main

import (
	"context"
	"database/sql"
	_ "embed"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"strconv"

	"github.com/dtm-labs/dtm/client/dtmcli"
	"github.com/dtm-labs/dtm/dtmsvr/entry"
	_ "github.com/lib/pq"

	"github.com/slipwayhq/slipway/bench/peers/rig"
)

//go:embed tables.sql
var tables string

func main() { rig.Main(open) }

// system starts sagas at the server in this process, over HTTP as dtm's clients do.
type system struct {
	db     *sql.DB
	server string
	steps  string
	name   string
}

// maxConns is for the server of the benchmarks: dtm's default of 500 is more than it takes.
const maxConns = "64"

func open(ctx context.Context, o rig.Options, steps string, _ rig.StepFunc) (rig.System, error) {
	db, err := sql.Open("postgres", o.URL)
	if err != nil {
		return nil, fmt.Errorf("open database: %w", err)
	}
	s := &system{db: db, steps: steps, name: o.Name}
	if o.Install {
		if _, err := db.ExecContext(ctx, tables); err != nil {
			return nil, fmt.Errorf("make tables: %w", err)
		}
	}
	return s, s.serve(o)
}

// serve configures the server by the environment, which is how dtm is configured.
func (s *system) serve(o rig.Options) error {
	u, err := url.Parse(o.URL)
	if err != nil {
		return fmt.Errorf("read database URL: %w", err)
	}
	password, _ := u.User.Password()
	ports, err := freePorts(3)
	if err != nil {
		return err
	}
	for k, v := range map[string]string{
		"STORE_DRIVER": "postgres", "STORE_HOST": u.Hostname(), "STORE_PORT": u.Port(), "STORE_USER": u.User.Username(),
		"STORE_PASSWORD": password, "STORE_DB": u.Path[1:], "STORE_MAX_OPEN_CONNS": maxConns, "STORE_MAX_IDLE_CONNS": maxConns,
		"HTTP_PORT": ports[0], "GRPC_PORT": ports[1], "JSON_RPC_PORT": ports[2], "LOG_LEVEL": "error", "REQUEST_TIMEOUT": "30",
	} {
		if err := os.Setenv(k, v); err != nil {
			return fmt.Errorf("configure dtm: %w", err)
		}
	}
	if o.System == "dtm_durable" {
		if err := os.Setenv("UPDATE_BRANCH_SYNC", "1"); err != nil {
			return fmt.Errorf("configure dtm: %w", err)
		}
	}
	os.Args = os.Args[:1] // they would be taken for dtm's own flags
	version := "v1.19.0"
	if app, _ := entry.Main(&version); app == nil {
		return errors.New("start dtm: it did not come up")
	}
	s.server = "http://127.0.0.1:" + ports[0] + "/api/dtmsvr"
	return dial("127.0.0.1:" + ports[0])
}

// Start implements rig.System.
func (s *system) Start(_ context.Context, id string) error {
	saga := dtmcli.NewSaga(s.server, id)
	for _, step := range [][2]string{{rig.One, rig.UndoOne}, {rig.Two, rig.UndoTwo}, {rig.Three, ""}} {
		saga.Steps = append(saga.Steps, map[string]string{"action": s.at(step[0], id), "compensate": s.at(step[1], id)})
		saga.Payloads = append(saga.Payloads, rig.Body)
	}
	if err := saga.Submit(); err != nil {
		return fmt.Errorf("submit saga: %w", err)
	}
	return nil
}

func (s *system) at(step, id string) string {
	if step == "" {
		return "" // nothing is to be undone
	}
	return rig.At(s.steps, id, step, s.name)
}

// Counts implements rig.System.
func (s *system) Counts(ctx context.Context) (c rig.Counts, err error) {
	err = s.db.QueryRowContext(ctx, `SELECT count(*) FILTER (WHERE status NOT IN ('succeed', 'failed')),
		count(*) FILTER (WHERE status = 'succeed'), count(*) FILTER (WHERE status = 'failed') FROM trans_global`).Scan(&c.Active, &c.Done, &c.Undone)
	if err != nil {
		return c, fmt.Errorf("count sagas: %w", err)
	}
	return c, nil
}

// Close implements rig.System. The server has no end of its own.
func (s *system) Close() { _ = s.db.Close() }

// freePorts returns ports that nobody listened on a moment ago: dtm takes numbers only.
func freePorts(n int) ([]string, error) {
	var all []string
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, fmt.Errorf("find free port: %w", err)
		}
		defer func() { _ = l.Close() }()
		all = append(all, strconv.Itoa(l.Addr().(*net.TCPAddr).Port))
	}
	return all, nil
}

// dial tells whether somebody listens.
func dial(addr string) error {
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		return fmt.Errorf("reach dtm: %w", err)
	}
	return conn.Close()
}
