package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/slipwayhq/slipway/bench/internal/figure"
	"github.com/slipwayhq/slipway/bench/outbox/internal/audit"
)

// settled is how long nothing new must have arrived, after the last transaction and
// with both relays alive, until what is missing is lost.
const settled = 10 * time.Second

// fuzzResult is what a system has shown.
type fuzzResult struct {
	audit.Verdict

	name          string
	transactions  int
	kills, pauses int
}

func runFuzz(ctx context.Context, b *bench) error {
	n := pick(b.options, b.transactions, 1_000_000, 20_000)
	peers := min(n, max(n/10, 20_000))
	var results []fuzzResult
	for _, name := range []string{"ours", "watermill", "watermill_queue", "claim", "after_last", "horizon"} {
		transactions := peers
		if name == "ours" {
			transactions = n
		}
		r, err := fuzz(ctx, b, name, transactions)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		logf("  %s: %+v, %d transactions, %d kills, %d pauses", name, r.Verdict, r.transactions, r.kills, r.pauses)
		results = append(results, r)
	}
	b.print(fuzzLine(results))
	return judge(results)
}

func fuzz(ctx context.Context, b *bench, name string, transactions int) (r fuzzResult, err error) {
	db, err := b.server.Create(ctx)
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, db.Drop(ctx)) }()
	sys := fuzzed()[name]()
	if err := sys.Install(ctx, db.URL); err != nil {
		return r, err
	}
	w, err := newWriters(ctx, sys, db, transactions)
	if err != nil {
		return r, err
	}
	defer w.close()
	c, err := startCollector(ctx)
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, c.stop()) }()
	p, err := startPair(ctx, name, db.URL, c)
	if err != nil {
		return r, err
	}
	err = errors.Join(exercise(ctx, w, p), p.stop())
	return fuzzResult{
		Verdict: audit.Judge(w.committed, c.arrived), name: name, transactions: transactions, kills: p.kills, pauses: p.pauses,
	}, err
}

// exercise writes and hits the relays, then waits until everything has arrived, or
// nothing more comes.
func exercise(ctx context.Context, w *writers, p *pair) error {
	writing, done := context.WithCancel(ctx)
	struck := make(chan error, 1)
	go func() { struck <- p.strike(writing, ctx) }()
	stopProgress := report(writing, w, p)
	err := w.run(ctx)
	done()
	stopProgress()
	if err := errors.Join(err, <-struck); err != nil {
		return err
	}
	return p.collector.settle(ctx, w.committed)
}

// report tells how far it has come. The function ends that.
func report(ctx context.Context, w *writers, p *pair) (stop func()) {
	ended := make(chan struct{})
	ctx, cancel := context.WithCancel(ctx)
	go func() {
		defer close(ended)
		for {
			sleep(ctx, 10*time.Second)
			if ctx.Err() != nil {
				return
			}
			logf("    %d transactions to go, %d events committed, %d arrived", w.todo.Load(), w.committed.Len(), p.collector.arrived.Distinct())
		}
	}()
	return func() {
		cancel()
		<-ended
	}
}

// settle waits for what is committed.
func (c *collector) settle(ctx context.Context, committed *audit.Ledger) error {
	arrived, since := -1, time.Now()
	for {
		if n := c.arrived.Distinct(); n != arrived {
			arrived, since = n, time.Now()
		}
		quiet := time.Since(since)
		if quiet > settled || arrived >= committed.Len() && quiet > settled/5 {
			return nil
		}
		if sleep(ctx, 100*time.Millisecond); ctx.Err() != nil {
			return context.Cause(ctx)
		}
	}
}

func fuzzLine(results []fuzzResult) *figure.Line {
	line := figure.NewLine("B5")
	for _, r := range results {
		line.Int(r.name+"_inversions", r.Inversions).Int(r.name+"_losses", r.Losses).
			Int(r.name+"_phantoms", r.Phantoms).Int(r.name+"_duplicates", r.Duplicates).
			Int(r.name+"_transactions", r.transactions).Int(r.name+"_events", r.Committed).
			Int(r.name+"_kills", r.kills).Int(r.name+"_pauses", r.pauses)
	}
	return line
}

// judge returns how Slipway breaks its promise. If nobody loses an event, or nobody
// breaks an order, the count cannot be trusted.
func judge(results []fuzzResult) error {
	var errs []error
	var losses, inversions int
	for _, r := range results {
		if r.name != "ours" {
			losses, inversions = losses+r.Losses, inversions+r.Inversions
			continue
		}
		if r.Losses+r.Inversions+r.Phantoms > 0 {
			errs = append(errs, fmt.Errorf("ours: %d losses, %d inversions, %d phantoms", r.Losses, r.Inversions, r.Phantoms))
		}
		if r.Committed == 0 || r.kills == 0 {
			errs = append(errs, fmt.Errorf("ours: %d events and %d kills are no proof", r.Committed, r.kills))
		}
	}
	if losses == 0 || inversions == 0 {
		errs = append(errs, fmt.Errorf("the peers have %d losses and %d inversions: the count cannot be trusted", losses, inversions))
	}
	return errors.Join(errs...)
}
