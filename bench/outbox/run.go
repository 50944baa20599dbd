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
)

// options are the flags of the command. Those of child are for the processes that it
// starts.
type options struct {
	ids          []string
	events       int
	runs         int
	rows         int
	transactions int
	duration     time.Duration
	hold         time.Duration
	peers        string
	alone        bool
	quick        bool

	child childOptions
}

// benchmark is one of those that the command knows.
type benchmark struct {
	id, about string
	limit     time.Duration
	run       func(ctx context.Context, b *bench) error
}

func benchmarks() []benchmark {
	return []benchmark{
		{"B1", "drain a backlog", 40 * time.Minute, runDrain},
		{"B2", "from commit to consumer", 40 * time.Minute, runLatency},
		{"B3", "what an event costs its producer", 30 * time.Minute, runProducers},
		{"B4", "a transaction held open", 75 * time.Minute, runPinned},
		{"B5", "order and losses while relays are killed", 60 * time.Minute, runFuzz},
		{"B6", "publish to JetStream", 20 * time.Minute, runPublish},
		{"B12", "statements and bytes of log for an event", 20 * time.Minute, runCosts},
		{"B13", "an inbox that remembers much", 90 * time.Minute, runInbox},
	}
}

// bench is what a benchmark works with.
type bench struct {
	options

	server *lab.Server
}

func parse(args []string) (options, error) {
	var o options
	flags := flag.NewFlagSet("outbox", flag.ContinueOnError)
	flags.IntVar(&o.events, "events", 0, "events of B1 and B6; 0 means 300000, above 1000000 B1 only shows what they cost Slipway")
	flags.IntVar(&o.runs, "runs", 0, "runs of each side, interleaved; 0 means 3")
	flags.IntVar(&o.rows, "rows", 0, "ids that the inbox of B13 remembers, against a fiftieth of them; 0 means 50000000")
	flags.IntVar(&o.transactions, "transactions", 0, "transactions of B5 for Slipway, a tenth for each peer; 0 means 1000000")
	flags.DurationVar(&o.duration, "duration", 0, "how long B2 runs for each side; 0 means 30s")
	flags.DurationVar(&o.hold, "hold", 0, "how long B4 holds a transaction open for each side; 0 means 5m")
	flags.StringVar(&o.peers, "peers", "", "the peers of B1, with commas; empty means all; the long backlog of B1 has none")
	flags.BoolVar(&o.alone, "alone", false, "leave the peers out of B3 and B4: in B4 they take two thirds of its time")
	flags.BoolVar(&o.quick, "quick", false, "small and once: for a look, not for figures")
	o.child.bind(flags)
	for len(args) > 0 { // benchmarks and flags in any order
		if err := flags.Parse(args); err != nil {
			return o, err
		}
		if args = flags.Args(); len(args) > 0 {
			o.ids, args = append(o.ids, strings.ToUpper(args[0])), args[1:]
		}
	}
	if min(o.events, o.runs, o.rows, o.transactions) < 0 || o.duration < 0 || o.hold < 0 {
		return o, errors.New("flags must not be negative")
	}
	return o, o.known()
}

// known names the ids and peers that there are not.
func (o options) known() error {
	var errs []error
	for _, id := range o.ids {
		if !slices.ContainsFunc(benchmarks(), func(b benchmark) bool { return b.id == id }) {
			errs = append(errs, fmt.Errorf("there is no benchmark %s", id))
		}
	}
	for _, name := range o.named() {
		if !slices.ContainsFunc(stocks(0)[1:], func(s *stock) bool { return !s.reference && s.named(name) }) {
			errs = append(errs, fmt.Errorf("B1 has no peer %s", name))
		}
	}
	return errors.Join(errs...)
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
	case o.child.kind != "":
		return o.child.run(ctx)
	}
	server, err := lab.Start(ctx)
	if err != nil {
		return err
	}
	b := &bench{options: o, server: server}
	logf("%s, %d CPUs, PostgreSQL %d in %s", runtime.Version(), runtime.NumCPU(), server.Major(), server.Dir())
	return errors.Join(b.all(ctx), server.Close(ctx))
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

// verdict is that of a benchmark. A quick run is too short for one, and only says it.
func (b *bench) verdict(broken error) error {
	if broken == nil || !b.quick {
		return broken
	}
	logf("  not judged in a quick run: %v", broken)
	return nil
}

// logf tells a reader what is going on.
func logf(format string, args ...any) { fmt.Fprintf(os.Stderr, format+"\n", args...) }
