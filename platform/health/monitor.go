package health

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	grpchealth "google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
)

// Health services that every [Monitor] answers for. The service of a dependency is its
// name behind DependencyPrefix.
const (
	Readiness        = "readiness"
	Liveness         = "liveness"
	Startup          = "startup"
	DependencyPrefix = "dependency/"
)

const (
	// failingFactor is how many times as often a failing dependency is checked.
	failingFactor = 5
	// stopGrace bounds how long Run waits for checks under way when it is told to stop.
	stopGrace = time.Second
)

var (
	errDraining   = errors.New("draining")
	errNotChecked = errors.New("not checked yet")
	errNotRunning = errors.New("health monitor is not running")
)

// Monitor watches dependencies and publishes what it finds. Its methods are safe for
// concurrent use.
type Monitor struct {
	cfg     Config
	server  *grpchealth.Server
	logger  *zap.Logger
	metrics *metrics

	// mu also guards the order of what is published: a status is set while it is held, so
	// that no check that was decided before a drain can be published after it.
	mu       sync.Mutex
	deps     []*dependency
	running  bool
	draining bool
}

// New returns a monitor of deps. It checks nothing before [Monitor.Run]; until then only
// liveness is SERVING. A nil logger logs nothing, a nil registerer registers no metrics.
// It fails on a bad configuration and on metrics that are registered already.
func New(cfg Config, deps []Dependency, logger *zap.Logger, reg prometheus.Registerer) (*Monitor, error) {
	cfg.SetDefaults()
	if err := errors.Join(cfg.Validate(), validateDependencies(deps)); err != nil {
		return nil, fmt.Errorf("configure health monitor: %w", err)
	}
	metrics, err := newMetrics(reg, deps)
	if err != nil {
		return nil, err
	}
	if logger == nil {
		logger = zap.NewNop()
	}
	m := &Monitor{cfg: cfg, server: grpchealth.NewServer(), logger: logger, metrics: metrics}
	now := time.Now()
	for _, d := range deps {
		m.deps = append(m.deps, &dependency{
			Dependency: d,
			critical:   slices.Contains(cfg.Critical, d.Name),
			cause:      errNotChecked,
			since:      now,
		})
		m.publish(DependencyPrefix+d.Name, false)
	}
	m.publish("", false)
	m.publish(Readiness, false)
	m.publish(Startup, false)
	m.publish(Liveness, true)
	return m, nil
}

// Register adds the health service to s.
func (m *Monitor) Register(s grpc.ServiceRegistrar) {
	healthpb.RegisterHealthServer(s, m.server)
}

// Run checks every dependency at once and then on its interval, side by side, until ctx
// ends; then it returns nil. It waits at most a second for checks that are under way; a
// check that ignores its context for longer leaves its one goroutine behind. Run once.
func (m *Monitor) Run(ctx context.Context) error {
	m.mu.Lock()
	m.running = true
	m.refresh()
	m.mu.Unlock()

	var wg sync.WaitGroup
	for _, d := range m.deps {
		wg.Go(func() { m.watch(ctx, d) })
	}
	<-ctx.Done() // also without a dependency to watch
	wg.Wait()
	return nil
}

// Drain makes readiness NOT_SERVING for good. Liveness and the services of the
// dependencies go on as before.
func (m *Monitor) Drain() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.draining {
		return
	}
	m.draining = true
	m.refresh()
	m.logger.Info("readiness is NOT_SERVING from now on", zap.Error(errDraining))
}

// Draining reports whether [Monitor.Drain] was called.
func (m *Monitor) Draining() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.draining
}

// Ready returns nil if the process should be sent work, and the reason if it should not.
func (m *Monitor) Ready() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.ready()
}

// DependencyStatus is what is known of a dependency.
type DependencyStatus struct {
	Name     string
	Critical bool
	// Up is true after a pass and false before the first one.
	Up bool
	// Err is the outcome of the last check. A dependency can be Up with an Err: it failed
	// fewer times in a row than the threshold.
	Err error
	// Since is the time of the last change of Up, or of the monitor's construction.
	Since time.Time
	// Checked is when the last check ended; zero before the first one.
	Checked time.Time
}

// Status returns the dependencies in the order they were given to [New].
func (m *Monitor) Status() []DependencyStatus {
	m.mu.Lock()
	defer m.mu.Unlock()
	status := make([]DependencyStatus, len(m.deps))
	for i, d := range m.deps {
		status[i] = DependencyStatus{
			Name: d.Name, Critical: d.critical, Up: d.state == stateUp,
			Err: d.cause, Since: d.since, Checked: d.checked,
		}
	}
	return status
}

// watch checks one dependency until ctx ends.
func (m *Monitor) watch(ctx context.Context, d *dependency) {
	defer d.abandon(stopGrace)
	for {
		start := time.Now()
		err := d.check(ctx, m.cfg.Timeout)
		if ctx.Err() != nil {
			return
		}
		m.metrics.check.WithLabelValues(d.Name).Observe(time.Since(start).Seconds())
		m.record(d, err)

		wait := m.cfg.Interval
		if err != nil {
			wait /= failingFactor
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(jitter(wait)):
		}
	}
}

// record takes the outcome of a check and publishes what follows from it.
func (m *Monitor) record(d *dependency, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if d.observe(err, m.cfg.FailureThreshold, time.Now()) {
		m.flipped(d)
	}
	m.refresh()
}

// flipped counts, publishes and logs a dependency's change of state. The caller holds mu.
func (m *Monitor) flipped(d *dependency) {
	up := d.state == stateUp
	m.metrics.flips.WithLabelValues(d.Name, d.state.String()).Inc()
	m.publish(DependencyPrefix+d.Name, up)
	fields := []zap.Field{zap.String("dependency", d.Name), zap.Bool("critical", d.critical)}
	switch {
	case up:
		m.metrics.up.WithLabelValues(d.Name).Set(1)
		m.logger.Info("dependency is up", fields...)
	case d.critical:
		m.metrics.up.WithLabelValues(d.Name).Set(0)
		m.logger.Error("critical dependency is down", append(fields, zap.Error(d.cause))...)
	default:
		m.metrics.up.WithLabelValues(d.Name).Set(0)
		m.logger.Warn("optional dependency is down, serving degraded", append(fields, zap.Error(d.cause))...)
	}
}

// refresh publishes readiness and startup. The caller holds mu.
func (m *Monitor) refresh() {
	ready := m.ready() == nil
	m.publish("", ready)
	m.publish(Readiness, ready)
	if ready {
		m.publish(Startup, true)
	}
}

func (m *Monitor) ready() error {
	if m.draining {
		return errDraining
	}
	if !m.running {
		return errNotRunning
	}
	var errs []error
	for _, d := range m.deps {
		if d.critical && d.state != stateUp {
			errs = append(errs, fmt.Errorf("%s: %w", d.Name, d.cause))
		}
	}
	return errors.Join(errs...)
}

func (m *Monitor) publish(service string, serving bool) {
	status := healthpb.HealthCheckResponse_NOT_SERVING
	if serving {
		status = healthpb.HealthCheckResponse_SERVING
	}
	m.server.SetServingStatus(service, status)
}
