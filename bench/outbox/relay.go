package main

import (
	"context"
	"errors"

	"github.com/slipwayhq/slipway/bench/outbox/internal/system"
	"github.com/slipwayhq/slipway/platform/broker"
)

// running is a relay that runs in a goroutine.
type running struct {
	system.Relay

	cancel context.CancelFunc
	ended  chan struct{}
	err    error // once ended is closed
}

// startRelay runs a relay of the system in this process. Stop it.
func startRelay(ctx context.Context, sys system.System, url string, pub broker.Publisher) (*running, error) {
	ctx, cancel := context.WithCancel(ctx)
	relay, err := sys.Relay(ctx, url, pub)
	if err != nil {
		cancel()
		return nil, err
	}
	r := &running{Relay: relay, cancel: cancel, ended: make(chan struct{})}
	go func() {
		defer close(r.ended)
		r.err = relay.Run(ctx)
	}()
	return r, nil
}

// stop ends the relay and returns with what it has ended.
func (r *running) stop() error {
	r.cancel()
	<-r.ended
	r.Close()
	if errors.Is(r.err, context.Canceled) {
		return nil
	}
	return r.err
}
