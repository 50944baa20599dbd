// Command temporal runs a Temporal server and a worker for the saga benchmarks, in one
// process: a saga is a workflow whose steps and undos are activities.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/url"
	"os"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/log"
	sdk "go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"
	"go.temporal.io/server/temporal"
	"go.temporal.io/server/tools/sql"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/slipwayhq/slipway/bench/peers/rig"
)

func main() { rig.Main(open) }

const (
	namespace = "bench"
	queue     = "sagas"
	// undone is the result of a saga that was undone.
	undone = "undone"
)

type system struct {
	server temporal.Server
	client client.Client
	worker worker.Worker
	drop   func()
	call   rig.StepFunc
}

func open(ctx context.Context, o rig.Options, _ string, call rig.StepFunc) (rig.System, error) {
	db, err := databaseOf(o.URL)
	if err != nil {
		return nil, err
	}
	s := &system{call: call, drop: func() { db.dropVisibility() }}
	if o.Install {
		if err := db.install(ctx); err != nil {
			return nil, err
		}
	}
	if err := s.serve(ctx, db); err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

// serve starts the server, and the worker as soon as it answers.
func (s *system) serve(ctx context.Context, db database) error {
	var err error
	var frontend string
	if s.server, frontend, err = newServer(db); err != nil {
		return err
	}
	if err := s.server.Start(); err != nil {
		return fmt.Errorf("start server: %w", err)
	}
	logger := log.NewStructuredLogger(slog.New(slog.NewTextHandler(io.Discard, nil)))
	if s.client, err = client.Dial(client.Options{HostPort: frontend, Namespace: namespace, Logger: logger}); err != nil {
		return fmt.Errorf("connect to server: %w", err)
	}
	if err := s.register(ctx); err != nil {
		return err
	}
	s.worker = worker.New(s.client, queue, worker.Options{
		MaxConcurrentWorkflowTaskPollers: 16, MaxConcurrentActivityTaskPollers: 16,
		MaxConcurrentActivityExecutionSize: 1000, MaxConcurrentWorkflowTaskExecutionSize: 1000,
	})
	s.worker.RegisterWorkflow(s.saga)
	s.worker.RegisterActivity(s.step)
	if err := s.worker.Start(); err != nil {
		return fmt.Errorf("start worker: %w", err)
	}
	return s.ready(ctx)
}

// register makes the namespace.
func (s *system) register(ctx context.Context) error {
	_, err := s.client.WorkflowService().RegisterNamespace(ctx, &workflowservice.RegisterNamespaceRequest{
		Namespace: namespace, WorkflowExecutionRetentionPeriod: durationpb.New(24 * time.Hour),
	})
	var exists *serviceerror.NamespaceAlreadyExists
	if err != nil && !errors.As(err, &exists) {
		return fmt.Errorf("register namespace: %w", err)
	}
	return nil
}

// ready waits until the parts of the server know the namespace, which they ask for every
// few seconds.
func (s *system) ready(ctx context.Context) error {
	var err error
	for until := time.Now().Add(2 * time.Minute); time.Now().Before(until); {
		bounded, cancel := context.WithTimeout(ctx, 10*time.Second)
		_, err = s.client.DescribeTaskQueue(bounded, queue, 0)
		cancel()
		if err == nil {
			return nil
		}
		time.Sleep(200 * time.Millisecond)
	}
	return fmt.Errorf("wait for server: %w", err)
}

func (s *system) saga(ctx workflow.Context, id string) (string, error) {
	ctx = workflow.WithActivityOptions(ctx, workflow.ActivityOptions{
		StartToCloseTimeout: time.Minute, RetryPolicy: &sdk.RetryPolicy{MaximumAttempts: 1},
	})
	was, err := rig.Run(func(step string) error {
		return workflow.ExecuteActivity(ctx, s.step, id, step).Get(ctx, nil)
	})
	switch {
	case err != nil:
		return "", err
	case was:
		return undone, nil
	}
	return "done", nil
}

func (s *system) step(ctx context.Context, id, step string) error { return s.call(ctx, id, step) }

// Start implements rig.System.
func (s *system) Start(ctx context.Context, id string) error {
	if _, err := s.client.ExecuteWorkflow(ctx, client.StartWorkflowOptions{ID: id, TaskQueue: queue}, s.saga, id); err != nil {
		return fmt.Errorf("start workflow: %w", err)
	}
	return nil
}

// Counts implements rig.System. What has ended is not told apart by how.
func (s *system) Counts(ctx context.Context) (c rig.Counts, err error) {
	for query, n := range map[string]*int{"ExecutionStatus = 'Running'": &c.Active, "ExecutionStatus = 'Completed'": &c.Done} {
		answer, err := s.client.CountWorkflow(ctx, &workflowservice.CountWorkflowExecutionsRequest{Namespace: namespace, Query: query})
		if err != nil {
			return c, fmt.Errorf("count workflows: %w", err)
		}
		*n = int(answer.GetCount())
	}
	c.Undone = c.Done
	return c, nil
}

// Close implements rig.System.
func (s *system) Close() {
	if s.worker != nil {
		s.worker.Stop()
	}
	if s.client != nil {
		s.client.Close()
	}
	if s.server != nil {
		_ = s.server.Stop()
	}
	s.drop()
}

// database is where the server keeps its two stores: the benchmark's database, and one
// beside it for what is searched.
type database struct {
	url                        *url.URL
	host, port, user, password string
	name                       string
}

func databaseOf(text string) (database, error) {
	u, err := url.Parse(text)
	if err != nil {
		return database{}, fmt.Errorf("read database URL: %w", err)
	}
	password, _ := u.User.Password()
	return database{url: u, host: u.Hostname(), port: u.Port(), user: u.User.Username(), password: password, name: u.Path[1:]}, nil
}

func (d database) visibility() string { return d.name + "_visibility" }

// install makes the tables with Temporal's own tool.
func (d database) install(ctx context.Context) error {
	conn, err := pgx.Connect(ctx, d.url.String())
	if err != nil {
		return fmt.Errorf("connect to database: %w", err)
	}
	_, err = conn.Exec(ctx, "CREATE DATABASE "+pgx.Identifier{d.visibility()}.Sanitize())
	if err := errors.Join(err, conn.Close(ctx)); err != nil {
		return fmt.Errorf("create database: %w", err)
	}
	for name, schema := range map[string]string{d.name: "temporal", d.visibility(): "visibility"} {
		for _, task := range [][]string{
			{"setup-schema", "-v", "0.0"},
			{"update-schema", "--schema-name", "postgresql/v12/" + schema},
		} {
			args := append([]string{
				"temporal-sql-tool", "--plugin", plugin, "--ep", d.host, "-p", d.port, "-u", d.user, "--pw", d.password, "--db", name,
			}, task...)
			if err := quietly(func() error { return sql.RunTool(args) }); err != nil {
				return fmt.Errorf("make tables of %s: %w", schema, err)
			}
		}
	}
	return nil
}

// quietly keeps the tool from printing every statement.
func quietly(do func() error) error {
	null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err != nil {
		return fmt.Errorf("open %s: %w", os.DevNull, err)
	}
	defer func() { _ = null.Close() }()
	defer func(old *os.File) { os.Stderr = old }(os.Stderr)
	os.Stderr = null
	return do()
}

func (d database) dropVisibility() {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	conn, err := pgx.Connect(ctx, d.url.String())
	if err == nil {
		_, err = conn.Exec(ctx, "DROP DATABASE IF EXISTS "+pgx.Identifier{d.visibility()}.Sanitize()+" WITH (FORCE)")
		err = errors.Join(err, conn.Close(ctx))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "drop", d.visibility()+":", err)
	}
}

// freePort returns a port that nobody listens at. Temporal stores ports in two bytes with
// a sign, and systems give out higher ones.
func freePort() (int, error) {
	var err error
	for range 100 {
		port := 20_000 + rand.IntN(12_000)
		var l net.Listener
		if l, err = net.Listen("tcp", hostPort(port)); err == nil {
			return port, l.Close()
		}
	}
	return 0, fmt.Errorf("find a free port: %w", err)
}

func hostPort(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }
