package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/slipwayhq/slipway/bench/internal/lab"
	"github.com/slipwayhq/slipway/bench/outbox/internal/audit"
	"github.com/slipwayhq/slipway/bench/outbox/internal/system"
)

const (
	fuzzWriters    = 16
	fuzzAggregates = 100
)

// How often transactions do what makes readers stumble.
const (
	earlyShare     = 0.2  // draw their number long before they lock the aggregate
	twoShare       = 0.2  // change two aggregates
	savepointShare = 0.1  // add events in a subtransaction
	undoShare      = 0.3  // of those, roll it back
	rollbackShare  = 0.05 // roll back as a whole
)

// writers change aggregates as services do: each transaction locks one, raises its
// version and adds the events of that.
type writers struct {
	pool      *pgxpool.Pool
	writer    system.Writer
	committed *audit.Ledger
	todo      atomic.Int64
	nonce     atomic.Int64
}

func newWriters(ctx context.Context, sys system.System, db *lab.Database, transactions int) (*writers, error) {
	err := lab.Exec(ctx, db.URL,
		"CREATE TABLE aggregate (id bigint PRIMARY KEY, version bigint NOT NULL) WITH (fillfactor = 50)",
		fmt.Sprintf("INSERT INTO aggregate SELECT g, 0 FROM generate_series(1, %d) AS g", fuzzAggregates),
		"CREATE TABLE aside (id bigserial PRIMARY KEY)")
	if err != nil {
		return nil, err
	}
	pool, err := db.Pool(ctx, fuzzWriters)
	if err != nil {
		return nil, err
	}
	writer, err := sys.Writer(ctx, pool)
	if err != nil {
		pool.Close()
		return nil, err
	}
	w := &writers{pool: pool, writer: writer, committed: audit.NewLedger()}
	w.todo.Store(int64(transactions))
	return w, nil
}

func (w *writers) close() {
	w.writer.Close()
	w.pool.Close()
}

// run makes all transactions, those that roll back included.
func (w *writers) run(ctx context.Context) error {
	var all sync.WaitGroup
	errs := make([]error, fuzzWriters)
	for i := range errs {
		all.Go(func() {
			for errs[i] == nil && ctx.Err() == nil && w.todo.Add(-1) >= 0 {
				errs[i] = w.transact(ctx)
			}
		})
	}
	all.Wait()
	return errors.Join(append(errs, ctx.Err())...)
}

// errUndo rolls a transaction back that has done nothing wrong.
var errUndo = errors.New("rolled back on purpose")

func (w *writers) transact(ctx context.Context) error {
	var events []audit.Event
	err := pgx.BeginFunc(ctx, w.pool, func(tx pgx.Tx) error {
		if rand.Float64() < earlyShare {
			if _, err := tx.Exec(ctx, "INSERT INTO aside DEFAULT VALUES"); err != nil {
				return fmt.Errorf("write aside: %w", err)
			}
			sleep(ctx, delay())
		}
		for _, aggregate := range drawAggregates() {
			added, err := w.change(ctx, tx, aggregate)
			if err != nil {
				return err
			}
			events = append(events, added...)
		}
		sleep(ctx, delay())
		if rand.Float64() < rollbackShare {
			return errUndo
		}
		return nil
	})
	switch {
	case errors.Is(err, errUndo):
		return nil
	case err != nil:
		return fmt.Errorf("run transaction: %w", err)
	}
	w.committed.Commit(events...)
	return nil
}

// drawAggregates returns one or two, in an order in which locks cannot meet.
func drawAggregates() []int64 {
	all := []int64{1 + rand.Int64N(fuzzAggregates)}
	if other := 1 + rand.Int64N(fuzzAggregates); rand.Float64() < twoShare && other != all[0] {
		all = append(all, other)
	}
	slices.Sort(all)
	return all
}

// change returns the events that are in the transaction afterwards.
func (w *writers) change(ctx context.Context, tx pgx.Tx, aggregate int64) ([]audit.Event, error) {
	if rand.Float64() >= savepointShare {
		return w.add(ctx, tx, aggregate)
	}
	var events []audit.Event
	err := pgx.BeginFunc(ctx, tx, func(sub pgx.Tx) error {
		var err error
		if events, err = w.add(ctx, sub, aggregate); err == nil && rand.Float64() < undoShare {
			return errUndo
		}
		return err
	})
	if errors.Is(err, errUndo) {
		return nil, nil
	}
	return events, err
}

func (w *writers) add(ctx context.Context, tx pgx.Tx, aggregate int64) ([]audit.Event, error) {
	n := int64(1)
	if rand.IntN(4) == 0 {
		n += rand.Int64N(3)
	}
	var version int64
	err := tx.QueryRow(ctx, "UPDATE aggregate SET version = version + $2 WHERE id = $1 RETURNING version", aggregate, n).Scan(&version)
	if err != nil {
		return nil, fmt.Errorf("change aggregate: %w", err)
	}
	events, facts := make([]system.Event, n), make([]audit.Event, n)
	for i := range n {
		fact := audit.Event{Aggregate: aggregate, Version: version - n + 1 + i, Nonce: w.nonce.Add(1)}
		payload := make([]byte, system.PayloadHead)
		system.Mark(payload, fact.Aggregate, fact.Version, fact.Nonce)
		facts[i], events[i] = fact, system.Event{Aggregate: fact.Aggregate, Version: fact.Version, Payload: payload}
	}
	return facts, w.writer.Add(ctx, tx, events...)
}

// delay is mostly none: what goes wrong is in the few that are long.
func delay() time.Duration {
	switch n := rand.IntN(1000); {
	case n < 850:
		return 0
	case n < 970:
		return rand.N(time.Millisecond)
	case n < 998:
		return rand.N(10 * time.Millisecond)
	default:
		return rand.N(150 * time.Millisecond)
	}
}
