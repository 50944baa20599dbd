// Package observe runs the observability stack on this machine, without containers:
// Prometheus, Alertmanager, postgres_exporter, the OpenTelemetry Collector, Loki and
// Tempo, with the files of ops/.
//
// Each component is a process of its own that ends with this one. A component whose
// program is not there is left out and listed by [Stack.Missing].
package observe

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/slipwayhq/slipway/cmd/slipway/internal/console"
	"github.com/slipwayhq/slipway/cmd/slipway/internal/proc"
)

// Component is a program of the stack.
type Component string

// The components, named as their programs are.
const (
	Prometheus       Component = "prometheus"
	Alertmanager     Component = "alertmanager"
	PostgresExporter Component = "postgres_exporter"
	Collector        Component = "otelcol"
	Loki             Component = "loki"
	Tempo            Component = "tempo"
)

// Components lists all of them.
func Components() []Component {
	return []Component{Prometheus, Alertmanager, PostgresExporter, Collector, Loki, Tempo}
}

// Options say what to run. Dir is required.
type Options struct {
	// Dir gets the configuration, the data and the logs of the stack. The data of an
	// earlier run in it is used again.
	Dir string
	// Records is where the processes are recorded; default Dir/run.
	Records proc.Records
	// ProgramDirs are searched for the programs before the PATH of Environ.
	ProgramDirs []string
	// Environ is the environment of the programs.
	Environ []string
	// Components are those to run; default all. PostgresExporter runs only with a
	// PostgresURL.
	Components []Component
	// Ports are where they listen, on 127.0.0.1; default free ones.
	Ports Ports
	// Targets are what Prometheus scrapes beside the stack itself.
	Targets []Target
	// PostgresURL is the database server that postgres_exporter looks at, as a role that
	// sees all of it.
	PostgresURL string
	// LogFiles is a glob of the files that hold the services' JSON lines; default
	// Dir/logs/*.json.
	LogFiles string
	// Transform changes a file of ops/, named by its path there, before the programs read
	// it. nil leaves all of them as they are.
	Transform func(name string, text []byte) ([]byte, error)
	// Webhook replaces the host of every webhook of Alertmanager: a receiver NAME posts
	// to Webhook/NAME. Empty leaves the file's.
	Webhook string
	// Progress shows the start; nil shows nothing.
	Progress *console.Progress
}

// SetDefaults fills the zero fields.
func (o *Options) SetDefaults() {
	if o.Records.Dir == "" {
		o.Records.Dir = filepath.Join(o.Dir, "run")
	}
	if len(o.Components) == 0 {
		o.Components = Components()
	}
	if o.LogFiles == "" {
		o.LogFiles = filepath.Join(o.Dir, "logs", "*.json")
	}
}

// Target is something that Prometheus scrapes.
type Target struct {
	// Job is the name of a scrape job of ops/prometheus/prometheus.yml; "slipway" for
	// services.
	Job string
	// Address is host:port; the metrics are under /metrics.
	Address string
	// Labels are added to every series: service for services.
	Labels map[string]string
}

// Missing is a component that cannot run.
type Missing struct {
	Component Component
	// Reason says what to do about it.
	Reason string
}

// Instance is a component that runs.
type Instance struct {
	Component Component
	// Program is the path of what runs.
	Program string
	// URL is where people and programs ask it.
	URL string
	// Log is the file of its output.
	Log string
	PID int
}

// Stack is a running stack. Its methods may be called from several goroutines.
type Stack struct {
	opts    Options
	found   map[Component]string
	missing []Missing
	died    chan error

	mu      sync.Mutex
	running map[Component]*instance
}

type instance struct {
	process *proc.Process
	log     *os.File
	idles   bool // see program
}

// Start writes the configuration, runs the components and returns when all of them are
// ready. What is missing is no error. When one does not start, none is left running.
func Start(ctx context.Context, opts Options) (*Stack, error) {
	opts.SetDefaults()
	s := &Stack{opts: opts, running: map[Component]*instance{}, died: make(chan error, len(Components()))}
	s.found, s.missing = find(opts)
	if err := s.prepare(ctx); err != nil {
		return nil, err
	}
	group, starting := errgroup.WithContext(ctx)
	for c := range s.found {
		group.Go(func() error { return s.StartComponent(starting, c) })
	}
	if err := group.Wait(); err != nil {
		stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
		defer cancel()
		return nil, errors.Join(err, s.Stop(stop))
	}
	return s, nil
}

// prepare makes the folders, chooses the ports and writes the files.
func (s *Stack) prepare(ctx context.Context) error {
	for _, dir := range []string{s.opts.Dir, s.opts.Records.Dir, filepath.Dir(s.opts.LogFiles)} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return fmt.Errorf("make folder: %w", err)
		}
	}
	if s.opts.Ports == (Ports{}) {
		ports, err := FreePorts(ctx)
		if err != nil {
			return err
		}
		s.opts.Ports = ports
	}
	return s.write()
}

// Has tells whether the component's program was found, running or not.
func (s *Stack) Has(c Component) bool { return s.found[c] != "" }

// Missing lists the components that were asked for and cannot run.
func (s *Stack) Missing() []Missing { return s.missing }

// Ports returns where the components listen.
func (s *Stack) Ports() Ports { return s.opts.Ports }

// Died gets an error for every component that ends without having been told to.
func (s *Stack) Died() <-chan error { return s.died }

// URL returns the address of a component, or "" when its program is missing. That of
// the Collector is where its own metrics are; see OTLP.
func (s *Stack) URL(c Component) string {
	if !s.Has(c) {
		return ""
	}
	return "http://" + loopback(s.opts.Ports.of(c))
}

// OTLP returns the address for OTEL_EXPORTER_OTLP_ENDPOINT, or "" without a Collector.
func (s *Stack) OTLP() string {
	if !s.Has(Collector) {
		return ""
	}
	return "http://" + loopback(s.opts.Ports.OTLPGRPC)
}

// Running lists the components that run, in the order of Components.
func (s *Stack) Running() []Instance {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []Instance
	for _, c := range Components() {
		if r := s.running[c]; r != nil {
			all = append(all, Instance{Component: c, Program: s.found[c], URL: s.URL(c), Log: r.log.Name(), PID: r.process.PID()})
		}
	}
	return all
}

// startTimeout is how long a component may take until it is ready: Loki on a busy
// machine needs a while.
const startTimeout = 60 * time.Second

// stopTimeout is how long a component may take to end when asked.
const stopTimeout = 10 * time.Second

// idleTimeout is how long one may take that writes what it has at once and idles then.
const idleTimeout = 2 * time.Second

// StartComponent runs a component that was stopped, with the data it had, and returns
// when it is ready. It does nothing for one that runs.
func (s *Stack) StartComponent(ctx context.Context, c Component) error {
	path, ok := s.found[c]
	if !ok {
		return fmt.Errorf("start %s: its program is missing", c)
	}
	s.mu.Lock()
	if s.running[c] != nil {
		s.mu.Unlock()
		return nil
	}
	r, err := s.run(c, path)
	if err == nil {
		s.running[c] = r
		go s.watch(ctx, c, r)
	}
	s.mu.Unlock()
	if err != nil {
		return err
	}
	step := s.step("starting " + string(c))
	if err := s.await(ctx, c, r); err != nil {
		step.fail()
		return err
	}
	step.done("%s at %s", c, s.URL(c))
	return nil
}

func (s *Stack) run(c Component, path string) (*instance, error) {
	if err := os.MkdirAll(s.data(c), 0o755); err != nil {
		return nil, fmt.Errorf("make folder: %w", err)
	}
	log, err := os.OpenFile(filepath.Join(s.opts.Dir, string(c)+".log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return nil, fmt.Errorf("open log of %s: %w", c, err)
	}
	p, err := proc.Start(proc.Spec{
		Name: string(c), Path: path, Dir: s.data(c), Output: log,
		Args: programs[c].args(s), Env: append(s.opts.Environ[:len(s.opts.Environ):len(s.opts.Environ)], programs[c].env(s)...),
	}, s.opts.Records)
	if err != nil {
		return nil, errors.Join(err, log.Close())
	}
	return &instance{process: p, log: log, idles: programs[c].idles}, nil
}

// watch reports the end of a component that nobody asked for, which may be started
// again.
func (s *Stack) watch(ctx context.Context, c Component, r *instance) {
	<-r.process.Done()
	s.mu.Lock()
	if s.running[c] != r {
		s.mu.Unlock()
		return
	}
	delete(s.running, c)
	s.mu.Unlock()
	err := s.ended(c, r)
	_ = r.end(ctx) // it has ended: this drops its record
	select {
	case s.died <- err:
	default: // nobody listens, and the reports of all components are waiting already
	}
}

// StopComponent stops a component and keeps its data. It does nothing for one that does
// not run. When ctx is over it kills.
func (s *Stack) StopComponent(ctx context.Context, c Component) error {
	s.mu.Lock()
	r := s.running[c]
	delete(s.running, c)
	s.mu.Unlock()
	if r == nil {
		return nil
	}
	return r.end(ctx)
}

func (r *instance) end(ctx context.Context) error {
	timeout := stopTimeout
	if r.idles {
		timeout = idleTimeout
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	err := r.process.Stop(ctx)
	if r.idles && errors.Is(err, proc.ErrKilled) {
		err = nil
	}
	return errors.Join(err, r.log.Close())
}

// Stop ends the collector, while what it sends to still takes it, then all others side by
// side. When ctx is over it kills them.
func (s *Stack) Stop(ctx context.Context) error {
	first := s.StopComponent(ctx, Collector)
	errs := make([]error, len(Components()))
	var stopped sync.WaitGroup
	for i, c := range Components() {
		stopped.Go(func() { errs[i] = s.StopComponent(ctx, c) })
	}
	stopped.Wait()
	return errors.Join(append(errs, first)...)
}
