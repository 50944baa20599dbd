package system

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/riverqueue/river/rivermigrate"

	"github.com/slipwayhq/slipway/bench/internal/lab"
	"github.com/slipwayhq/slipway/platform/broker"
)

// River is the job queue with a job for each event. It keeps no order and is not
// meant to: it stands for what a row costs there.
func River() System { return riverQueue{} }

type riverQueue struct{}

// riverArgs are what a job carries.
type riverArgs struct {
	Payload []byte            `json:"payload"`
	Headers map[string]string `json:"headers"`
}

// Kind implements river.JobArgs.
func (riverArgs) Kind() string { return "event" }

// Name implements System.
func (riverQueue) Name() string { return "river" }

// Install implements System.
func (riverQueue) Install(ctx context.Context, url string) error {
	pool, err := lab.OpenPool(ctx, url, 2)
	if err != nil {
		return err
	}
	defer pool.Close()
	m, err := rivermigrate.New(riverpgxv5.New(pool), nil)
	if err != nil {
		return fmt.Errorf("make migrator of river: %w", err)
	}
	if _, err := m.Migrate(ctx, rivermigrate.DirectionUp, nil); err != nil {
		return fmt.Errorf("make tables of river: %w", err)
	}
	return nil
}

// Tables implements System.
func (riverQueue) Tables() (events, bookkeeping []string) {
	return []string{"public.river_job"}, []string{"public.river_queue", "public.river_leader"}
}

// Writer implements System.
func (riverQueue) Writer(_ context.Context, pool *pgxpool.Pool) (Writer, error) {
	client, err := river.NewClient(riverpgxv5.New(pool), &river.Config{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return nil, fmt.Errorf("make client of river: %w", err)
	}
	return writerFunc(func(ctx context.Context, tx pgx.Tx, events ...Event) error {
		if len(events) == 1 {
			_, err := client.InsertTx(ctx, tx, riverArgs{events[0].Payload, headers()}, nil)
			return err
		}
		many := make([]river.InsertManyParams, len(events))
		for i, e := range events {
			many[i].Args = riverArgs{e.Payload, headers()}
		}
		_, err := client.InsertManyTx(ctx, tx, many)
		return err
	}), nil
}

// Fill implements System, with River's own bulk insert.
func (riverQueue) Fill(ctx context.Context, url string, n int) error {
	pool, err := lab.OpenPool(ctx, url, 2)
	if err != nil {
		return err
	}
	defer pool.Close()
	client, err := river.NewClient(riverpgxv5.New(pool), &river.Config{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return fmt.Errorf("make client of river: %w", err)
	}
	const chunk = 5000
	for from := 0; from < n; from += chunk {
		jobs := make([]river.InsertManyParams, min(chunk, n-from))
		for i := range jobs {
			g := int64(from + i)
			payload := make([]byte, PayloadSize)
			Mark(payload, g%fillAggregates, g/fillAggregates+1, g)
			jobs[i].Args = riverArgs{payload, headers()}
		}
		if _, err := client.InsertManyFast(ctx, jobs); err != nil {
			return fmt.Errorf("insert jobs of river: %w", err)
		}
	}
	return nil
}

// Relay implements System.
func (riverQueue) Relay(ctx context.Context, url string, pub broker.Publisher) (Relay, error) {
	pool, err := lab.OpenPool(ctx, url, 10)
	if err != nil {
		return nil, err
	}
	workers := river.NewWorkers()
	river.AddWorker(workers, &riverWorker{pub: pub})
	// As River's own benchmark has it.
	client, err := river.NewClient(riverpgxv5.New(pool), &river.Config{
		FetchCooldown: 2 * time.Millisecond, FetchPollInterval: 20 * time.Millisecond,
		Queues:  map[string]river.QueueConfig{river.QueueDefault: {MaxWorkers: 2000}},
		Workers: workers, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		pool.Close()
		return nil, fmt.Errorf("make client of river: %w", err)
	}
	return &riverRelay{pool: pool, client: client}, nil
}

type riverWorker struct {
	river.WorkerDefaults[riverArgs]

	pub broker.Publisher
}

// Work publishes a job's event.
func (w *riverWorker) Work(ctx context.Context, job *river.Job[riverArgs]) error {
	m, err := convert(fmt.Sprint(job.ID), job.Args.Payload, job.Args.Headers)
	if err != nil {
		return err
	}
	return w.pub.Publish(ctx, []broker.Message{m})
}

type riverRelay struct {
	pool   *pgxpool.Pool
	client *river.Client[pgx.Tx]
}

// Run implements Relay.
func (r *riverRelay) Run(ctx context.Context) error {
	if err := r.client.Start(ctx); err != nil {
		return fmt.Errorf("start river: %w", err)
	}
	<-ctx.Done()
	<-r.client.Stopped()
	return nil
}

// Wake implements Relay.
func (r *riverRelay) Wake() {}

// Close implements Relay.
func (r *riverRelay) Close() { r.pool.Close() }
