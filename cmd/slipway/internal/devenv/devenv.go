package devenv

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/slipwayhq/slipway/cmd/slipway/internal/console"
	"github.com/slipwayhq/slipway/cmd/slipway/internal/logview"
	"github.com/slipwayhq/slipway/cmd/slipway/internal/machine"
	"github.com/slipwayhq/slipway/cmd/slipway/internal/observe"
	"github.com/slipwayhq/slipway/cmd/slipway/internal/proc"
	"github.com/slipwayhq/slipway/cmd/slipway/internal/project"
)

// MinFree is how much disk space a start needs.
const MinFree = 200 * machine.MB

// Config says what to run. Project and Console are required.
type Config struct {
	Project *project.Project
	Console *console.Console
	// Environ is the environment that the services get, and where DATABASE_URL,
	// REDIS_URL and BROKER_URL name servers to use.
	Environ []string
	// PortOffset is added to every fixed port.
	PortOffset int
	// Fresh wipes the data first.
	Fresh bool
	// LogFormat is how the merged log is shown. Empty means text.
	LogFormat logview.Format
	// Observability runs the observability stack beside the services.
	Observability bool
	// Transform changes the files of the observability stack: see [observe.Options].
	Transform func(name string, text []byte) ([]byte, error)
	// Webhook gets what Alertmanager sends. Empty shows it among the log.
	Webhook string
	// Dir is where the data are. Empty means .slipway in the project.
	Dir string
	// Detached says that the output goes to LogFile.
	Detached bool
	// Program is how the user calls this program, for messages.
	Program string
}

// server is a process or a part of this one that services depend on. When the
// context of Stop is over it ends at once.
type server interface {
	Stop(ctx context.Context) error
	Done() <-chan struct{}
	Err() error
}

// Env is an environment. Call Start, Wait, and in any case Stop, each once.
type Env struct {
	cfg      Config
	at       layout
	lock     *proc.Lock
	state    *stateFile
	view     *logview.View
	progress *console.Progress
	began    time.Time

	postgres, redis, nats server // nil when not needed or not ours
	observability         *observability
	servers               addresses
	databases             map[string]string // by service
	services              []*service
	logs                  []*observe.LogFile // of the services, for a collector
	died                  chan error
}

// New prepares an environment and changes nothing yet.
func New(cfg Config) *Env {
	at := layoutOf(cfg.Project)
	if cfg.Dir != "" {
		at.root = cfg.Dir
	}
	return &Env{
		cfg: cfg, at: at,
		state:     &stateFile{path: at.state()},
		view:      logview.New(cfg.Console, cfg.LogFormat, cfg.Console.Colour(), cfg.Project.Names()),
		progress:  cfg.Console.Progress(),
		databases: map[string]string{}, observability: newObservability(cfg),
		died: make(chan error, len(cfg.Project.Services)+3),
	}
}

// ErrRunning says that an environment of the project runs already.
var ErrRunning = errors.New("slipway dev is running here already")

// Start brings everything up and returns when each service says that it is ready.
func (e *Env) Start(ctx context.Context) error {
	e.began = time.Now()
	for _, step := range []func(context.Context) error{e.claim, e.clear, e.check, e.prepare, e.launch} {
		if err := step(ctx); err != nil {
			return err
		}
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("start: %w", err)
		}
	}
	return e.state.update(func(s *State) { s.Phase = Ready })
}

// State returns what is known of the environment.
func (e *Env) State() State { return e.state.read() }

// Took returns how long the start has taken so far.
func (e *Env) Took() time.Duration { return time.Since(e.began) }

// claim makes this process the one that runs the project.
func (e *Env) claim(context.Context) error {
	if err := e.at.make(); err != nil {
		return err
	}
	lock, err := proc.TakeLock(e.at.lock())
	if errors.Is(err, proc.ErrLocked) {
		if err := Idle(e.cfg.Project, e.cfg.Program); err != nil {
			return err
		}
		return fmt.Errorf("%w, in %s: it is just starting or stopping", ErrRunning, e.cfg.Project.Dir)
	}
	if err != nil {
		return e.at.explain(err)
	}
	e.lock = lock
	return e.at.explain(e.state.update(func(s *State) {
		*s = State{Identity: proc.Self(), Since: e.began.UTC(), Phase: Starting, Dir: e.at.root, Try: e.cfg.Project.Try}
		if e.cfg.Detached {
			s.Log = e.at.log()
		}
	}))
}

// Idle returns ErrRunning, with what to do about it, when an environment of the
// project runs.
func Idle(p *project.Project, program string) error {
	s, err := Find(p)
	if errors.Is(err, ErrNotRunning) {
		return nil
	}
	if err != nil {
		return err
	}
	return fmt.Errorf("%w: process %d, %s, in %s; stop it with: %s dev stop", ErrRunning, s.PID, s.Phase, p.Dir, program)
}

// clear ends what an earlier run has left and, when told to, wipes the data.
func (e *Env) clear(ctx context.Context) error {
	ended, err := e.at.records().Sweep()
	if err != nil {
		return err
	}
	for _, name := range ended {
		e.cfg.Console.Notef("  ended %s, which an earlier run had left", name)
	}
	if !e.cfg.Fresh {
		return nil
	}
	return e.wipe(ctx)
}

// check finds out what would make the start fail half way.
func (e *Env) check(ctx context.Context) error {
	if err := machine.RequireFree(e.at.root, MinFree); err != nil {
		return err
	}
	ports := append(Ports(e.cfg.Project, e.cfg.Environ, e.cfg.PortOffset), e.observability.usedPorts()...)
	err := machine.CheckPorts(ctx, ports)
	var taken *machine.TakenError
	if !errors.As(err, &taken) {
		return err
	}
	advice := "stop what holds them, or move all ports with --port-offset"
	if free := machine.FreeOffset(ctx, ports, 100); free > 0 {
		advice = fmt.Sprintf("stop what holds them, or move all ports: %s dev --port-offset %d", e.cfg.Program, e.cfg.PortOffset+free)
	}
	return fmt.Errorf("%w\n%s", err, advice)
}

// prepare builds the services while the servers start.
func (e *Env) prepare(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return e.build(ctx) })
	for need, start := range map[string]func(context.Context) error{
		project.Postgres: e.startPostgres, project.Redis: e.startRedis, project.NATS: e.startNATS,
	} {
		if e.cfg.Project.Needs(need) {
			group.Go(func() error { return start(ctx) })
		}
	}
	return group.Wait()
}

// watch reports a server or service that ends without having been told to.
func (e *Env) watch(s server, report func() error) {
	go func() {
		<-s.Done()
		e.died <- report()
	}()
}

// Wait returns nil when ctx is over or nobody reads the output any more, and an
// error when something died.
func (e *Env) Wait(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return nil
	case <-e.cfg.Console.Broken():
		return nil
	case err := <-e.died:
		return err
	}
}
