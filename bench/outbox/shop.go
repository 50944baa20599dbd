package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/slipwayhq/slipway/bench/internal/lab"
	"github.com/slipwayhq/slipway/bench/outbox/internal/system"
	"github.com/slipwayhq/slipway/platform/broker"
)

// tally is a broker that takes everything and counts.
type tally struct{ count atomic.Int64 }

// Publish implements broker.Publisher.
func (t *tally) Publish(_ context.Context, messages []broker.Message) error {
	t.count.Add(int64(len(messages)))
	return nil
}

// furnish makes the tables that a shop needs, and one that others may write to.
func furnish(ctx context.Context, db *lab.Database, sys system.System) error {
	if sys != nil {
		if err := sys.Install(ctx, db.URL); err != nil {
			return err
		}
	}
	return lab.Exec(ctx, db.URL,
		"CREATE TABLE aside (id bigserial PRIMARY KEY)",
		"CREATE TABLE business (id bigint PRIMARY KEY, version bigint NOT NULL, note text NOT NULL) WITH (fillfactor = 70)",
		fmt.Sprintf("INSERT INTO business SELECT g, 0, repeat('x', 100) FROM generate_series(1, %d) AS g", businessRows),
		"VACUUM ANALYZE")
}

// businessRows is the size of the table that transactions change a row of.
const businessRows = 10_000

// The load of those that are not to write as fast as they can.
const (
	paceRate    = 1000
	paceClients = 16
)

// unnumbered is the number of events that nobody looks for.
const unnumbered = -1

// shop runs business transactions: change a row, add an event.
type shop struct {
	server *lab.Server
	pool   *pgxpool.Pool
	writer system.Writer // nil adds no events
	wake   func()        // after each commit, may be nil
	sink   tally

	committed atomic.Int64
}

// openShop lets fn work with a shop of a pool of connections. Without a system its
// transactions add no events.
func openShop(ctx context.Context, db *lab.Database, sys system.System, clients int, fn func(s *shop) error) error {
	pool, err := db.Pool(ctx, clients)
	if err != nil {
		return err
	}
	defer pool.Close()
	s := &shop{server: db.Server(), pool: pool}
	if sys != nil {
		if s.writer, err = sys.Writer(ctx, pool); err != nil {
			return err
		}
		defer s.writer.Close()
	}
	return fn(s)
}

// while is what a shop did in some time.
type while struct {
	rate float64       // transactions a second
	cpu  time.Duration // that this process and the server took for a transaction
	lag  int           // events that were not published yet when the time was over
}

// measure lets clients write as fast as they can, at first for a quarter of length to
// warm up.
func (s *shop) measure(ctx context.Context, clients int, length time.Duration) (w while, err error) {
	running, stop := context.WithCancel(ctx)
	defer stop()
	var all sync.WaitGroup
	errs := make([]error, clients)
	for i := range clients {
		all.Go(func() { errs[i] = s.serve(running, ctx) })
	}
	sleep(ctx, length/4)
	cpu, cpuErr := s.server.AllCPU()
	begin, before := time.Now(), s.committed.Load()
	sleep(ctx, length)
	took, done := time.Since(begin), s.committed.Load()-before
	cpuAfter, cpuAfterErr := s.server.AllCPU()
	w.rate, w.cpu = float64(done)/took.Seconds(), (cpuAfter-cpu)/time.Duration(max(1, done))
	w.lag = int(s.committed.Load() - s.sink.count.Load())
	stop()
	all.Wait()
	return w, errors.Join(append(errs, cpuErr, cpuAfterErr, ctx.Err())...)
}

// serve is one client on a connection of its own, until running ends.
func (s *shop) serve(running, ctx context.Context) error {
	conn, err := s.pool.Acquire(ctx)
	if err != nil {
		return fmt.Errorf("connect to database: %w", err)
	}
	defer conn.Release()
	for running.Err() == nil {
		if err := s.sell(ctx, conn, unnumbered); err != nil {
			return err
		}
	}
	return nil
}

// pace makes n transactions, paceRate a second, by paceClients. Each of them is due at
// its time whatever became of those before it: who falls behind makes up for it. The
// events are numbered from 0.
func (s *shop) pace(ctx context.Context, n int, done func(number int, due, committed time.Time)) error {
	var all sync.WaitGroup
	errs := make([]error, paceClients)
	begin := time.Now()
	for c := range errs {
		all.Go(func() {
			conn, err := s.pool.Acquire(ctx)
			if err != nil {
				errs[c] = fmt.Errorf("connect to database: %w", err)
				return
			}
			defer conn.Release()
			for i := c; i < n && errs[c] == nil; i += paceClients {
				due := begin.Add(time.Duration(i) * time.Second / paceRate)
				if wait := time.Until(due); wait > 0 {
					sleep(ctx, wait)
				}
				errs[c] = errors.Join(s.sell(ctx, conn, int64(i)), ctx.Err())
				done(i, due, time.Now())
			}
		})
	}
	all.Wait()
	return errors.Join(errs...)
}

// warm keeps the pace for a second, so that all connections are there.
func (s *shop) warm(ctx context.Context) error {
	return s.pace(ctx, paceRate, func(int, time.Time, time.Time) {})
}

// sell changes a row, whose version is that of the event, and wakes the relay.
func (s *shop) sell(ctx context.Context, conn *pgxpool.Conn, number int64) error {
	id := 1 + rand.Int64N(businessRows)
	err := pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		var version int64
		err := tx.QueryRow(ctx, "UPDATE business SET version = version + 1 WHERE id = $1 RETURNING version", id).Scan(&version)
		if err != nil || s.writer == nil {
			return err
		}
		payload := make([]byte, system.PayloadSize)
		system.Mark(payload, id, version, number)
		return s.writer.Add(ctx, tx, system.Event{Aggregate: id, Version: version, Payload: payload})
	})
	if err != nil {
		return fmt.Errorf("run business transaction: %w", err)
	}
	s.committed.Add(1)
	if s.wake != nil {
		s.wake()
	}
	return nil
}

// drained waits until all committed events are published.
func (s *shop) drained(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, time.Minute, errors.New("the relay did not publish what was committed within a minute"))
	defer cancel()
	for s.sink.count.Load() < s.committed.Load() {
		if sleep(ctx, 10*time.Millisecond); ctx.Err() != nil {
			return context.Cause(ctx)
		}
	}
	return nil
}
