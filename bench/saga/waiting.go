package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/slipwayhq/slipway/bench/internal/figure"
	"github.com/slipwayhq/slipway/bench/internal/lab"
	"github.com/slipwayhq/slipway/bench/peers/rig"
)

// mostIdle is what an idle replica may ask of the database, in statements a second.
const mostIdle = 5

// runWaiting has sagas that sleep for a month, watches replicas that have nothing to do,
// and then makes a tenth of the sagas due at once.
func runWaiting(ctx context.Context, b *bench) (err error) {
	n := pick(b.options, b.waiting, 1_000_000, 20_000)
	db, err := b.server.Create(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Drop(ctx)) }()
	meter, err := db.Meter(ctx)
	if err != nil {
		return err
	}
	pool, err := db.Pool(ctx, 2)
	if err != nil {
		return err
	}
	defer pool.Close()
	// The participant is in the replicas: nothing but the sagas is measured.
	o := rig.Options{Local: true, Name: "replica-0", Install: true}
	if err := b.sleepers(ctx, contender{name: oursWaiting}, db, pool, o, n); err != nil {
		return err
	}
	if err := errors.Join(lab.Exec(ctx, db.URL, "VACUUM ANALYZE slipway.saga"), b.server.Checkpoint(ctx)); err != nil {
		return err
	}
	base, err := b.quiet(ctx, meter, 0)
	if err != nil {
		return err
	}
	all, err := b.replicas(ctx, contender{name: oursWaiting}, db, o)
	if err != nil {
		return err
	}
	defer func() {
		for _, s := range all {
			err = errors.Join(err, s.Stop())
		}
	}()
	idle, err := b.quiet(ctx, meter, replicas)
	if err != nil {
		return err
	}
	logf("  idle: %+v, without replicas: %+v", idle, base)
	if err := b.sleepers(ctx, contender{name: oursStorm}, db, pool, o, n/10); err != nil {
		return err
	}
	s, err := b.storm(ctx, pool, n/10)
	if err != nil {
		return err
	}
	b.print(figure.NewLine("B10").Int("ours_waiting", n).Ratio("ours_idle_statements_s", idle.statements).
		Ratio("ours_idle_cpu_ms_s", idle.cpu).Ratio("no_replica_cpu_ms_s", base.cpu).
		Int("ours_storm", n/10).Rate("ours_storm_rate", s.rate).Ratio("ours_storm_s", s.took.Seconds()).
		Ratio("ours_storm_first_s", s.first.Seconds()).Int("replicas", replicas))
	if idle.statements > mostIdle {
		return fmt.Errorf("an idle replica makes %.1f statements a second, more than %d", idle.statements, mostIdle)
	}
	return nil
}

// sleepers lets Slipway put one saga to sleep, and copies its row: all n are due when it
// is.
func (b *bench) sleepers(ctx context.Context, c contender, db *lab.Database, pool *pgxpool.Pool, o rig.Options, n int) error {
	s, err := b.start(ctx, c, db, o)
	if err != nil {
		return err
	}
	id := rig.NewID()
	_, err = s.ask(rig.Question{Start: []string{id}})
	for asleep := false; err == nil && !asleep; sleep(ctx, 20*time.Millisecond) {
		err = pool.QueryRow(ctx, "SELECT owner IS NULL AND next_run_at > created_at FROM slipway.saga WHERE id = $1", id).Scan(&asleep)
	}
	if err = errors.Join(err, s.Stop()); err != nil {
		return fmt.Errorf("put a saga to sleep: %w", err)
	}
	begin := time.Now()
	_, err = pool.Exec(ctx, `INSERT INTO slipway.saga (id, token, owner, next_run_at, deadline, failing_since, created_at, updated_at, definition,
			claims, stage, status, backward, steps, data, waits_for, headers, reason, problem)
		SELECT gen_random_uuid(), token, owner, next_run_at, deadline, failing_since, created_at, updated_at, definition,
			claims, stage, status, backward, steps, data, waits_for, headers, reason, problem
		FROM slipway.saga, generate_series(2, $2) WHERE id = $1`, id, n)
	if err != nil {
		return fmt.Errorf("copy sagas: %w", err)
	}
	logf("  %d sagas of %s sleep, after %s", n, c.name, time.Since(begin).Round(time.Second))
	return nil
}

// calm is what the database has to do for a replica in a second: statements, and
// milliseconds of CPU.
type calm struct{ statements, cpu float64 }

// quiet measures for a while, and returns what one of so many replicas asks.
func (b *bench) quiet(ctx context.Context, m *lab.Meter, of int) (calm, error) {
	length := pick(b.options, 0, time.Minute, 5*time.Second)
	before, err := b.server.CPU()
	if err = errors.Join(err, m.Reset(ctx)); err != nil {
		return calm{}, err
	}
	sleep(ctx, length)
	r, err := m.Read(ctx)
	after, cpuErr := b.server.CPU()
	each := length.Seconds() * float64(max(1, of))
	return calm{float64(r.Statements) / each, float64((after - before).Milliseconds()) / each}, errors.Join(err, cpuErr, ctx.Err())
}

// tempest is what came of sagas that were due at once. Times are since then.
type tempest struct {
	rate        float64
	first, took time.Duration
}

// storm waits until n sagas that are due at once are over.
func (b *bench) storm(ctx context.Context, pool *pgxpool.Pool, n int) (t tempest, err error) {
	var due time.Time
	err = pool.QueryRow(ctx, `SELECT max(next_run_at) FROM slipway.saga s JOIN slipway.saga_definition d ON d.id = s.definition
		WHERE d.name = 'storm'`).Scan(&due)
	if err != nil {
		return t, fmt.Errorf("find out when sagas are due: %w", err)
	}
	if left := time.Until(due); left < 0 {
		return t, fmt.Errorf("sagas were due %s before all of them were there", -left)
	}
	for over := 0; over < n; sleep(ctx, time.Second) {
		var first, last *time.Time
		err := pool.QueryRow(ctx, "SELECT count(*), min(finished_at), max(finished_at) FROM slipway.saga_finished").Scan(&over, &first, &last)
		if err != nil {
			return t, fmt.Errorf("count sagas: %w", err)
		}
		if over > 0 {
			t.first, t.took = first.Sub(due), last.Sub(due)
			logf("    %d of %d sagas are over", over, n)
		}
	}
	t.rate = float64(n) / t.took.Seconds()
	return t, nil
}
