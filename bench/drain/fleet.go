package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
	"time"

	"github.com/slipwayhq/slipway/bench/internal/process"
)

const (
	replicas = 2
	// Ports are taken from below the range that outgoing connections use: a client must not
	// happen to sit on the port of a replica that is away.
	firstPort, lastPort = 20_000, 32_000
)

// fleet is a number of replicas, each on an address that it keeps.
type fleet struct {
	variant  variant
	options  options
	replicas []*replica
}

type replica struct {
	addr    string
	process *process.Process
}

// exit is how a replica ended.
type exit struct {
	took time.Duration
	code int
}

func startFleet(ctx context.Context, v variant, o options) (*fleet, error) {
	f := &fleet{variant: v, options: o}
	for range replicas {
		addr, err := freeAddr()
		if err != nil {
			f.stop()
			return nil, err
		}
		r := &replica{addr: addr}
		if err := f.start(ctx, r); err != nil {
			f.stop()
			return nil, err
		}
		f.replicas = append(f.replicas, r)
	}
	return f, nil
}

// start returns when the replica is ready.
func (f *fleet) start(ctx context.Context, r *replica) error {
	var ready string
	p, err := process.Start(ctx, &ready, "-serve", f.variant.serve, "-addr", r.addr, "-delay", f.options.delay.String())
	if err != nil {
		return err
	}
	r.process = p
	return nil
}

// restart ends a replica as the variant does and starts it again.
func (f *fleet) restart(ctx context.Context, n int) (exit, error) {
	r := f.replicas[n]
	took, code := r.process.End(f.variant.signal, f.options.grace)
	if err := f.start(ctx, r); err != nil {
		return exit{}, err
	}
	return exit{took, code}, nil
}

func (f *fleet) addrs() []string {
	addrs := make([]string, len(f.replicas))
	for i, r := range f.replicas {
		addrs[i] = r.addr
	}
	return addrs
}

func (f *fleet) stop() {
	for _, r := range f.replicas {
		r.process.Kill()
	}
}

func freeAddr() (string, error) {
	for range 100 {
		port := firstPort + rand.IntN(lastPort-firstPort)
		addr := net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
		if lis, err := net.Listen("tcp", addr); err == nil {
			return addr, lis.Close()
		}
	}
	return "", fmt.Errorf("find a free port: %w", errors.New("none of a hundred was"))
}
