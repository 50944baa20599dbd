package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/slipwayhq/slipway/bench/internal/figure"
	"github.com/slipwayhq/slipway/bench/peers/rig"
)

// cost is what a saga asks of the database. Pages are not written in full after a
// checkpoint, and vacuum does not run: what rows that are changed or deleted cost later is
// not in it, nor is what the benchmark itself asks.
type cost struct {
	statements, wal float64
	cpu             time.Duration
}

func runCosts(ctx context.Context, b *bench) (err error) {
	if err := b.server.Autovacuum(ctx, false); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.server.Autovacuum(context.WithoutCancel(ctx), true)) }()
	line := figure.NewLine("B12")
	for _, c := range b.among(everyone()) {
		costs, err := b.costsOf(ctx, c)
		if err != nil {
			return fmt.Errorf("%s: %w", c.name, err)
		}
		for i, clients := range costClients {
			key := fmt.Sprintf("%s_%d", c.name, clients)
			line.Ratio(key+"_statements", costs[i].statements).Rate(key+"_wal", costs[i].wal).
				Ratio(key+"_cpu_ms", float64(costs[i].cpu.Microseconds())/1e3)
		}
	}
	b.print(line)
	return nil
}

// costClients are the numbers of clients that B12 measures with.
var costClients = []int{1, 64}

func (b *bench) costsOf(ctx context.Context, c contender) (costs []cost, err error) {
	db, err := b.server.Create(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, db.Drop(ctx)) }()
	meter, err := db.Meter(ctx)
	if err != nil {
		return nil, err
	}
	s, err := b.start(ctx, c, db, rig.Options{Install: true, Name: "replica-1", Concurrency: ourConcurrency})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, s.Stop()) }()
	length := pick(b.options, b.length, 6*time.Second, time.Second)
	for _, clients := range costClients {
		if _, err := s.ask(rig.Question{Load: &rig.Load{Clients: clients, Length: warmUp}}); err != nil {
			return nil, fmt.Errorf("warm up: %w", err)
		}
		before, err := b.server.CPU()
		if err = errors.Join(err, meter.Reset(ctx)); err != nil {
			return nil, err
		}
		a, err := s.ask(rig.Question{Load: &rig.Load{Clients: clients, Length: length}})
		if err != nil {
			return nil, err
		}
		reading, err := meter.Read(ctx)
		after, cpuErr := b.server.CPU()
		if err = errors.Join(err, cpuErr); err != nil {
			return nil, err
		}
		n := a.Report.Sagas
		costs = append(costs, cost{
			statements: float64(reading.Statements-int64(a.Report.Asked)) / float64(n), wal: float64(reading.WAL) / float64(n),
			cpu: (after - before) / time.Duration(n),
		})
		logf("  %s, %d clients: %+v over %d sagas", c.name, clients, costs[len(costs)-1], n)
	}
	return costs, nil
}
