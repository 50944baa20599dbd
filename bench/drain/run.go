package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"syscall"
	"time"
)

// maxDuration bounds a whole run.
const maxDuration = 6 * time.Minute

// options are the flags of the command. The last two are for the replicas that it starts.
type options struct {
	restarts, rate, streams int
	delay, grace            time.Duration
	short                   bool

	serve, addr string
}

func parse(args []string) (options, error) {
	var o options
	flags := flag.NewFlagSet("drain", flag.ContinueOnError)
	flags.IntVar(&o.restarts, "restarts", 10, "restarts, of the two replicas in turn")
	flags.IntVar(&o.rate, "rate", 300, "calls a second, each of 20 to 50 ms")
	flags.IntVar(&o.streams, "streams", 10, "open streams, each with a message every 10 ms")
	flags.DurationVar(&o.delay, "delay", time.Second, "drain delay of the replicas")
	flags.DurationVar(&o.grace, "grace", 10*time.Second, "time between SIGTERM and SIGKILL; Kubernetes gives 30s")
	flags.BoolVar(&o.short, "short", false, "3 restarts of each variant")
	flags.StringVar(&o.serve, "serve", "", "used by the command itself: the kind of replica to be")
	flags.StringVar(&o.addr, "addr", "", "used by the command itself: the address to serve on")
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	if o.restarts < 1 || o.rate < 1 || o.streams < 0 || o.delay < 0 || o.grace <= 0 {
		return o, errors.New("restarts, rate and grace must be positive, streams and delay not negative")
	}
	if o.short {
		o.restarts = min(o.restarts, 3)
	}
	return o, nil
}

// variant is a kind of replica and a way to end it, under a client's way to reconnect.
type variant struct {
	name, serve, backoff string
	signal               syscall.Signal
	restarts             int
}

// variants are what is judged, what is usual and what must fail.
func variants(o options) []variant {
	return []variant{
		{"slipway", slipway, fast, syscall.SIGTERM, o.restarts},
		{"slipway", slipway, standard, syscall.SIGTERM, o.restarts},
		// It hangs to the end of its grace period: three times tell that as well as ten.
		{"naive", naive, standard, syscall.SIGTERM, min(o.restarts, 3)},
		{"kill", slipway, standard, syscall.SIGKILL, o.restarts},
	}
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
	ctx, cancel := context.WithTimeoutCause(ctx, maxDuration, fmt.Errorf("took longer than %s", maxDuration))
	defer cancel()
	fmt.Printf("2 replicas, %d calls/s of 20 to 50 ms, %d streams, no retries, drain delay %s, grace period %s\n",
		o.rate, o.streams, o.delay, o.grace)
	var failures []error
	for _, v := range variants(o) {
		fmt.Fprintf(os.Stderr, "%s, %s backoff: %d restarts\n", v.name, v.backoff, v.restarts)
		r, err := trial(ctx, v, o)
		if err != nil {
			return fmt.Errorf("%s: %w", v.name, err)
		}
		fmt.Println(r)
		failures = append(failures, r.judge(o)...)
	}
	return errors.Join(failures...)
}

// trial restarts the replicas of one variant under load.
func trial(ctx context.Context, v variant, o options) (*result, error) {
	f, err := startFleet(ctx, v, o)
	if err != nil {
		return nil, err
	}
	defer f.stop()
	l, err := startLoad(ctx, f.addrs(), v.backoff, o)
	if err != nil {
		return nil, err
	}
	r := &result{variant: v}
	for n := range v.restarts {
		if err := l.reaches(ctx, f.addrs()); err != nil {
			return nil, errors.Join(err, l.stop(r))
		}
		end, err := f.restart(ctx, n%len(f.replicas))
		if err != nil {
			return nil, errors.Join(err, l.stop(r))
		}
		r.exits = append(r.exits, end)
	}
	err = l.reaches(ctx, f.addrs())
	return r, errors.Join(err, l.stop(r))
}
