package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/slipwayhq/slipway/bench/internal/figure"
	"github.com/slipwayhq/slipway/bench/internal/lab"
	"github.com/slipwayhq/slipway/bench/outbox/internal/system"
	"github.com/slipwayhq/slipway/platform/outbox"
)

// cost is what a system asks of the database. Pages are not written in full after a
// checkpoint, and vacuum does not run: what rows that are deleted cost later is not in
// it, which is in favour of those who delete.
type cost struct {
	name string
	// producer is for an event, without what its business row costs; backlog for an
	// event of a relay that has many to publish, live for one at a thousand a second.
	producer, backlog, live share
	// idle are the statements of a relay without events in a second, standby those of
	// a second relay beside it.
	idle, standby float64
}

// share is for one event, or one second.
type share struct{ statements, wal float64 }

func (s share) minus(other share) share {
	return share{s.statements - other.statements, s.wal - other.wal}
}

func shareOf(r lab.Reading, n float64) share {
	return share{float64(r.Statements) / n, float64(r.WAL) / n}
}

func runCosts(ctx context.Context, b *bench) (err error) {
	if err := b.server.Autovacuum(ctx, false); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.server.Autovacuum(context.WithoutCancel(ctx), true)) }()
	base, err := produce(ctx, b, nil)
	if err != nil {
		return fmt.Errorf("business row: %w", err)
	}
	var all []cost
	for _, sys := range []system.System{
		system.Slipway(outbox.Config{}), system.Claim(1000),
		system.WatermillDefault(system.WatermillOptions{Batch: 100}), system.WatermillQueue(system.WatermillOptions{Batch: 100}),
		system.River(),
	} {
		c, err := costOf(ctx, b, sys, base)
		if err != nil {
			return fmt.Errorf("%s: %w", sys.Name(), err)
		}
		logf("  %s: %+v", c.name, c)
		all = append(all, c)
	}
	b.print(costLine(all))
	return b.verdict(judgeCosts(all))
}

// idleStatements is how many a replica without events may make in a second.
const idleStatements = 5

// judgeCosts returns how Slipway breaks its promise.
func judgeCosts(all []cost) error {
	for _, c := range all {
		if c.name == "ours" && max(c.idle, c.standby) > idleStatements {
			return fmt.Errorf("ours: %.1f statements a second idle and %.1f standing by, at most %d were promised", c.idle, c.standby, idleStatements)
		}
	}
	return nil
}

// costOf measures everything on databases of its own.
func costOf(ctx context.Context, b *bench, sys system.System, base share) (c cost, err error) {
	c.name = sys.Name()
	one, err := produce(ctx, b, sys)
	if err != nil {
		return c, fmt.Errorf("producer: %w", err)
	}
	c.producer = one.minus(base)
	if c.backlog, err = relayBacklog(ctx, b, sys); err != nil {
		return c, fmt.Errorf("backlog: %w", err)
	}
	live, err := relayLive(ctx, b, sys)
	if err != nil {
		return c, fmt.Errorf("live: %w", err)
	}
	c.live = live.minus(one)
	if c.idle, err = relayIdle(ctx, b, sys, 1); err != nil {
		return c, fmt.Errorf("idle: %w", err)
	}
	both, err := relayIdle(ctx, b, sys, 2)
	if err != nil {
		return c, fmt.Errorf("two idle: %w", err)
	}
	c.standby = both - c.idle
	return c, nil
}

// metered makes a database with the system's tables, lets fn work in it, and reads the
// meter, which fn may reset.
func metered(ctx context.Context, b *bench, sys system.System, fn func(db *lab.Database, m *lab.Meter) error) (r lab.Reading, err error) {
	db, err := b.server.Create(ctx)
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, db.Drop(ctx)) }()
	if err := furnish(ctx, db, sys); err != nil {
		return r, err
	}
	m, err := db.Meter(ctx)
	if err != nil {
		return r, err
	}
	if err := fn(db, m); err != nil {
		return r, err
	}
	return m.Read(ctx)
}

// produce measures one transaction after the other. Without a system they change the
// business row only.
func produce(ctx context.Context, b *bench, sys system.System) (share, error) {
	const warm = 100
	n := pick(b.options, 0, 5000, 500)
	r, err := metered(ctx, b, sys, func(db *lab.Database, m *lab.Meter) error {
		return openShop(ctx, db, sys, 1, func(s *shop) error {
			conn, err := s.pool.Acquire(ctx)
			if err != nil {
				return fmt.Errorf("connect to database: %w", err)
			}
			defer conn.Release()
			for i := range n + warm {
				if i == warm {
					if err := m.Reset(ctx); err != nil {
						return err
					}
				}
				if err := s.sell(ctx, conn, int64(i)); err != nil {
					return err
				}
			}
			return nil
		})
	})
	return shareOf(r, float64(n)), err
}

func relayBacklog(ctx context.Context, b *bench, sys system.System) (share, error) {
	n := pick(b.options, 0, 50_000, 5000)
	r, err := metered(ctx, b, sys, func(db *lab.Database, m *lab.Meter) error {
		if err := sys.Fill(ctx, db.URL, n); err != nil {
			return err
		}
		if err := lab.Exec(ctx, db.URL, "ANALYZE"); err != nil {
			return err
		}
		if err := m.Reset(ctx); err != nil {
			return err
		}
		_, err := drain(ctx, sys, db.URL, n)
		return err
	})
	return shareOf(r, float64(n)), err
}

// relayLive measures a relay that is not behind. What the producer does is in it.
func relayLive(ctx context.Context, b *bench, sys system.System) (share, error) {
	length := pick(b.options, 0, 10*time.Second, 2*time.Second)
	n := int(length.Seconds() * paceRate)
	r, err := metered(ctx, b, sys, func(db *lab.Database, m *lab.Meter) error {
		return openShop(ctx, db, sys, paceClients, func(s *shop) error {
			relay, err := startRelay(ctx, sys, db.URL, &s.sink)
			if err != nil {
				return err
			}
			s.wake = relay.Wake
			err = s.warm(ctx)
			if err == nil {
				err = m.Reset(ctx)
			}
			if err == nil {
				err = s.pace(ctx, n, func(int, time.Time, time.Time) {})
			}
			return errors.Join(err, s.drained(ctx), relay.stop())
		})
	})
	return shareOf(r, float64(n)), err
}

// relayIdle returns how many statements a second relays make that have nothing to do.
func relayIdle(ctx context.Context, b *bench, sys system.System, relays int) (float64, error) {
	length := pick(b.options, 0, 15*time.Second, 3*time.Second)
	var idle lab.Reading
	_, err := metered(ctx, b, sys, func(db *lab.Database, m *lab.Meter) error {
		var errs []error
		for range relays {
			relay, err := startRelay(ctx, sys, db.URL, new(tally))
			if err != nil {
				return err
			}
			defer func() { errs = append(errs, relay.stop()) }()
		}
		sleep(ctx, 2*time.Second) // they connect, and find out who is active
		if err := m.Reset(ctx); err != nil {
			return err
		}
		sleep(ctx, length)
		var err error
		idle, err = m.Read(ctx)
		return errors.Join(err, ctx.Err())
	})
	return float64(idle.Statements) / length.Seconds(), err
}

func costLine(all []cost) *figure.Line {
	line := figure.NewLine("B12")
	for _, c := range all {
		for _, part := range []struct {
			key   string
			share share
		}{{"producer", c.producer}, {"backlog", c.backlog}, {"live", c.live}} {
			line.Ratio(fmt.Sprintf("%s_%s_statements", c.name, part.key), part.share.statements).
				Rate(fmt.Sprintf("%s_%s_wal", c.name, part.key), part.share.wal)
		}
		line.Ratio(c.name+"_idle_statements_s", c.idle).Ratio(c.name+"_standby_statements_s", c.standby)
	}
	return line
}
