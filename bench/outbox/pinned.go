package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/slipwayhq/slipway/bench/internal/figure"
	"github.com/slipwayhq/slipway/bench/internal/lab"
	"github.com/slipwayhq/slipway/bench/outbox/internal/system"
	"github.com/slipwayhq/slipway/platform/outbox"
)

const (
	// parts is into how many parts the time is cut in which a transaction is held
	// open.
	parts = 5
	// pinnedPoll is how often the peers look for events. With watermill's default of a
	// second nothing else could be seen.
	pinnedPoll = 100 * time.Millisecond
)

// holder is a transaction that somebody has opened and forgotten.
type holder struct {
	name       string
	statements []string
}

func holders() []holder {
	return []holder{
		{"snapshot", []string{"BEGIN ISOLATION LEVEL REPEATABLE READ", "SELECT count(*) FROM aside"}},
		{"writer", []string{"BEGIN", "INSERT INTO aside DEFAULT VALUES"}},
	}
}

// pinned is what a system shows while a transaction is held open.
type pinned struct {
	name, holder string
	p99          []time.Duration // of each slice, from commit to publication
	deadEvents   int             // dead rows of the tables of events, at the end
	deadOther    int             // of the system's other tables
	missing      int             // events that were not published then
}

func runPinned(ctx context.Context, b *bench) error {
	hold := pick(b.options, b.hold, 5*time.Minute, 5*time.Second)
	var all []pinned
	systems := []system.System{
		system.Slipway(outbox.Config{}), system.Claim(1000),
		system.WatermillDefault(system.WatermillOptions{Batch: 100, Poll: pinnedPoll}),
	}
	if b.alone {
		systems = systems[:1]
	}
	for _, h := range holders() {
		for _, sys := range systems {
			p, err := pin(ctx, b, sys, h, hold)
			if err != nil {
				return fmt.Errorf("%s, idle %s: %w", sys.Name(), h.name, err)
			}
			logf("  %s, idle %s: p99 of each fifth %v, dead rows: %d events, %d others, %d events not published",
				p.name, h.name, p.p99, p.deadEvents, p.deadOther, p.missing)
			all = append(all, p)
		}
	}
	b.print(pinnedLine(all, hold))
	return b.verdict(judgePinned(all))
}

// bookkeeping is how many dead rows a relay may leave beside those of events: its lease
// changes hands, its steps are folded.
const bookkeeping = 100

// judgePinned returns how Slipway breaks its promise: it leaves nothing for vacuum, and
// nothing waits for the transaction.
func judgePinned(all []pinned) error {
	var errs []error
	for _, p := range all {
		if p.name == "ours" && (p.deadEvents > 0 || p.deadOther > bookkeeping || p.missing > 0) {
			errs = append(errs, fmt.Errorf("ours, idle %s: %d dead events, %d other dead rows, %d events not published", p.holder, p.deadEvents, p.deadOther, p.missing))
		}
	}
	return errors.Join(errs...)
}

// pin measures a system in a database of its own.
func pin(ctx context.Context, b *bench, sys system.System, h holder, hold time.Duration) (p pinned, err error) {
	p = pinned{name: sys.Name(), holder: h.name}
	db, err := b.server.Create(ctx)
	if err != nil {
		return p, err
	}
	defer func() { err = errors.Join(err, db.Drop(ctx)) }()
	if err := furnish(ctx, db, sys); err != nil {
		return p, err
	}
	if err := b.server.Checkpoint(ctx); err != nil {
		return p, err
	}
	j := newJourneys(int(hold.Seconds() * paceRate))
	relay, err := startRelay(ctx, sys, db.URL, j)
	if err != nil {
		return p, err
	}
	err = openShop(ctx, db, sys, paceClients, func(s *shop) error {
		s.wake = relay.Wake
		if err := s.warm(ctx); err != nil {
			return err
		}
		j.settle(ctx, len(j.received), 2*time.Second)
		j.reset()
		return h.hold(ctx, db, func() error {
			if err := s.pace(ctx, len(j.received), j.commit); err != nil {
				return err
			}
			sleep(ctx, 2*time.Second) // for what is under way, and for the statistics
			p.slice(j)
			return p.dead(ctx, db, sys)
		})
	})
	return p, errors.Join(err, relay.stop())
}

// hold runs fn while the transaction is open.
func (h holder) hold(ctx context.Context, db *lab.Database, fn func() error) error {
	conn, err := pgx.Connect(ctx, db.URL)
	if err != nil {
		return fmt.Errorf("connect to database: %w", err)
	}
	defer conn.Close(context.WithoutCancel(ctx))
	for _, sql := range h.statements {
		if _, err := conn.Exec(ctx, sql); err != nil {
			return fmt.Errorf("hold a transaction open: %w", err)
		}
	}
	return fn()
}

// dead counts the dead rows.
func (p *pinned) dead(ctx context.Context, db *lab.Database, sys system.System) (err error) {
	events, others := sys.Tables()
	if p.deadEvents, err = db.DeadRows(ctx, events); err != nil {
		return err
	}
	p.deadOther, err = db.DeadRows(ctx, others)
	return err
}

// slice reads the figures.
func (p *pinned) slice(j *journeys) {
	n := len(j.received)
	for i := range parts {
		waited, _, missing := j.waited(i*n/parts, (i+1)*n/parts)
		p.p99 = append(p.p99, figure.Percentile(waited, 99))
		p.missing += missing
	}
}

// pinnedLine has, of each system under each holder, the p99 of the first, of the
// last and of the worst part.
func pinnedLine(all []pinned, hold time.Duration) *figure.Line {
	line := figure.NewLine("B4")
	for _, p := range all {
		key := p.name + "_" + p.holder
		line.Millis(key+"_p99_first_ms", p.p99[0]).Millis(key+"_p99_last_ms", p.p99[len(p.p99)-1]).
			Millis(key+"_p99_worst_ms", slices.Max(p.p99)).
			Int(key+"_dead_events", p.deadEvents).Int(key+"_dead_bookkeeping", p.deadOther).Int(key+"_missing", p.missing)
	}
	return line.Int("rate", paceRate).Text("hold", hold.String())
}
