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

	"github.com/slipwayhq/slipway/bench/internal/lab"
	"github.com/slipwayhq/slipway/bench/peers/rig"
	"github.com/slipwayhq/slipway/platform/postgres/migrate"
	"github.com/slipwayhq/slipway/platform/saga"
	"github.com/slipwayhq/slipway/platform/saga/sagapg"
)

// The sagas of Slipway: three steps over a participant, and one that sleeps first.
const (
	ours        = "ours"
	oursWaiting = "ours_waiting"
)

// farAway is how long a saga of oursWaiting sleeps.
const farAway = 30 * 24 * time.Hour

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

// serveOurs is Slipway's process.
func serveOurs(ctx context.Context, o options) error {
	if o.profiles != "" {
		stop, err := profile(o.profiles)
		if err != nil {
			return err
		}
		defer stop()
	}
	return rig.Serve(ctx, o.child, openOurs, os.Stdin, os.Stdout)
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
	s := &slipway{pool: pool, definition: define(o.System, call), ended: make(chan error, 1)}
	s.runner, err = sagapg.NewRunner(pool, []sagapg.Definition{s.definition},
		sagapg.Config{Name: o.Name, Concurrency: o.Concurrency}, nil, nil, nil)
	if err != nil {
		pool.Close()
		return nil, err
	}
	ctx, s.cancel = context.WithCancel(ctx)
	go func() { s.ended <- s.runner.Run(ctx) }()
	return s, nil
}

func define(name string, call rig.StepFunc) *saga.Definition[order] {
	step := func(name string) saga.Func[order] {
		return func(ctx context.Context, c *saga.Call[order]) error {
			err := call(ctx, c.SagaID, name)
			if errors.Is(err, rig.ErrRejected) {
				return saga.Rejected(err)
			}
			return err
		}
	}
	// B9 holds the second step for longer than the default of ten seconds.
	const long = 10 * time.Minute
	if name == oursWaiting {
		return saga.Define(name, 1, saga.Sleep[order]("sleep", farAway), saga.Step(rig.Three, step(rig.Three)))
	}
	return saga.Define(name, 1,
		saga.Step(rig.One, step(rig.One)).Undo(rig.UndoOne, step(rig.UndoOne)),
		saga.Step(rig.Two, step(rig.Two)).Undo(rig.UndoTwo, step(rig.UndoTwo)).Timeout(long),
		saga.Step(rig.Three, step(rig.Three)))
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
