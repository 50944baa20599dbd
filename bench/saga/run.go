package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/slipwayhq/slipway/bench/internal/figure"
	"github.com/slipwayhq/slipway/bench/internal/lab"
	"github.com/slipwayhq/slipway/bench/peers/rig"
)

// options are the flags of the command. Those of child are for the processes that it
// starts.
type options struct {
	ids      []string
	runs     int
	length   time.Duration
	flight   int
	waiting  int
	systems  string
	clients  int
	quick    bool
	serve    bool
	child    rig.Options
	profiles string
}

// benchmark is one of those that the command knows.
type benchmark struct {
	id, about string
	limit     time.Duration
	run       func(ctx context.Context, b *bench) error
}

func benchmarks() []benchmark {
	return []benchmark{
		{"B7", "sagas of three steps", 60 * time.Minute, runForward},
		{"B7B", "the same without HTTP", 30 * time.Minute, runLocal},
		{"B8", "sagas that are undone", 60 * time.Minute, runUndone},
		{"B9", "kill -9 with sagas in flight", 60 * time.Minute, runRecovery},
		{"B10", "a million sagas that wait, and a storm", 40 * time.Minute, runWaiting},
		{"B12", "statements, log and CPU for a saga", 30 * time.Minute, runCosts},
	}
}

// bench is what a benchmark works with.
type bench struct {
	options

	server *lab.Server
	peers  *peers
}

func parse(args []string) (options, error) {
	var o options
	flags := flag.NewFlagSet("saga", flag.ContinueOnError)
	flags.IntVar(&o.runs, "runs", 0, "runs of each system in B7 and B8, and of Slipway in B9, interleaved; 0 means 3")
	flags.DurationVar(&o.length, "length", 0, "how long B7, B8 and B12 run for each system and number of clients; 0 means 6s")
	flags.IntVar(&o.flight, "flight", 0, "sagas in flight in B9, of Slipway; 0 means 10000")
	flags.IntVar(&o.waiting, "waiting", 0, "sagas that wait in B10, of which a tenth comes due at once; 0 means 1000000")
	flags.StringVar(&o.systems, "systems", "", "the systems to run, with commas; empty means all")
	flags.IntVar(&o.clients, "clients", 0, "clients of B7 and B8; 0 means 1, 16, 64 and 512 in turn")
	flags.BoolVar(&o.quick, "quick", false, "small and once: for a look, not for figures")
	flags.StringVar(&o.profiles, "profile", "", "folder for CPU profiles of Slipway's processes")
	flags.BoolVar(&o.serve, "serve", false, "used by the command itself: run sagas in this process")
	o.child.Bind(flags)
	for len(args) > 0 { // benchmarks and flags in any order
		if err := flags.Parse(args); err != nil {
			return o, err
		}
		if args = flags.Args(); len(args) > 0 {
			o.ids, args = append(o.ids, strings.ToUpper(args[0])), args[1:]
		}
	}
	if min(o.runs, o.flight, o.waiting, o.clients) < 0 || o.length < 0 {
		return o, errors.New("flags must not be negative")
	}
	return o, o.known()
}

// known names the ids and systems that there are not.
func (o options) known() error {
	var errs []error
	for _, id := range o.ids {
		if !slices.ContainsFunc(benchmarks(), func(b benchmark) bool { return b.id == id }) {
			errs = append(errs, fmt.Errorf("there is no benchmark %s", id))
		}
	}
	for _, name := range o.wanted() {
		if !slices.ContainsFunc(everyone(), func(s contender) bool { return s.name == name }) {
			errs = append(errs, fmt.Errorf("there is no system %s", name))
		}
	}
	return errors.Join(errs...)
}

// wanted are the systems that were asked for.
func (o options) wanted() []string {
	return strings.FieldsFunc(o.systems, func(r rune) bool { return r == ',' })
}

// among keeps the systems that were asked for.
func (o options) among(all []contender) []contender {
	if o.systems == "" {
		return all
	}
	return slices.DeleteFunc(all, func(c contender) bool { return !slices.Contains(o.wanted(), c.name) })
}

// pick returns the value of a flag, or else the one of a quick or of a full run.
func pick[T int | time.Duration](o options, set, full, quick T) T {
	switch {
	case set != 0:
		return set
	case o.quick:
		return quick
	default:
		return full
	}
}

func run(ctx context.Context, args []string) error {
	o, err := parse(args)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return nil
	case err != nil:
		return err
	case o.serve:
		return serve(ctx, o)
	}
	server, err := lab.Start(ctx)
	if err != nil {
		return err
	}
	b := &bench{options: o, server: server, peers: &peers{}}
	logf("%s, %d CPUs, PostgreSQL %d in %s", runtime.Version(), runtime.NumCPU(), server.Major(), server.Dir())
	return errors.Join(b.all(ctx), b.peers.remove(), server.Close(ctx))
}

// all runs what was asked for. One that cannot run does not keep the others from it.
func (b *bench) all(ctx context.Context) error {
	var errs []error
	for _, one := range benchmarks() {
		if len(b.ids) > 0 && !slices.Contains(b.ids, one.id) || ctx.Err() != nil {
			continue
		}
		logf("%s: %s", one.id, one.about)
		limited, cancel := context.WithTimeoutCause(ctx, one.limit, fmt.Errorf("took longer than %s", one.limit))
		begin := time.Now()
		if err := one.run(limited, b); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", one.id, errors.Join(err, context.Cause(limited))))
		}
		cancel()
		logf("%s: took %s", one.id, time.Since(begin).Round(time.Second))
	}
	return errors.Join(append(errs, ctx.Err())...)
}

// print writes the result of a benchmark.
func (b *bench) print(l *figure.Line) { fmt.Println(l) }

// logf tells a reader what is going on.
func logf(format string, args ...any) { fmt.Fprintf(os.Stderr, format+"\n", args...) }

// sleep waits, or until ctx ends.
func sleep(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}
