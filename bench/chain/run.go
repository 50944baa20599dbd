package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/slipwayhq/slipway/bench/internal/process"
)

// options are the flags of the command. The last three are for the servers that it starts.
type options struct {
	rounds, calls, warmup   int
	connections, concurrent int
	payload                 int
	profile                 string

	serve, collector, out string
}

func parse(args []string) (options, error) {
	var o options
	flags := flag.NewFlagSet("chain", flag.ContinueOnError)
	flags.IntVar(&o.rounds, "rounds", 9, "measured rounds of each variant")
	flags.IntVar(&o.calls, "calls", 20_000, "calls in a round")
	flags.IntVar(&o.warmup, "warmup", 20_000, "calls of each variant before the first round")
	flags.IntVar(&o.connections, "connections", 4, "connections to each server")
	flags.IntVar(&o.concurrent, "concurrent", 64, "calls in flight")
	flags.IntVar(&o.payload, "payload", 256, "bytes in a request and in a response")
	flags.StringVar(&o.profile, "profile", "", "folder for profiles of the servers; profiling changes the figures")
	flags.StringVar(&o.serve, "serve", "", "used by the command itself: the variant to serve")
	flags.StringVar(&o.collector, "collector", "", "used by the command itself: where the server sends its spans")
	flags.StringVar(&o.out, "out", "", "used by the command itself: prefix of the server's profiles")
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	if o.rounds < 1 || o.calls < 1 || o.connections < 1 || o.concurrent < 1 || o.payload < 0 || o.payload > 4096 {
		return o, errors.New("rounds, calls, connections and concurrent must be positive, payload at most 4096")
	}
	return o, nil
}

func run(ctx context.Context, args []string) error {
	o, err := parse(args)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return nil
	case err != nil:
		return err
	case o.serve != "":
		return serve(ctx, o)
	}
	spans, err := startCollector()
	if err != nil {
		return err
	}
	defer spans.stop()
	o.collector = spans.addr()

	var subjects []*subject
	for _, v := range variants {
		s, err := newSubject(ctx, v, o)
		if err != nil {
			return errors.Join(fmt.Errorf("start %s: %w", v.name, err), stop(subjects))
		}
		subjects = append(subjects, s)
	}
	// The servers send their last spans when they stop, so they stop before the report.
	if err := errors.Join(measure(ctx, subjects, o), stop(subjects)); err != nil {
		return err
	}
	report(os.Stdout, o, subjects, spans)
	return nil
}

func stop(subjects []*subject) error {
	errs := make([]error, len(subjects))
	for i, s := range subjects {
		s.caller.close()
		if err := s.server.Stop(); err != nil {
			errs[i] = fmt.Errorf("stop %s: %w", s.name, err)
		}
	}
	return errors.Join(errs...)
}

// measure runs the rounds: every variant once a round, each round beginning with another one,
// so that what else happens on the machine meets them all alike.
func measure(ctx context.Context, subjects []*subject, o options) error {
	for _, s := range subjects {
		if err := s.load(ctx, o.warmup); err != nil {
			return fmt.Errorf("warm %s up: %w", s.name, err)
		}
	}
	for n := range o.rounds {
		fmt.Fprintf(os.Stderr, "round %d of %d\n", n+1, o.rounds)
		for i := range subjects {
			s := subjects[(n+i)%len(subjects)]
			if err := s.round(ctx, o.calls); err != nil {
				return fmt.Errorf("measure %s: %w", s.name, err)
			}
		}
	}
	return nil
}

// subject is a variant that is being measured: its server, the connections to it, and what
// its rounds have cost so far.
type subject struct {
	variant
	server *process.Process
	caller *caller
	costs  []cost
}

// cost is what a call cost the server in one round.
type cost struct {
	cpu           time.Duration
	allocs, bytes float64
	rate          float64 // calls a second, as the client saw it
}

func newSubject(ctx context.Context, v variant, o options) (*subject, error) {
	args := []string{"-serve", v.name, "-collector", o.collector}
	if o.profile != "" {
		if err := os.MkdirAll(o.profile, 0o755); err != nil {
			return nil, fmt.Errorf("create folder of profiles: %w", err)
		}
		args = append(args, "-out", filepath.Join(o.profile, v.name))
	}
	var addr string
	server, err := process.Start(ctx, &addr, args...)
	if err != nil {
		return nil, err
	}
	caller, err := newCaller(addr, o)
	if err != nil {
		return nil, errors.Join(err, server.Stop())
	}
	return &subject{variant: v, server: server, caller: caller}, nil
}

func (s *subject) load(ctx context.Context, calls int) error {
	_, err := s.caller.run(ctx, calls)
	return err
}

// round measures calls: the server says what it has used before and after.
func (s *subject) round(ctx context.Context, calls int) error {
	var before, after usage
	if err := s.server.Ask(&before); err != nil {
		return err
	}
	elapsed, err := s.caller.run(ctx, calls)
	if err != nil {
		return err
	}
	if err := s.server.Ask(&after); err != nil {
		return err
	}
	n := float64(calls)
	s.costs = append(s.costs, cost{
		cpu:    (after.CPU - before.CPU) / time.Duration(calls),
		allocs: float64(after.Mallocs-before.Mallocs) / n,
		bytes:  float64(after.Bytes-before.Bytes) / n,
		rate:   n / elapsed.Seconds(),
	})
	return nil
}
