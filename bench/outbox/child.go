package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"time"

	"github.com/slipwayhq/slipway/bench/internal/process"
	"github.com/slipwayhq/slipway/bench/outbox/internal/system"
	"github.com/slipwayhq/slipway/platform/broker"
	"github.com/slipwayhq/slipway/platform/outbox"
)

// The kinds of process: a relay that publishes to a collector or to JetStream, and a
// NATS server, which syncs its files as usual or with each message.
const (
	relayProcess      = "relay"
	liveRelayProcess  = "live-relay"
	natsProcess       = "nats"
	natsAlwaysProcess = "nats-always"
)

// childOptions are the flags of the processes that the command starts of itself.
type childOptions struct {
	kind, system, url, sink, dir string
}

func (c *childOptions) bind(flags *flag.FlagSet) {
	flags.StringVar(&c.kind, "serve", "", "used by the command itself: the kind of process to be")
	flags.StringVar(&c.system, "system", "", "used by the command itself: whose relay to run")
	flags.StringVar(&c.url, "url", "", "used by the command itself: the database of the relay")
	flags.StringVar(&c.sink, "sink", "", "used by the command itself: where the relay publishes to")
	flags.StringVar(&c.dir, "dir", "", "used by the command itself: where the server keeps its files")
}

func (c childOptions) run(ctx context.Context) error {
	switch c.kind {
	case relayProcess:
		return c.relay(ctx)
	case liveRelayProcess:
		return c.liveRelay(ctx)
	case natsProcess, natsAlwaysProcess:
		return serveNATS(c.dir, c.kind == natsAlwaysProcess)
	default:
		return fmt.Errorf("there is no process of kind %q", c.kind)
	}
}

// relay runs a relay until the parent closes its input.
func (c childOptions) relay(ctx context.Context) error {
	sys, ok := fuzzed()[c.system]
	if !ok {
		return fmt.Errorf("there is no system %q", c.system)
	}
	pub, err := dialCollector(ctx, c.sink)
	if err != nil {
		return err
	}
	defer pub.close()
	return serveRelay(ctx, sys(), c.url, pub)
}

// liveRelay is Slipway's relay of another replica.
func (c childOptions) liveRelay(ctx context.Context) error {
	pub, err := dialOurs(c.sink, false)
	if err != nil {
		return err
	}
	defer pub.close()
	return serveRelay(ctx, system.Slipway(outbox.Config{}), c.url, pub)
}

func serveRelay(ctx context.Context, sys system.System, url string, pub broker.Publisher) error {
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		insist(ctx, sys, url, pub)
	}()
	err := process.Serve(os.Stdin, os.Stdout, os.Getpid(), noAnswer)
	cancel()
	<-ended
	return err
}

func noAnswer() (any, error) { return nil, errors.New("unexpected line") }

// insist runs a relay until ctx ends. A service would be restarted as well.
func insist(ctx context.Context, sys system.System, url string, pub broker.Publisher) {
	for ctx.Err() == nil {
		relay, err := startRelay(ctx, sys, url, pub)
		if err == nil {
			<-relay.ended
			err = relay.stop()
		}
		if err != nil && ctx.Err() == nil {
			logf("    a relay of %s is restarted: %v", sys.Name(), err)
		}
		sleep(ctx, 100*time.Millisecond)
	}
}

// fuzzed are the systems of B5 by name.
func fuzzed() map[string]func() system.System {
	// 200 ms is a broker that stalls for longer than the deadline: with the default of
	// 30 s it would have to stall for that.
	options := system.WatermillOptions{Batch: 100, Poll: 20 * time.Millisecond, AckDeadline: 200 * time.Millisecond}
	all := map[string]func() system.System{
		"ours":            func() system.System { return system.Slipway(anyConfig()) },
		"watermill":       func() system.System { return system.WatermillDefault(options) },
		"watermill_queue": func() system.System { return system.WatermillQueue(options) },
		"claim":           func() system.System { return system.Claim(100) },
		"after_last":      func() system.System { return system.AfterLast(100) },
		"horizon":         system.Horizon,
	}
	return all
}

// anyConfig draws one of the ways to run a relay: small batches make it work through
// targets, large ones read whole windows.
func anyConfig() outbox.Config {
	batches := []int{20, 200, 1000}
	polls := []time.Duration{2 * time.Millisecond, 20 * time.Millisecond, 200 * time.Millisecond}
	return outbox.Config{Batch: batches[rand.IntN(len(batches))], Poll: polls[rand.IntN(len(polls))]}
}

// sleep waits, or until ctx ends.
func sleep(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}
