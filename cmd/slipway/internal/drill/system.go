package drill

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/slipwayhq/slipway/cmd/slipway/internal/console"
	"github.com/slipwayhq/slipway/cmd/slipway/internal/devenv"
	"github.com/slipwayhq/slipway/cmd/slipway/internal/logview"
	"github.com/slipwayhq/slipway/cmd/slipway/internal/machine"
	"github.com/slipwayhq/slipway/cmd/slipway/internal/observe"
	"github.com/slipwayhq/slipway/cmd/slipway/internal/proc"
	"github.com/slipwayhq/slipway/cmd/slipway/internal/project"
	"github.com/slipwayhq/slipway/cmd/slipway/internal/timescale"
)

// System is the project that runs for the drills, with traffic.
type System struct {
	env     *devenv.Env
	dir     string
	environ []string
	pager   *receiver
	load    *proc.Process
	metrics prometheus
	about   []subject
}

// subject is what a fault is about, for the commands of its runbook.
type subject struct {
	database string // of the service; empty for anything else
	pid      int
	poison   string // the payload of the message that becomes a dead letter; empty without
	saga     string // the definition that nobody runs, and its version; empty without
	version  int
}

// startPorts is where free ports are searched for: far from those of slipway dev.
const startPorts = 3000

// startSystem runs the project in a folder of its own, which stop removes.
func startSystem(ctx context.Context, cfg Config) (s *System, err error) {
	if cfg.Project.Load == "" {
		return nil, errors.New("the project names no load: add a command that places traffic, as load, to " + project.FileName)
	}
	s = &System{environ: cfg.Environ}
	parent := filepath.Join(cfg.Project.Dir, ".slipway")
	if err := os.MkdirAll(parent, 0o755); err != nil {
		return nil, fmt.Errorf("make folder: %w", err)
	}
	if err := sweep(ctx, cfg, parent); err != nil {
		return nil, err
	}
	if s.dir, err = os.MkdirTemp(parent, "drill-"); err != nil {
		return nil, fmt.Errorf("make folder: %w", err)
	}
	if err := os.Chmod(s.dir, 0o755); err != nil { // PostgreSQL may run as another user
		return nil, fmt.Errorf("open folder: %w", err)
	}
	if s.pager, err = listen(ctx); err != nil {
		return nil, errors.Join(err, s.stop(ctx))
	}
	logs, err := os.Create(filepath.Join(s.dir, "services.log"))
	if err != nil {
		return nil, errors.Join(err, s.stop(ctx))
	}
	offset, err := freeOffset(ctx, cfg)
	if err != nil {
		return nil, errors.Join(err, s.stop(ctx))
	}
	s.env = devenv.New(devenv.Config{
		Project: cfg.Project, Console: console.New(nil, logs, logs, nil), Program: cfg.Program, Dir: s.dir,
		Environ:    append(cfg.Environ[:len(cfg.Environ):len(cfg.Environ)], cfg.Settings...),
		PortOffset: offset, LogFormat: logview.JSON, Observability: true, Webhook: s.pager.url,
		Transform: func(name string, text []byte) ([]byte, error) { return timescale.File(name, text, cfg.TimeScale) },
	})
	if err := s.env.Start(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("start the system: %w", err), s.stop(ctx))
	}
	s.metrics = prometheus{url: s.env.Stack().URL(observe.Prometheus)}
	if s.metrics.url == "" || !s.env.Stack().Has(observe.Alertmanager) {
		return nil, errors.Join(errors.New("drills need Prometheus and Alertmanager: make stack builds them, or install those of your system"), s.stop(ctx))
	}
	if err := errors.Join(s.startLoad(cfg), s.awaitScrapes(ctx)); err != nil {
		return nil, errors.Join(err, s.stop(ctx))
	}
	return s, nil
}

// sweep ends and removes what drills have left that were killed.
func sweep(ctx context.Context, cfg Config, parent string) error {
	locks, err := filepath.Glob(filepath.Join(parent, "drill-*", "run", "lock"))
	if err != nil {
		return fmt.Errorf("look for earlier drills: %w", err)
	}
	for _, path := range locks {
		lock, err := proc.TakeLock(path)
		if errors.Is(err, proc.ErrLocked) {
			continue // it runs
		}
		if err != nil {
			return fmt.Errorf("look at an earlier drill: %w", err)
		}
		run := filepath.Dir(path)
		left := devenv.New(devenv.Config{
			Project: cfg.Project, Console: console.New(nil, io.Discard, io.Discard, nil), Environ: cfg.Environ, Dir: filepath.Dir(run),
		})
		_, err = proc.Records{Dir: run}.Sweep()
		if err := errors.Join(err, lock.Release(), left.Remove(ctx)); err != nil {
			return fmt.Errorf("remove an earlier drill: %w", err)
		}
	}
	return nil
}

// awaitScrapes returns once Prometheus sees all services.
func (s *System) awaitScrapes(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	for {
		n, err := s.metrics.scraped(ctx)
		if err == nil && n >= len(s.env.State().Services) {
			return nil
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return errors.Join(fmt.Errorf("wait for scrapes: Prometheus sees %d of %d services: %w", n, len(s.env.State().Services), ctx.Err()), err)
		}
	}
}

// freeOffset moves all ports to where nobody listens.
func freeOffset(ctx context.Context, cfg Config) (int, error) {
	ports := append(devenv.Ports(cfg.Project, cfg.Environ, startPorts), observe.UsualPorts(startPorts).List(observe.Components()...)...)
	if machine.CheckPorts(ctx, ports) == nil {
		return startPorts, nil
	}
	if offset := machine.FreeOffset(ctx, ports, 100); offset > 0 {
		return startPorts + offset, nil
	}
	return 0, errors.New("no free ports found for the drills")
}

// startLoad runs the project's traffic, again when it ends, in a process group that ends as a
// whole: drills in real time last for longer than any traffic.
func (s *System) startLoad(cfg Config) error {
	addresses := map[string]string{}
	for _, svc := range s.env.State().Services {
		addresses[svc.Name] = svc.GRPC
	}
	command := os.Expand(cfg.Project.Load, func(name string) string { return addresses[name] })
	out, err := os.Create(filepath.Join(s.dir, "load.log"))
	if err != nil {
		return fmt.Errorf("open log of the load: %w", err)
	}
	s.load, err = proc.Start(proc.Spec{
		Name: "load", Path: "/bin/sh", Args: []string{"-c", `trap 'kill -KILL 0' TERM; while :; do ` + command + "\n" + `sleep 1; done & wait $!`},
		Dir: cfg.Project.Dir, Env: cfg.Environ, Output: out, DeathSignal: syscall.SIGTERM,
	}, proc.Records{Dir: filepath.Join(s.dir, "run")})
	if err != nil {
		return fmt.Errorf("start the load: %w", err)
	}
	return nil
}

// stop ends everything and removes the folder, with what is kept elsewhere for it.
func (s *System) stop(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
	defer cancel()
	var errs []error
	if s.load != nil {
		_ = s.load.Stop(ctx) // it is killed, and says so
	}
	if s.env != nil {
		errs = append(errs, s.env.Stop(ctx), s.env.Remove(ctx))
	}
	if s.pager != nil {
		errs = append(errs, s.pager.close())
	}
	return errors.Join(append(errs, os.RemoveAll(s.dir))...)
}

// service returns what is known of a running service. A fault is about it from now on.
func (s *System) service(name string) (devenv.Service, error) {
	for _, svc := range s.env.State().Services {
		if svc.Name == name {
			s.about = append(s.about, subject{database: svc.DatabaseURL, pid: svc.PID})
			return svc, nil
		}
	}
	return devenv.Service{}, fmt.Errorf("there is no service %s", name)
}

// server returns what is known of a server; it is zero for one that the project does not need.
func (s *System) server(name string) devenv.Server {
	for _, server := range s.env.State().Servers {
		if server.Name == name {
			return server
		}
	}
	return devenv.Server{}
}

// connect opens a connection to the database of a service, as the service.
func (s *System) connect(ctx context.Context, name string) (*pgx.Conn, error) {
	svc, err := s.service(name)
	if err != nil {
		return nil, err
	}
	conn, err := pgx.Connect(ctx, svc.DatabaseURL)
	if err != nil {
		return nil, fmt.Errorf("connect to the database of %s: %w", name, err)
	}
	return conn, nil
}

// sh runs commands of a runbook for all that a fault is about.
func (s *System) sh(ctx context.Context, script string) error {
	for _, a := range s.about {
		if err := s.shFor(ctx, a, script); err != nil {
			return err
		}
	}
	return nil
}

// mitigates takes away by its runbook what nothing else takes away: the drills that follow
// must not find it when this one fails before it comes to that.
func (s *System) mitigates(alert string) func(context.Context) error {
	return func(ctx context.Context) error {
		script, err := mitigation(alert)
		if err != nil {
			return err
		}
		return s.sh(ctx, script)
	}
}

func (s *System) shFor(ctx context.Context, about subject, script string) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find this program: %w", err)
	}
	bin := filepath.Join(s.dir, "path")
	if err := os.MkdirAll(bin, 0o755); err != nil {
		return fmt.Errorf("make folder: %w", err)
	}
	if err := os.Symlink(self, filepath.Join(bin, "slipway")); err != nil && !errors.Is(err, os.ErrExist) {
		return fmt.Errorf("link slipway: %w", err)
	}
	letter, err := about.deadLetter(ctx)
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, "/bin/sh", "-e", "-c", script)
	cmd.Dir = s.dir
	cmd.Env = slices.Concat(s.environ, []string{
		"PATH=" + bin + ":" + devenv.Lookup(s.environ, "PATH"), "DATABASE_URL=" + about.database,
		"PROMETHEUS_URL=" + s.metrics.url, "SERVICE_PID=" + strconv.Itoa(about.pid), "DEAD_LETTER=" + letter,
		"SAGA=" + about.saga, "SAGA_VERSION=" + strconv.Itoa(about.version),
	})
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("commands of the runbook: %w\n%s", err, strings.TrimSpace(string(out)))
	}
	return nil
}

// deadLetter is the id of the one that the poison has become; empty without, and once it is
// decided about.
func (a subject) deadLetter(ctx context.Context) (id string, err error) {
	if a.poison == "" {
		return "", nil
	}
	conn, err := pgx.Connect(ctx, a.database)
	if err != nil {
		return "", fmt.Errorf("connect to look for the dead letter: %w", err)
	}
	defer func() { _ = conn.Close(ctx) }()
	err = conn.QueryRow(ctx, "SELECT id::text FROM slipway.inbox_dead WHERE resolved_at IS NULL AND payload = $1", []byte(a.poison)).Scan(&id)
	if err != nil && !errors.Is(err, pgx.ErrNoRows) {
		return "", fmt.Errorf("look for the dead letter: %w", err)
	}
	return id, nil
}
