package drill

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
	natsgo "github.com/nats-io/nats.go"

	"github.com/slipwayhq/slipway/cmd/slipway/internal/observe"
	"github.com/slipwayhq/slipway/platform/postgres"
)

// fault puts something wrong into the system. heal takes it away, also after the runbook
// has done so already; it is nil for a fault that ends by itself.
type fault func(ctx context.Context, s *System) (heal func(ctx context.Context) error, err error)

// locked holds all tables of a service's own, as a migration would that never ends. What the
// callers have to put in order afterwards is in their databases.
func locked(service string, callers ...string) fault {
	return func(ctx context.Context, s *System) (func(context.Context) error, error) {
		conn, err := s.connect(ctx, service)
		if err != nil {
			return nil, err
		}
		for _, c := range callers {
			if _, err := s.service(c); err != nil {
				return closing(conn), err
			}
		}
		if err := lockTables(ctx, conn); err != nil {
			return closing(conn), fmt.Errorf("%s: %w", service, err)
		}
		return closing(conn), nil
	}
}

// lockTables takes the lock of every table at once. The service is at work meanwhile: one
// that loses a deadlock against it, or whose table was dropped, tries again.
func lockTables(ctx context.Context, conn *pgx.Conn) error {
	const attempts = 30
	for attempt := 1; ; attempt++ {
		err := tryLockTables(ctx, conn)
		if err == nil {
			return nil
		}
		if attempt == attempts || !postgres.IsRetryable(err) && postgres.SQLState(err) != undefinedTable {
			return fmt.Errorf("lock tables: %w", err)
		}
		if _, err := conn.Exec(ctx, "ROLLBACK"); err != nil {
			return fmt.Errorf("lock tables: %w", err)
		}
	}
}

const undefinedTable = "42P01"

func tryLockTables(ctx context.Context, conn *pgx.Conn) error {
	rows, err := conn.Query(ctx, "SELECT format('%I.%I', schemaname, tablename) FROM pg_tables WHERE schemaname = 'public'")
	if err != nil {
		return err
	}
	tables, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return err
	}
	if len(tables) == 0 {
		return errors.New("the database has none")
	}
	_, err = conn.Exec(ctx, "BEGIN; LOCK TABLE "+strings.Join(tables, ", ")+" IN ACCESS EXCLUSIVE MODE")
	return err
}

func closing(conn *pgx.Conn) func(context.Context) error {
	return func(ctx context.Context) error {
		_ = conn.Close(ctx) // its session may have been ended
		return nil
	}
}

// frozen stops a service in the middle of what it does, as a node that hangs would.
func frozen(service string) fault {
	return func(_ context.Context, s *System) (func(context.Context) error, error) {
		svc, err := s.service(service)
		if err != nil {
			return nil, err
		}
		return freeze(svc.PID)
	}
}

// frozenComponent does the same to a component of the observability stack.
func frozenComponent(c observe.Component) fault {
	return func(_ context.Context, s *System) (func(context.Context) error, error) {
		for _, r := range s.env.Stack().Running() {
			if r.Component == c {
				s.about = []subject{{pid: r.PID}}
				return freeze(r.PID)
			}
		}
		return nil, fmt.Errorf("%s does not run", c)
	}
}

// frozenDatabase does the same to PostgreSQL, with all its processes.
func frozenDatabase() fault {
	return func(ctx context.Context, s *System) (func(context.Context) error, error) {
		server := s.server("PostgreSQL")
		if server.Data == "" {
			return nil, errors.New("PostgreSQL is not run by slipway: leave DATABASE_URL out")
		}
		pid, err := postmaster(server.Data)
		if err != nil {
			return nil, err
		}
		s.about = []subject{{pid: pid}}
		main, err := freeze(pid) // it starts no other processes from now on
		heal := []func(context.Context) error{main}
		all := func(ctx context.Context) error {
			var errs []error
			for _, h := range heal {
				errs = append(errs, h(ctx))
			}
			return errors.Join(errs...)
		}
		if err != nil {
			return nil, err
		}
		children, err := exec.CommandContext(ctx, "pgrep", "-P", strconv.Itoa(pid)).Output()
		if err != nil {
			return all, fmt.Errorf("list the processes of PostgreSQL (pgrep): %w", err)
		}
		for _, child := range strings.Fields(string(children)) {
			id, err := strconv.Atoi(child)
			if err != nil {
				return all, fmt.Errorf("list the processes of PostgreSQL (pgrep): %w", err)
			}
			if h, err := freeze(id); err == nil { // it may have ended
				heal = append(heal, h)
			}
		}
		return all, nil
	}
}

// postmaster returns the main process of the server with these data.
func postmaster(data string) (int, error) {
	text, err := os.ReadFile(filepath.Join(data, "data", "postmaster.pid"))
	if err != nil {
		return 0, fmt.Errorf("find the process of PostgreSQL: %w", err)
	}
	first, _, _ := strings.Cut(string(text), "\n")
	pid, err := strconv.Atoi(first)
	if err != nil || pid <= 1 {
		return 0, fmt.Errorf("find the process of PostgreSQL: %q in postmaster.pid is none", first)
	}
	return pid, nil
}

func freeze(pid int) (thaw func(context.Context) error, err error) {
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		return nil, fmt.Errorf("stop process %d: %w", pid, err)
	}
	return func(context.Context) error {
		if err := syscall.Kill(pid, syscall.SIGCONT); err != nil && !errors.Is(err, syscall.ESRCH) {
			return fmt.Errorf("let process %d go on: %w", pid, err)
		}
		return nil
	}, nil
}

// crowded opens connections until few are left.
func crowded(service string, share float64) fault {
	return func(ctx context.Context, s *System) (func(context.Context) error, error) {
		first, err := s.connect(ctx, service)
		if err != nil {
			return nil, err
		}
		opened := []*pgx.Conn{first}
		heal := func(ctx context.Context) error {
			for _, c := range opened {
				_ = c.Close(ctx)
			}
			return nil
		}
		var wanted int
		err = first.QueryRow(ctx, `SELECT ceil($1::float8 * (current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int))::int
			- (SELECT count(*) FROM pg_stat_activity)::int`, share).Scan(&wanted)
		if err != nil {
			return heal, fmt.Errorf("count connections: %w", err)
		}
		config := first.Config().Copy()
		config.RuntimeParams["application_name"] = "forgotten-job"
		for len(opened) < wanted {
			c, err := pgx.ConnectConfig(ctx, config)
			if err != nil {
				return heal, fmt.Errorf("open connection %d of %d: %w", len(opened)+1, wanted, err)
			}
			opened = append(opened, c)
		}
		return heal, nil
	}
}

// paused keeps the relay of a service from publishing, as an operator would and forget it.
func paused(service string) fault {
	return func(ctx context.Context, s *System) (func(context.Context) error, error) {
		if _, err := s.service(service); err != nil {
			return nil, err
		}
		heal := func(ctx context.Context) error {
			return s.sh(ctx, `slipway outbox resume --reason "the drill is over"`)
		}
		return heal, s.sh(ctx, `slipway outbox pause --reason "a drill"`)
	}
}

// orphaned leaves a saga of a version that nobody runs, as a rollback would.
func orphaned(service string) fault {
	return func(ctx context.Context, s *System) (func(context.Context) error, error) {
		conn, err := s.connect(ctx, service)
		if err != nil {
			return nil, err
		}
		defer func() { _ = conn.Close(ctx) }()
		about := &s.about[len(s.about)-1]
		err = conn.QueryRow(ctx, `WITH newer AS (
				INSERT INTO slipway.saga_definition (name, version, stuck_after, shape, plan)
				SELECT name, version + 1000, stuck_after, shape, plan FROM slipway.saga_definition ORDER BY id LIMIT 1
				ON CONFLICT (name, version) DO UPDATE SET updated_at = clock_timestamp() RETURNING id, name, version),
			started AS (INSERT INTO slipway.saga (id, definition, data, headers, created_at, updated_at, next_run_at)
			SELECT gen_random_uuid(), id, '{}', '{}', now(), now(), now() - interval '2 minutes' FROM newer)
			SELECT name, version FROM newer`).Scan(&about.saga, &about.version)
		if errors.Is(err, pgx.ErrNoRows) {
			err = errors.New("no saga is defined")
		}
		if err != nil {
			return nil, fmt.Errorf("leave a saga: %w", err)
		}
		return s.mitigates("NoWorkerForSagaVersion"), nil
	}
}

// fenced takes the lease from the relay of a service again and again, each time when it works
// again, as a second one would that freezes now and then. It ends by itself.
func fenced(service string, times int) fault {
	return func(ctx context.Context, s *System) (func(context.Context) error, error) {
		conn, err := s.connect(ctx, service)
		if err != nil {
			return nil, err
		}
		defer func() { _ = conn.Close(ctx) }()
		for range times {
			if err := takeLease(ctx, conn); err != nil {
				return nil, fmt.Errorf("take the lease: %w", err)
			}
		}
		return nil, nil
	}
}

func takeLease(ctx context.Context, conn *pgx.Conn) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for first := int64(-1); ; {
		var beat int64
		if err := conn.QueryRow(ctx, "SELECT max(beat) FROM slipway.outbox_position").Scan(&beat); err != nil {
			return err
		}
		if first >= 0 && beat > first {
			_, err := conn.Exec(ctx, "UPDATE slipway.outbox_sink SET term = term + 1")
			return err
		}
		first = beat
		select {
		case <-time.After(tick):
		case <-ctx.Done():
			return fmt.Errorf("the relay does not work: %w", ctx.Err())
		}
	}
}

// poison is what no consumer can read.
const poison = "this is no event"

// poisoned publishes a message that no consumer of the subject can read. The services are
// those whose dead letters it becomes.
func poisoned(subject string, services ...string) fault {
	return func(_ context.Context, s *System) (func(context.Context) error, error) {
		for _, name := range services {
			if _, err := s.service(name); err != nil {
				return nil, err
			}
			s.about[len(s.about)-1].poison = poison
		}
		broker := s.server("NATS").Addr
		conn, err := natsgo.Connect("nats://" + strings.TrimPrefix(broker, "nats://"))
		if err != nil {
			return nil, fmt.Errorf("connect to NATS at %s: %w", broker, err)
		}
		defer conn.Close()
		if err := conn.Publish(subject, []byte(poison)); err != nil {
			return nil, fmt.Errorf("publish: %w", err)
		}
		if err := conn.FlushTimeout(10 * time.Second); err != nil {
			return nil, fmt.Errorf("publish: %w", err)
		}
		return func(ctx context.Context) error {
			return s.sh(ctx, `for id in $DEAD_LETTER; do slipway inbox dead discard "$id" --reason "the drill is over" --yes; done`)
		}, nil
	}
}

// without stops a component of the observability stack.
func without(c observe.Component) fault {
	return func(ctx context.Context, s *System) (func(context.Context) error, error) {
		heal := func(ctx context.Context) error { return s.env.Stack().StartComponent(ctx, c) }
		return heal, s.env.Stack().StopComponent(ctx, c)
	}
}
