package sagapg

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"
	"go.uber.org/zap"

	"github.com/slipwayhq/slipway/platform/postgres"
	"github.com/slipwayhq/slipway/platform/saga"
)

// Definition is a *saga.Definition of any state.
type Definition interface {
	Plan() (saga.Plan, error)
	Invoke(ctx context.Context, v saga.Invocation) saga.Result
}

// definition is one that this process runs.
type definition struct {
	Definition
	plan saga.Plan
	id   int32
}

// Runner runs the sagas of a database, beside the runners of other processes. Create it
// with [NewRunner].
type Runner struct {
	db          *pgxpool.Pool
	plans       []*definition
	cfg         Config
	logger      *zap.Logger
	tracer      trace.Tracer
	metrics     *metrics
	clock       *clock
	wake        chan struct{}
	definitions map[int32]*definition
	ids         []int32
	current     atomic.Pointer[term] // nil while no sagas are taken on
}

// NewRunner returns a runner of the definitions. Several versions of one saga may run side
// by side. It needs four connections of the pool beside those of the steps. A nil logger,
// registerer or tracer provider is none.
func NewRunner(
	db *pgxpool.Pool, definitions []Definition, cfg Config, logger *zap.Logger, reg prometheus.Registerer, tp trace.TracerProvider,
) (*Runner, error) {
	cfg.SetDefaults()
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("check saga config: %w", err)
	}
	if logger == nil {
		logger = zap.NewNop()
	}
	if tp == nil {
		tp = noop.NewTracerProvider()
	}
	r := &Runner{
		db: db, cfg: cfg, logger: logger, tracer: tp.Tracer("github.com/slipwayhq/slipway/platform/saga/sagapg"),
		clock: &clock{}, wake: make(chan struct{}, 1),
	}
	var errs []error
	if len(definitions) == 0 {
		errs = append(errs, errors.New("no saga is defined"))
	}
	for _, d := range definitions {
		plan, err := d.Plan()
		errs = append(errs, err)
		r.plans = append(r.plans, &definition{Definition: d, plan: plan})
	}
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("create saga runner: %w", err)
	}
	var err error
	if r.metrics, err = newMetrics(reg, r); err != nil {
		return nil, fmt.Errorf("register saga metrics: %w", err)
	}
	return r, nil
}

// place returns where a new saga can run in this process at once, if anywhere.
func (r *Runner) place(plan saga.Plan) (*term, *definition) {
	if r == nil {
		return nil, nil
	}
	t := r.current.Load()
	if t == nil || t.count() >= r.cfg.Concurrency || !t.worker.ready() {
		return nil, nil
	}
	for _, d := range r.plans {
		if d.plan.Name == plan.Name && d.plan.Version == plan.Version {
			return t, d
		}
	}
	return nil, nil
}

// now returns the time of sagas, or nil where the database has to be asked.
func (r *Runner) now() *time.Time {
	if r == nil {
		return nil
	}
	t := r.current.Load()
	if t == nil || !t.worker.ready() {
		return nil
	}
	now := t.worker.clock.now()
	return &now
}

// Wake tells the runner that there may be something to do: call it after a commit of Signal
// or of an operator's action. It never blocks. Safe for concurrent use; a nil runner does
// nothing.
func (r *Runner) Wake() {
	if r == nil {
		return
	}
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// Run runs sagas until ctx ends: then it takes no new ones, waits for the calls that are on
// their way, for Grace at most, and leaves what is not over to others at once. It returns
// an error if a definition is refused or the tables are missing; a database that is away is
// waited for.
func (r *Runner) Run(ctx context.Context) error {
	if err := r.patiently(ctx, r.register); err != nil || ctx.Err() != nil {
		return err
	}
	if err := r.upkeep(ctx); err != nil && ctx.Err() == nil {
		r.logger.Warn("upkeep of sagas is incomplete", zap.Error(err))
	}
	var upkeep sync.WaitGroup
	upkeep.Go(func() { r.maintain(ctx) })
	defer upkeep.Wait()
	for ctx.Err() == nil {
		var w *worker
		err := r.patiently(ctx, func(ctx context.Context) (err error) {
			w, err = join(ctx, r.db, r.cfg, r.clock, r.ids, r.logger)
			return err
		})
		if err != nil || ctx.Err() != nil {
			return err
		}
		newTerm(r, w).serve(ctx)
	}
	return nil
}

// patiently repeats what fails because the database is away.
func (r *Runner) patiently(ctx context.Context, do func(context.Context) error) error {
	for pause := 100 * time.Millisecond; ; pause = min(2*pause, 2*time.Second) {
		err := do(ctx)
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return nil //nolint:nilerr // the end of ctx is the end of Run, not a fault
		}
		if !postgres.IsUnavailable(err) {
			return err
		}
		r.logger.Warn("waiting for the database", zap.Error(err))
		wait(ctx, pause)
	}
}

func (r *Runner) register(ctx context.Context) error {
	definitions, ids := map[int32]*definition{}, []int32{}
	for _, d := range r.plans {
		id, err := register(ctx, r.db, d.plan)
		if err != nil {
			return err
		}
		if _, twice := definitions[id]; twice {
			return fmt.Errorf("saga %s: version %d is defined twice", d.plan.Name, d.plan.Version)
		}
		d.id, definitions[id], ids = id, d, append(ids, id)
	}
	r.definitions, r.ids = definitions, ids
	return nil
}

func wait(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
