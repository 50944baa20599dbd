package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/slipwayhq/slipway/bench/internal/figure"
	"github.com/slipwayhq/slipway/bench/internal/lab"
	"github.com/slipwayhq/slipway/bench/peers/rig"
)

// replicas is how many processes B9 and B10 have of a system.
const replicas = 3

// joining is how long replicas get to find each other before they have work.
const joining = 3 * time.Second

// loss is what came of a replica that was killed.
type loss struct {
	flight int // sagas that were in the middle of their second step
	dead   int // those of them that the killed replica was calling it for
	// first and most are the times from the kill until another replica called the step
	// again for the first, and for 99 % of the dead one's sagas; 0 if that was not seen.
	first, most time.Duration
	recovered   int // of dead
	repeated    int // calls that were made before, of any saga and step
	unfinished  int // sagas that were not over in the end
}

func runRecovery(ctx context.Context, b *bench) error {
	line := figure.NewLine("B9")
	var errs []error
	for _, c := range b.among(everyone()) {
		if c.flight == 0 {
			continue
		}
		runs := 1
		if c.name == ours {
			c.flight = pick(b.options, b.flight, c.flight, 900)
			runs = pick(b.options, b.runs, 3, 1)
		} else if b.quick {
			c.flight, c.wait = 90, 15*time.Second
		}
		var all []loss
		for range runs {
			l, err := b.lose(ctx, c)
			if err != nil {
				return fmt.Errorf("%s: %w", c.name, err)
			}
			logf("  %s: %+v", c.name, l)
			all = append(all, l)
		}
		lossLine(line, c.name, all)
		if c.name == ours {
			errs = append(errs, judge(all))
		}
	}
	b.print(line)
	return errors.Join(errs...)
}

// judge says what Slipway must not do: leave a saga, or call a step again that was not on
// its way from the replica that was killed.
func judge(all []loss) error {
	var errs []error
	for _, l := range all {
		if l.dead == 0 {
			errs = append(errs, errors.New("the replica that was killed had no calls on their way"))
		}
		if l.unfinished > 0 || l.recovered < l.dead {
			errs = append(errs, fmt.Errorf("ours: %d sagas are not over, %d of %d recovered", l.unfinished, l.recovered, l.dead))
		}
		if l.repeated > l.dead {
			errs = append(errs, fmt.Errorf("ours: %d calls were repeated, %d were on their way", l.repeated, l.dead))
		}
	}
	return errors.Join(errs...)
}

// lossLine adds the medians of the runs, but the worst of what must not be.
func lossLine(line *figure.Line, name string, all []loss) {
	of := func(value func(loss) float64) (values []float64) {
		for _, l := range all {
			values = append(values, value(l))
		}
		return values
	}
	first := of(func(l loss) float64 { return l.first.Seconds() })
	most := of(func(l loss) float64 { return l.most.Seconds() })
	recovered := of(func(l loss) float64 { return float64(l.recovered) / float64(max(1, l.dead)) })
	line.Int(name+"_inflight", all[0].flight).Int(name+"_dead_inflight", all[0].dead).
		Text(name+"_first_s", seen(figure.Median(first))).Text(name+"_99_s", seen(figure.Median(most))).
		Text(name+"_99_worst_s", seen(slices.Max(most))).Ratio(name+"_recovered", slices.Min(recovered)).
		Rate(name+"_repeated", figure.Median(of(func(l loss) float64 { return float64(l.repeated) }))).
		Rate(name+"_repeated_beyond_dead", slices.Max(of(func(l loss) float64 { return float64(l.repeated - l.dead) }))).
		Rate(name+"_unfinished", slices.Max(of(func(l loss) float64 { return float64(l.unfinished) }))).Int(name+"_runs", len(all))
}

// seen is a time in seconds, or says that it did not come to that.
func seen(seconds float64) string {
	if seconds == 0 {
		return "never"
	}
	return fmt.Sprintf("%.3f", seconds)
}

// lose starts sagas on three replicas, kills one while all of them are in their second
// step, lets the others' calls come back at that moment, and watches.
func (b *bench) lose(ctx context.Context, c contender) (l loss, err error) {
	db, err := b.server.Create(ctx)
	if err != nil {
		return l, err
	}
	defer func() { err = errors.Join(err, db.Drop(ctx)) }()
	p := rig.NewParticipant()
	url, stop, err := p.Serve()
	if err != nil {
		return l, err
	}
	defer stop()
	all, err := b.replicas(ctx, c, db, rig.Options{Steps: url, Concurrency: c.flight})
	if err != nil {
		return l, err
	}
	defer func() {
		for _, s := range all {
			s.end()
		}
	}()
	p.Hold()
	if err := launch(ctx, all, p, c.flight); err != nil {
		return l, err
	}
	l.flight = len(p.Visits(rig.Two))
	killed := time.Now()
	all[0].Kill()
	p.Release()
	l.watch(ctx, p, all[0].name, killed, c.wait)
	l.unfinished = unfinished(ctx, all[1], c.wait)
	_, l.repeated = p.Calls()
	return l, ctx.Err()
}

// replicas starts the processes, one after the other: the first makes the tables.
func (b *bench) replicas(ctx context.Context, c contender, db *lab.Database, o rig.Options) (all []*system, err error) {
	for i := range replicas {
		o.Name, o.Install = fmt.Sprintf("replica-%d", i+1), i == 0
		s, err := b.start(ctx, c, db, o)
		if err != nil {
			for _, s := range all {
				s.end()
			}
			return nil, err
		}
		all = append(all, s)
	}
	sleep(ctx, joining)
	return all, ctx.Err()
}

// launch starts a part of the sagas on each replica, and waits until all are held in
// their second step, or no more get there.
func launch(ctx context.Context, all []*system, p *rig.Participant, n int) error {
	var starting sync.WaitGroup
	errs := make([]error, len(all))
	for i, s := range all {
		ids := make([]string, n/len(all))
		for k := range ids {
			ids[k] = rig.NewID()
		}
		starting.Go(func() { _, errs[i] = s.ask(rig.Question{Start: ids, Clients: 64}) })
	}
	starting.Wait()
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("start sagas: %w", err)
	}
	want := n / len(all) * len(all)
	for last, since := 0, time.Now(); ; sleep(ctx, 20*time.Millisecond) {
		held := len(p.Visits(rig.Two))
		if held > last {
			last, since = held, time.Now()
		}
		if held >= want || ctx.Err() != nil || time.Since(since) > 3*time.Second {
			return ctx.Err()
		}
	}
}

// watch sees the dead replica's sagas come back.
func (l *loss) watch(ctx context.Context, p *rig.Participant, dead string, killed time.Time, wait time.Duration) {
	for ; ; sleep(ctx, 50*time.Millisecond) {
		times, of := takeovers(p.Visits(rig.Two), dead, killed)
		l.dead, l.recovered = of, len(times)
		if len(times) > 0 {
			l.first = slices.Min(times)
		}
		if enough := (of*99 + 99) / 100; len(times) >= enough && enough > 0 {
			slices.Sort(times)
			l.most = times[enough-1]
		}
		if len(times) == of || time.Since(killed) > wait || ctx.Err() != nil {
			return
		}
	}
}

// takeovers returns how long it took until others called the step again that the dead
// replica was calling when it was killed, and how many such calls there were. Who calls
// then is not asked: dtm takes over the address with the name of the dead one in it.
func takeovers(visits map[string][]rig.Visit, dead string, killed time.Time) (times []time.Duration, of int) {
	for _, all := range visits {
		if all[0].By != dead || all[0].At.After(killed) {
			continue
		}
		of++
		i := slices.IndexFunc(all, func(v rig.Visit) bool { return v.At.After(killed) })
		if i >= 0 {
			times = append(times, all[i].At.Sub(killed))
		}
	}
	return times, of
}

// unfinished waits until all sagas are over, and returns how many are not.
func unfinished(ctx context.Context, s *system, wait time.Duration) int {
	for begin := time.Now(); ; sleep(ctx, 100*time.Millisecond) {
		a, err := s.ask(rig.Question{Counts: true})
		if err != nil {
			logf("    counting sagas: %v", err)
		}
		if err == nil && a.Counts.Active == 0 || time.Since(begin) > wait/2 || ctx.Err() != nil {
			return a.Counts.Active
		}
	}
}
