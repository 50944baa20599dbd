package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime/pprof"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/slipwayhq/slipway/bench/internal/lab"
	"github.com/slipwayhq/slipway/bench/peers/rig"
	"github.com/slipwayhq/slipway/platform/postgres/migrate"
	"github.com/slipwayhq/slipway/platform/saga"
	"github.com/slipwayhq/slipway/platform/saga/sagapg"
)

// The processes of Slipway: one with sagas of three steps, and two that know the same
// sagas that sleep before their only step; they differ in which of them they start.
const (
	ours        = "ours"
	oursWaiting = "ours_waiting"
	oursStorm   = "ours_storm"
)

// How long sagas sleep: for good, and until they are all due at once.
const (
	farAway   = 30 * 24 * time.Hour
	gathering = 30 * time.Second
)

// maxConns is the size of the connection pool of every system.
const maxConns = 64

// order is the state of a saga.
type order struct {
	Order    string `json:"order"`
	Amount   int    `json:"amount"`
	Currency string `json:"currency"`
}

// slipway runs Slipway's sagas.
type slipway struct {
	pool       *pgxpool.Pool
	runner     *sagapg.Runner
	definition *saga.Definition[order]
	cancel     context.CancelFunc
	ended      chan error
}

// serve is the process of a contender that is in this program.
func serve(ctx context.Context, o options) error {
	if o.profiles != "" {
		stop, err := profile(o.profiles)
		if err != nil {
			return err
		}
		defer stop()
	}
	open := openOurs
	if o.child.System == bare {
		open = openBare
	}
	return rig.Serve(ctx, o.child, open, os.Stdin, os.Stdout)
}

func profile(dir string) (stop func(), err error) {
	f, err := os.Create(filepath.Join(dir, fmt.Sprintf("saga-%d.cpu", os.Getpid())))
	if err != nil {
		return nil, fmt.Errorf("create profile: %w", err)
	}
	if err := pprof.StartCPUProfile(f); err != nil {
		return nil, errors.Join(fmt.Errorf("start profile: %w", err), f.Close())
	}
	return func() {
		pprof.StopCPUProfile()
		_ = f.Close()
	}, nil
}

// openOurs is a rig.OpenFunc.
func openOurs(ctx context.Context, o rig.Options, _ string, call rig.StepFunc) (rig.System, error) {
	if o.Install {
		if _, err := migrate.Up(ctx, o.URL, sagapg.Migrations()); err != nil {
			return nil, err
		}
	}
	pool, err := lab.OpenPool(ctx, o.URL, maxConns)
	if err != nil {
		return nil, err
	}
	s := &slipway{pool: pool, ended: make(chan error, 1)}
	waiting, storm := sleeper("waiting", farAway, call), sleeper("storm", gathering, call)
	known := []sagapg.Definition{waiting, storm}
	switch o.System {
	case oursWaiting:
		s.definition = waiting
	case oursStorm:
		s.definition = storm
	default:
		s.definition = threeSteps(call)
		known = []sagapg.Definition{s.definition}
	}
	metrics := prometheus.NewRegistry()
	s.runner, err = sagapg.NewRunner(pool, known, sagapg.Config{Name: o.Name, Concurrency: o.Concurrency}, nil, metrics, nil)
	if err != nil {
		pool.Close()
		return nil, err
	}
	ctx, s.cancel = context.WithCancel(ctx)
	go func() { s.ended <- s.runner.Run(ctx) }()
	go scrape(ctx, metrics)
	return s, nil
}

// scrape asks for the metrics as often as Prometheus does by default here: what they cost is
// part of what sagas cost.
func scrape(ctx context.Context, metrics prometheus.Gatherer) {
	for ctx.Err() == nil {
		_, _ = metrics.Gather() // what is missing is tried again
		sleep(ctx, 15*time.Second)
	}
}

// threeSteps is the saga that all systems have.
func threeSteps(call rig.StepFunc) *saga.Definition[order] {
	// B9 holds the second step for longer than the default of ten seconds.
	const long = 10 * time.Minute
	return saga.Define("steps", 1,
		saga.Step(rig.One, step(call, rig.One)).Undo(rig.UndoOne, step(call, rig.UndoOne)),
		saga.Step(rig.Two, step(call, rig.Two)).Undo(rig.UndoTwo, step(call, rig.UndoTwo)).Timeout(long),
		saga.Step(rig.Three, step(call, rig.Three)))
}

func sleeper(name string, length time.Duration, call rig.StepFunc) *saga.Definition[order] {
	return saga.Define(name, 1, saga.Sleep[order]("sleep", length), saga.Step(rig.Three, step(call, rig.Three)))
}

func step(call rig.StepFunc, name string) saga.Func[order] {
	return func(ctx context.Context, c *saga.Call[order]) error {
		err := call(ctx, c.SagaID, name)
		if errors.Is(err, rig.ErrRejected) {
			return saga.Rejected(err)
		}
		return err
	}
}

// Start implements rig.System.
func (s *slipway) Start(ctx context.Context, id string) error {
	return sagapg.Launch(ctx, s.runner, s.definition, id, order{Order: id, Amount: 1299, Currency: "EUR"})
}

// Counts implements rig.System.
func (s *slipway) Counts(ctx context.Context) (c rig.Counts, err error) {
	err = s.pool.QueryRow(ctx, `SELECT (SELECT count(*) FROM slipway.saga), count(*) FILTER (WHERE status = $1), count(*) FILTER (WHERE status = $2)
		FROM slipway.saga_finished`, saga.Completed, saga.Compensated).Scan(&c.Active, &c.Done, &c.Undone)
	if err != nil {
		return c, fmt.Errorf("count sagas: %w", err)
	}
	return c, nil
}

// Close implements rig.System.
func (s *slipway) Close() {
	s.cancel()
	if err := <-s.ended; err != nil {
		logf("    the runner has ended: %v", err)
	}
	s.pool.Close()
}
