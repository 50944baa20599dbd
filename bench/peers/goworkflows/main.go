// Command goworkflows runs go-workflows for the saga benchmarks: a saga is a workflow whose
// steps and undos are activities. "goworkflows" polls as it comes, every 200 ms by two
// pollers; "goworkflows_eager" every 5 ms by eight.
package main

import (
	"context"
	"database/sql"
	"fmt"
	"log/slog"
	"net/url"
	"strconv"
	"time"

	"github.com/cschleiden/go-workflows/backend"
	"github.com/cschleiden/go-workflows/backend/postgres"
	"github.com/cschleiden/go-workflows/client"
	"github.com/cschleiden/go-workflows/worker"
	"github.com/cschleiden/go-workflows/workflow"
	_ "github.com/jackc/pgx/v5/stdlib"

	"github.com/slipwayhq/slipway/bench/peers/rig"
)

func main() { rig.Main(open) }

type system struct {
	db     *sql.DB
	client *client.Client
	worker *worker.Worker
	stop   context.CancelFunc
	call   rig.StepFunc
}

const maxConns = 64

func open(ctx context.Context, o rig.Options, _ string, call rig.StepFunc) (rig.System, error) {
	u, err := url.Parse(o.URL)
	if err != nil {
		return nil, fmt.Errorf("read database URL: %w", err)
	}
	port, err := strconv.Atoi(u.Port())
	if err != nil {
		return nil, fmt.Errorf("read port of database: %w", err)
	}
	s := &system{call: call}
	if s.db, err = sql.Open("pgx", o.URL); err != nil {
		return nil, fmt.Errorf("open database: %w", err)
	}
	password, _ := u.User.Password()
	store := postgres.NewPostgresBackend(u.Hostname(), port, u.User.Username(), password, u.Path[1:],
		postgres.WithApplyMigrations(o.Install),
		postgres.WithPostgresOptions(func(db *sql.DB) { db.SetMaxOpenConns(maxConns); db.SetMaxIdleConns(maxConns) }),
		postgres.WithBackendOptions(backend.WithLogger(slog.New(slog.DiscardHandler)), backend.WithWorkerName(o.Name)))
	s.client, s.worker = client.New(store), worker.New(store, polling(o.System))
	if err := s.worker.RegisterWorkflow(s.saga); err != nil {
		return nil, fmt.Errorf("register workflow: %w", err)
	}
	if err := s.worker.RegisterActivity(s.step); err != nil {
		return nil, fmt.Errorf("register activity: %w", err)
	}
	ctx, s.stop = context.WithCancel(ctx)
	if err := s.worker.Start(ctx); err != nil {
		return nil, fmt.Errorf("start worker: %w", err)
	}
	return s, nil
}

func polling(name string) *worker.Options {
	options := worker.DefaultOptions
	options.WorkflowExecutorCacheSize = 20_000
	if name == "goworkflows_eager" {
		options.WorkflowPollers, options.ActivityPollers = 8, 8
		options.WorkflowPollingInterval, options.ActivityPollingInterval = 5*time.Millisecond, 5*time.Millisecond
	}
	return &options
}

// undone is the result of a saga that was undone.
const undone = "undone"

func (s *system) saga(ctx workflow.Context, id string) (string, error) {
	was, err := rig.Run(func(step string) error {
		_, err := workflow.ExecuteActivity[string](ctx, workflow.ActivityOptions{RetryOptions: workflow.RetryOptions{MaxAttempts: 1}}, s.step, id, step).Get(ctx)
		return err
	})
	switch {
	case err != nil:
		return "", err
	case was:
		return undone, nil
	}
	return "done", nil
}

func (s *system) step(ctx context.Context, id, step string) (string, error) {
	return "", s.call(ctx, id, step)
}

// Start implements rig.System.
func (s *system) Start(ctx context.Context, id string) error {
	if _, err := s.client.CreateWorkflowInstance(ctx, client.WorkflowInstanceOptions{InstanceID: id}, s.saga, id); err != nil {
		return fmt.Errorf("create instance: %w", err)
	}
	return nil
}

// Counts implements rig.System. The store does not say how an instance has ended, only
// that it has.
func (s *system) Counts(ctx context.Context) (c rig.Counts, err error) {
	err = s.db.QueryRowContext(ctx, "SELECT count(*) FILTER (WHERE completed_at IS NULL), count(completed_at) FROM instances").Scan(&c.Active, &c.Done)
	if err != nil {
		return c, fmt.Errorf("count sagas: %w", err)
	}
	c.Undone = c.Done
	return c, nil
}

// Close implements rig.System.
func (s *system) Close() {
	s.stop()
	_ = s.worker.WaitForCompletion()
	_ = s.db.Close()
}
