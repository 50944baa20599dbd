package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/slipwayhq/slipway/bench/internal/figure"
	"github.com/slipwayhq/slipway/bench/internal/lab"
	"github.com/slipwayhq/slipway/bench/peers/rig"
)

// warmUp goes before each measurement.
const warmUp = time.Second

// ourConcurrency is more than the clients there are: a saga is run where it was started.
const ourConcurrency = 1024

// race is a benchmark in which clients start one saga after the other.
type race struct {
	id      string
	clients []int
	rejects bool
	local   bool
	systems []contender
}

// lap is what came of one run of a system with one number of clients.
type lap struct {
	rate     float64 // sagas a second
	p50, p99 time.Duration
}

// results are laps by system and number of clients, in the order of the runs.
type results map[string]map[int][]lap

func runForward(ctx context.Context, b *bench) error {
	return b.race(ctx, race{id: "B7", clients: b.crowds(), systems: append(b.among(everyone()), contender{name: bare})})
}

func runLocal(ctx context.Context, b *bench) error {
	var systems []contender
	for _, c := range everyone() {
		if c.name == ours || c.name == "dbos" {
			systems = append(systems, c)
		}
	}
	return b.race(ctx, race{id: "B7b", clients: b.crowds(), local: true, systems: append(b.among(systems), contender{name: bare})})
}

func runUndone(ctx context.Context, b *bench) error {
	return b.race(ctx, race{id: "B8", clients: b.crowds(), rejects: true, systems: b.among(everyone())})
}

// crowds are the numbers of clients.
func (b *bench) crowds() []int {
	if b.clients > 0 {
		return []int{b.clients}
	}
	return []int{1, 16, 64, 512}
}

// race runs all systems, each run beginning with another one. A peer that fails is left out
// from there: the others have their figures, and it is in the error.
func (b *bench) race(ctx context.Context, r race) error {
	runs := pick(b.options, b.runs, 3, 1)
	all, failed := results{}, map[string]error{}
	for run := range runs {
		for i := range r.systems {
			c := r.systems[(run+i)%len(r.systems)]
			if failed[c.name] != nil {
				continue
			}
			err := b.compete(ctx, r, c, all)
			switch {
			case err != nil && (c.name == ours || ctx.Err() != nil):
				return fmt.Errorf("%s: %w", c.name, err)
			case err != nil:
				failed[c.name] = fmt.Errorf("%s: %w", c.name, err)
				logf("  %s %s is left out from here: %v", r.id, c.name, err)
			}
		}
	}
	b.print(raceLine(r, all, runs))
	return errors.Join(slices.Collect(maps.Values(failed))...)
}

// compete runs one system on a fresh database, with more and more clients.
func (b *bench) compete(ctx context.Context, r race, c contender, all results) (err error) {
	db, err := b.server.Create(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Drop(ctx)) }()
	s, err := b.start(ctx, c, db, rig.Options{Install: true, Local: r.local, Name: "replica-1", Concurrency: ourConcurrency})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Stop()) }()
	for _, clients := range r.clients {
		if err := errors.Join(b.server.Checkpoint(ctx), analyze(ctx, db)); err != nil {
			return err
		}
		l, err := b.lap(s, r, clients)
		if err != nil {
			return fmt.Errorf("%d clients: %w", clients, err)
		}
		if all[c.name] == nil {
			all[c.name] = map[int][]lap{}
		}
		all[c.name][clients] = append(all[c.name][clients], l)
		logf("  %s %s, %d clients: %.0f/s, p50 %s, p99 %s", r.id, c.name, clients, l.rate, l.p50, l.p99)
	}
	return nil
}

// analyze gives every system the statistics that a server has after a while.
func analyze(ctx context.Context, db *lab.Database) error { return lab.Exec(ctx, db.URL, "ANALYZE") }

func (b *bench) lap(s *system, r race, clients int) (lap, error) {
	length := pick(b.options, b.length, 6*time.Second, time.Second)
	a, err := s.ask(rig.Question{Load: &rig.Load{Clients: clients, Warm: warmUp, Length: length, Rejects: r.rejects}})
	if err != nil {
		return lap{}, err
	}
	return lapOf(a.Report, r)
}

// lapOf refuses figures of sagas that did not do what they should.
func lapOf(r rig.Report, of race) (lap, error) {
	steps := 3
	if of.rejects {
		steps = 5
	}
	switch {
	case r.Sagas == 0:
		return lap{}, errors.New("no saga came to its end")
	case r.Wrong != 0:
		return lap{}, fmt.Errorf("%d of %d sagas have not ended as they should", r.Wrong, r.Sagas)
	case r.Calls-r.Repeated != r.Sagas*steps:
		return lap{}, fmt.Errorf("%d calls, %d repeated, are not %d for each of %d sagas", r.Calls, r.Repeated, steps, r.Sagas)
	}
	times := make([]time.Duration, len(r.Micros))
	for i, us := range r.Micros {
		times[i] = time.Duration(us) * time.Microsecond
	}
	return lap{
		rate: float64(r.Sagas) / r.Took.Seconds(),
		p50:  figure.Percentile(times, 50), p99: figure.Percentile(times, 99),
	}, nil
}

// raceLine has the medians of the runs, and ours against the others as medians of the
// runs' own ratios. most is what that would be of a system that took no time at all.
func raceLine(r race, all results, runs int) *figure.Line {
	line := figure.NewLine(r.id)
	for _, c := range r.systems {
		for _, clients := range r.clients {
			laps, key := all[c.name][clients], fmt.Sprintf("%s_%d", c.name, clients)
			if len(laps) == 0 {
				continue
			}
			line.Rate(key, figure.Median(rates(laps))).
				Millis(key+"_p50_ms", middle(laps, func(l lap) time.Duration { return l.p50 })).
				Millis(key+"_p99_ms", middle(laps, func(l lap) time.Duration { return l.p99 })).
				Ratio(key+"_spread", figure.Spread(rates(laps)))
		}
	}
	for _, c := range r.systems {
		for _, clients := range r.clients {
			mine, most, its := all[ours][clients], all[bare][clients], all[c.name][clients]
			if c.name != ours && len(mine) > 0 && len(its) > 0 {
				line.Ratio(fmt.Sprintf("ratio_%s_%d", c.name, clients), figure.PairedRatio(rates(mine), rates(its)))
			}
			if c.name != bare && len(most) > 0 && len(its) > 0 {
				line.Ratio(fmt.Sprintf("most_%s_%d", c.name, clients), figure.PairedRatio(rates(most), rates(its)))
			}
		}
	}
	return line.Int("runs", runs)
}

func rates(laps []lap) (all []float64) {
	for _, l := range laps {
		all = append(all, l.rate)
	}
	return all
}

func middle(laps []lap, of func(lap) time.Duration) time.Duration {
	var all []float64
	for _, l := range laps {
		all = append(all, float64(of(l)))
	}
	return time.Duration(figure.Median(all))
}
