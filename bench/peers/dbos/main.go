// Command dbos runs DBOS Transact for the saga benchmarks: a saga is a workflow whose
// steps and undos are DBOS steps.
package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/dbos-inc/dbos-transact-golang/dbos"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/slipwayhq/slipway/bench/peers/rig"
)

func main() { rig.Main(open) }

type system struct {
	pool *pgxpool.Pool
	dbos dbos.Context
	call rig.StepFunc
}

const maxConns = 64

func open(ctx context.Context, o rig.Options, _ string, call rig.StepFunc) (rig.System, error) {
	cfg, err := pgxpool.ParseConfig(o.URL)
	if err != nil {
		return nil, fmt.Errorf("read database URL: %w", err)
	}
	cfg.MaxConns = maxConns
	pool, err := pgxpool.NewWithConfig(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("open database pool: %w", err)
	}
	s := &system{pool: pool, call: call}
	s.dbos, err = dbos.NewContext(ctx, dbos.Config{
		AppName: "bench", DatabaseURL: o.URL, SystemDBPool: pool, ExecutorID: o.Name, ApplicationVersion: "1",
		Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		return nil, fmt.Errorf("open dbos: %w", err)
	}
	dbos.RegisterWorkflow(s.dbos, s.saga)
	if err := dbos.Launch(s.dbos); err != nil {
		return nil, fmt.Errorf("launch dbos: %w", err)
	}
	return s, nil
}

// undone is the result of a saga that was undone.
const undone = "undone"

func (s *system) saga(ctx dbos.Context, id string) (string, error) {
	was, err := rig.Run(func(step string) error {
		_, err := dbos.RunAsStep(ctx, func(ctx context.Context) (string, error) {
			return "", s.call(ctx, id, step)
		}, dbos.WithStepName(step))
		return err
	})
	switch {
	case err != nil:
		return "", err
	case was:
		return "", errors.New(undone)
	}
	return "done", nil
}

// Start implements rig.System.
func (s *system) Start(_ context.Context, id string) error {
	if _, err := dbos.RunWorkflow(s.dbos, s.saga, id, dbos.WithWorkflowID(id)); err != nil {
		return fmt.Errorf("run workflow: %w", err)
	}
	return nil
}

// Counts implements rig.System. A saga that was undone ends with an error, so that the
// status tells them apart.
func (s *system) Counts(ctx context.Context) (c rig.Counts, err error) {
	err = s.pool.QueryRow(ctx, `SELECT count(*) FILTER (WHERE status NOT IN ('SUCCESS', 'ERROR')),
		count(*) FILTER (WHERE status = 'SUCCESS'), count(*) FILTER (WHERE status = 'ERROR') FROM dbos.workflow_status`).
		Scan(&c.Active, &c.Done, &c.Undone)
	if err != nil {
		return c, fmt.Errorf("count sagas: %w", err)
	}
	return c, nil
}

// Close implements rig.System.
func (s *system) Close() {
	_ = dbos.Shutdown(s.dbos, 5*time.Second) // the process ends next
	s.pool.Close()
}
