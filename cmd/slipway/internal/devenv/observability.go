package devenv

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/slipwayhq/slipway/cmd/slipway/internal/machine"
	"github.com/slipwayhq/slipway/cmd/slipway/internal/observe"
	"github.com/slipwayhq/slipway/cmd/slipway/internal/project"
)

// observability is the stack beside the services; nil when it was not asked for.
type observability struct {
	ports observe.Ports
	// programs are the components that can run.
	programs []observe.Component
	missing  []observe.Missing
	alerts   *alerts        // nil when somebody else gets them
	stack    *observe.Stack // nil until it is started
	stopped  chan struct{}
}

func newObservability(cfg Config) *observability {
	if !cfg.Observability {
		return nil
	}
	o := &observability{ports: observe.UsualPorts(cfg.PortOffset), stopped: make(chan struct{})}
	components := observe.Components()
	if !cfg.Project.Needs(project.Postgres) {
		components = slices.DeleteFunc(components, func(c observe.Component) bool { return c == observe.PostgresExporter })
	}
	found, missing := observe.Find(programDirs(cfg.Project.Dir), cfg.Environ, components...)
	for _, c := range components {
		if found[c] != "" {
			o.programs = append(o.programs, c)
		}
	}
	o.missing = missing
	return o
}

// programDirs are where programs are searched for before the PATH: where make stack puts
// them, and where this program is.
func programDirs(root string) []string {
	dirs := []string{filepath.Join(root, ".bin")}
	if self, err := os.Executable(); err == nil && filepath.Dir(self) != dirs[0] {
		dirs = append(dirs, filepath.Dir(self))
	}
	return dirs
}

func (o *observability) has(c observe.Component) bool {
	return o != nil && slices.Contains(o.programs, c)
}

// usedPorts lists what the components that can run will listen on.
func (o *observability) usedPorts() []machine.Port {
	if o == nil {
		return nil
	}
	return o.ports.List(o.programs...)
}

// tracesTo returns the collector's address for the services, or "" without one.
func (o *observability) tracesTo() string {
	if !o.has(observe.Collector) {
		return ""
	}
	return "http://" + loopback(o.ports.OTLPGRPC)
}

// startObservability runs the stack and says where to look.
func (e *Env) startObservability(ctx context.Context) error {
	o := e.observability
	if o == nil {
		return nil
	}
	for _, m := range o.missing {
		e.cfg.Console.Notef("  ! %s is left out: %s", m.Component, m.Reason)
	}
	if len(o.programs) == 0 {
		return nil
	}
	var err error
	webhook := e.cfg.Webhook
	if webhook == "" {
		if o.alerts, err = receiveAlerts(ctx, e.cfg.Console); err != nil {
			return err
		}
		webhook = o.alerts.url
	}
	o.stack, err = observe.Start(ctx, observe.Options{
		Dir: e.at.observability(), Records: e.at.records(), ProgramDirs: programDirs(e.cfg.Project.Dir),
		Environ: e.cfg.Environ, Components: o.programs, Ports: o.ports, Targets: e.targets(),
		PostgresURL: e.servers.database, LogFiles: filepath.Join(e.at.logs(), "*.json"),
		Webhook: webhook, Transform: e.cfg.Transform, Progress: e.progress,
	})
	if err != nil {
		return fmt.Errorf("start the observability stack: %w", err)
	}
	go func() {
		for {
			select {
			case err := <-o.stack.Died():
				e.cfg.Console.Notef("  ! %v", err) // the services go on without it
			case <-o.stopped:
				return
			}
		}
	}()
	for _, i := range o.stack.Running() {
		if err := e.addServer(Server{Name: string(i.Component), Addr: i.URL, Source: i.Program}); err != nil {
			return err
		}
	}
	return e.state.update(func(s *State) { s.Look = look(o.stack) })
}

// targets are the services, for Prometheus.
func (e *Env) targets() []observe.Target {
	var targets []observe.Target
	for _, s := range e.cfg.Project.Services {
		targets = append(targets, observe.Target{
			Job: "slipway", Address: loopback(s.Admin + e.cfg.PortOffset), Labels: map[string]string{"service": s.Name},
		})
	}
	return targets
}

// look says how to ask the stack without a browser: programs built from Go modules
// come without their pages.
func look(s *observe.Stack) []string {
	var lines []string
	if s.Has(observe.Prometheus) {
		lines = append(lines,
			"curl -sG "+s.URL(observe.Prometheus)+`/api/v1/query --data-urlencode 'query=sum by (service) (rate(grpc_server_handled_total[1m]))'`,
			"curl -s "+s.URL(observe.Prometheus)+"/api/v1/alerts")
	}
	if s.Has(observe.Loki) {
		lines = append(lines, "curl -sG "+s.URL(observe.Loki)+`/loki/api/v1/query_range --data-urlencode 'query={level="error"}'`)
	} else if s.Has(observe.Collector) {
		lines = append(lines, "tail "+s.Kept("logs"))
	}
	if s.Has(observe.Tempo) {
		lines = append(lines, "curl -s "+s.URL(observe.Tempo)+"/api/traces/TRACE_ID   # of a log line, ten seconds later")
	} else if s.Has(observe.Collector) {
		lines = append(lines, "tail "+s.Kept("traces"))
	}
	return lines
}

// collectorVariable names a collector. Where it is set, somebody reads the logs too.
const collectorVariable = "OTEL_EXPORTER_OTLP_ENDPOINT"

// openLog opens the file that a collector reads a service's output from, or returns nil
// when none would.
func (e *Env) openLog(service string) (*observe.LogFile, error) {
	if !e.observability.has(observe.Collector) && Lookup(e.cfg.Environ, collectorVariable) == "" {
		return nil, nil
	}
	l, err := observe.OpenLog(e.at.logs(), service)
	if err != nil {
		return nil, e.at.explain(err)
	}
	e.logs = append(e.logs, l)
	return l, nil
}

// Stack returns the observability stack, or nil without one.
func (e *Env) Stack() *observe.Stack {
	if e.observability == nil {
		return nil
	}
	return e.observability.stack
}

// Stop ends the stack, after the services whose last lines it takes.
func (o *observability) Stop(ctx context.Context) error {
	var errs []error
	close(o.stopped)
	if o.stack != nil {
		errs = append(errs, o.stack.Stop(ctx))
	}
	if o.alerts != nil {
		errs = append(errs, o.alerts.stop())
	}
	return errors.Join(errs...)
}
