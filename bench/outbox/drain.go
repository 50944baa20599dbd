package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/slipwayhq/slipway/bench/internal/figure"
	"github.com/slipwayhq/slipway/bench/internal/lab"
	"github.com/slipwayhq/slipway/bench/outbox/internal/system"
	"github.com/slipwayhq/slipway/platform/outbox"
)

// drainTimeout bounds one drain. A peer that takes longer is judged by what it has
// done until then.
const drainTimeout = 4 * time.Minute

// stock is a table of waiting events that several contenders drain copies of.
type stock struct {
	rows       int
	reference  bool // not a relay: it is shown, but not called the best peer
	contenders []*contender
	database   *lab.Database
}

// contender drains a stock. rates are its events a second, one a run; rows is how
// many it came to drain.
type contender struct {
	system.System

	rates []float64
	rows  int
}

func contenders(systems ...system.System) []*contender {
	all := make([]*contender, len(systems))
	for i, s := range systems {
		all[i] = &contender{System: s}
	}
	return all
}

// stocks are filled with events of one transaction each, but for River, which has a
// way of its own.
func stocks(n int) []*stock {
	return []*stock{
		{rows: n, contenders: contenders(system.Slipway(outbox.Config{}), system.Slipway(outbox.Config{Batch: 4000}))},
		{rows: n, contenders: contenders(system.Claim(1000), system.Claim(5000), system.Claim(10_000))},
		{rows: n, contenders: contenders(
			system.WatermillQueue(system.WatermillOptions{Batch: 100}), system.WatermillQueue(system.WatermillOptions{Batch: 1000}))},
		{rows: n, contenders: contenders(
			system.WatermillDefault(system.WatermillOptions{Batch: 100}), system.WatermillDefault(system.WatermillOptions{Batch: 1000}))},
		{rows: n, reference: true, contenders: contenders(system.River())},
	}
}

// named are the peers that were asked for.
func (o options) named() []string {
	return strings.FieldsFunc(o.peers, func(r rune) bool { return r == ',' })
}

// among keeps ours, and the peers that were asked for.
func (o options) among(all []*stock) []*stock {
	named := o.named()
	if len(named) == 0 {
		return all
	}
	for _, s := range all[1:] {
		s.contenders = slices.DeleteFunc(s.contenders, func(c *contender) bool { return !slices.Contains(named, c.Name()) })
	}
	return slices.DeleteFunc(all, func(s *stock) bool { return len(s.contenders) == 0 })
}

func (s *stock) named(name string) bool {
	return slices.ContainsFunc(s.contenders, func(c *contender) bool { return c.Name() == name })
}

func runDrain(ctx context.Context, b *bench) error {
	n := pick(b.options, b.events, 300_000, 30_000)
	runs := pick(b.options, b.runs, 3, 1)
	if n > 1_000_000 {
		return drainLong(ctx, b, n, runs)
	}
	all := b.among(stocks(n))
	for _, s := range all {
		if err := s.fill(ctx, b.server); err != nil {
			return err
		}
	}
	for run := range runs {
		for i := range all { // each run begins with another one
			s := all[(run+i)%len(all)]
			for _, c := range s.contenders {
				if err := c.drain(ctx, b, s, run); err != nil {
					return fmt.Errorf("%s: %w", c.Name(), err)
				}
			}
		}
	}
	r := compare(all)
	b.print(drainLine(all, r, runs))
	errs := []error{b.verdict(r.judge())}
	for _, s := range all {
		errs = append(errs, s.database.Drop(ctx))
	}
	return errors.Join(errs...)
}

// fill stores the events once. Every run drains a copy.
func (s *stock) fill(ctx context.Context, server *lab.Server) error {
	db, err := server.Create(ctx)
	if err != nil {
		return err
	}
	s.database = db
	first := s.contenders[0]
	if err := first.Install(ctx, db.URL); err != nil {
		return err
	}
	begin := time.Now()
	if err := first.Fill(ctx, db.URL, s.rows); err != nil {
		return err
	}
	logf("  filled %d rows for %s in %s", s.rows, first.Name(), time.Since(begin).Round(time.Millisecond))
	return lab.Exec(ctx, db.URL, "ANALYZE")
}

func (c *contender) drain(ctx context.Context, b *bench, s *stock, run int) error {
	db, err := s.database.Copy(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = db.Drop(ctx) }()
	if err := b.server.Checkpoint(ctx); err != nil {
		return err
	}
	d, err := drain(ctx, c.System, db.URL, s.rows)
	if err != nil {
		return err
	}
	c.rates, c.rows = append(c.rates, d.rate()), d.events
	logf("  run %d: %s drains %d of %d events at %.0f/s (%.0f/s after the first batch)",
		run+1, c.Name(), d.events, s.rows, d.rate(), 1/d.each.Seconds())
	return nil
}

// drained is what a relay has done.
type drained struct {
	events int
	took   time.Duration // from its start
	each   time.Duration // for an event after the first batch
}

func (d drained) rate() float64 { return float64(d.events) / d.took.Seconds() }

// drain runs a relay until it has published n events, or for drainTimeout.
func drain(ctx context.Context, sys system.System, url string, n int) (drained, error) {
	sink := newCounter(n)
	begin := time.Now()
	relay, err := startRelay(ctx, sys, url, sink)
	if err != nil {
		return drained{}, err
	}
	var early error
	select {
	case <-sink.done:
	case <-time.After(drainTimeout):
	case <-ctx.Done():
		early = context.Cause(ctx)
	case <-relay.ended:
		early = errors.New("the relay has ended")
	}
	d := sink.drained(begin)
	if d.events == 0 {
		early = errors.Join(early, errors.New("nothing was published"))
	}
	return d, errors.Join(early, relay.stop())
}

// drainRatios compares ours at its best with others. Ratios are those of the runs,
// paired.
type drainRatios struct {
	ours, best      *contender
	toBest, toUsual float64 // the fastest peer, and watermill-sql as it comes, 0 without that
}

// usualPeer is watermill-sql with its defaults.
const usualPeer = "watermill_100"

func compare(all []*stock) (r drainRatios) {
	fastest := func(all []*contender) *contender {
		return slices.MaxFunc(all, func(a, b *contender) int {
			return cmp.Compare(figure.Median(a.rates), figure.Median(b.rates))
		})
	}
	r.ours = fastest(all[0].contenders)
	var peers []*contender
	for _, s := range all[1:] {
		if !s.reference {
			peers = append(peers, s.contenders...)
		}
	}
	r.best = fastest(peers)
	r.toBest = figure.PairedRatio(r.ours.rates, r.best.rates)
	for _, c := range peers {
		if c.Name() == usualPeer {
			r.toUsual = figure.PairedRatio(r.ours.rates, c.rates)
		}
	}
	return r
}

// judge returns how Slipway breaks its promise.
func (r drainRatios) judge() error {
	var errs []error
	for _, promise := range []struct {
		name         string
		ratio, least float64
	}{{r.best.Name(), r.toBest, 3}, {usualPeer, r.toUsual, 60}} {
		if promise.ratio > 0 && promise.ratio < promise.least {
			errs = append(errs, fmt.Errorf("ours: %.2f times %s, at least %g were promised", promise.ratio, promise.name, promise.least))
		}
	}
	return errors.Join(errs...)
}

func drainLine(all []*stock, r drainRatios, runs int) *figure.Line {
	line := figure.NewLine("B1").Rate("ours", figure.Median(r.ours.rates)).Text("ours_name", r.ours.Name()).
		Rate("best_peer", figure.Median(r.best.rates)).Text("peer_name", r.best.Name()).Ratio("ratio", r.toBest).
		Ratio("spread", figure.Spread(r.ours.rates)).Ratio("best_peer_spread", figure.Spread(r.best.rates)).
		Int("runs", runs).Int("events", all[0].rows).Rate("ours_default", figure.Median(all[0].contenders[0].rates))
	for _, s := range all[1:] {
		for _, c := range s.contenders {
			line.Rate(c.Name(), figure.Median(c.rates)).Int(c.Name()+"_rows", c.rows)
		}
	}
	if r.toUsual > 0 {
		line.Ratio("ratio_watermill_default", r.toUsual)
	}
	return line
}

// drainLong shows whether an event of a long backlog costs more than one of a short
// one. The events lie in transactions of a hundred: one by one would take an hour.
// Nobody has looked at them before, neither vacuum nor ANALYZE: the first to do so
// marks each row, and of a short backlog that would be done already.
func drainLong(ctx context.Context, b *bench, n, runs int) (err error) {
	const short = 100_000
	if err := b.server.Autovacuum(ctx, false); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.server.Autovacuum(context.WithoutCancel(ctx), true)) }()
	costs := make(map[int][]float64)
	bases := make(map[int]*lab.Database)
	for _, rows := range []int{short, n} {
		db, err := fillLong(ctx, b.server, rows)
		if err != nil {
			return err
		}
		defer func() { _ = db.Drop(ctx) }()
		bases[rows] = db
	}
	for run := range runs {
		for _, rows := range []int{short, n} {
			each, err := drainCopy(ctx, bases[rows], rows)
			if err != nil {
				return err
			}
			costs[rows] = append(costs[rows], each)
			logf("  run %d: %d events at %.3f us each", run+1, rows, each)
		}
	}
	b.print(figure.NewLine("B1b").Ratio("ours_100k_us", figure.Median(costs[short])).
		Ratio(fmt.Sprintf("ours_%dm_us", n/1_000_000), figure.Median(costs[n])).
		Ratio("ratio", figure.PairedRatio(costs[n], costs[short])).Ratio("spread", figure.PairedSpread(costs[n], costs[short])).
		Int("events", n).Int("runs", runs))
	return nil
}

func fillLong(ctx context.Context, server *lab.Server, rows int) (*lab.Database, error) {
	db, err := server.Create(ctx)
	if err != nil {
		return nil, err
	}
	begin := time.Now()
	err = system.Slipway(outbox.Config{}).Install(ctx, db.URL)
	if err == nil {
		err = system.FillBulk(ctx, db.URL, rows, 100)
	}
	if err != nil {
		return nil, errors.Join(err, db.Drop(ctx))
	}
	logf("  filled %d rows in %s", rows, time.Since(begin).Round(time.Millisecond))
	return db, nil
}

// drainCopy returns the microseconds of an event.
func drainCopy(ctx context.Context, base *lab.Database, rows int) (float64, error) {
	db, err := base.Copy(ctx)
	if err != nil {
		return 0, err
	}
	defer func() { _ = db.Drop(ctx) }()
	d, err := drain(ctx, system.Slipway(outbox.Config{}), db.URL, rows)
	if err == nil && d.events < rows {
		err = fmt.Errorf("drained %d events of %d", d.events, rows)
	}
	return float64(d.each.Nanoseconds()) / 1e3, err
}
