package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/resolver/manual"
	"google.golang.org/grpc/status"

	benchv1 "github.com/slipwayhq/slipway/bench/gen/slipway/bench/v1"
)

// Ways to reconnect to an address that was away.
const (
	fast     = "fast"
	standard = "default"
)

const (
	callTimeout = 5 * time.Second
	// reachTimeout bounds the wait until a restarted replica gets calls again.
	reachTimeout = time.Minute
	// settled is how long all replicas must have been answering before the next restart.
	settled = 500 * time.Millisecond
)

// load calls the replicas at a constant rate, whatever they answer, and keeps streams open.
type load struct {
	options options
	conn    *grpc.ClientConn
	client  benchv1.EchoServiceClient
	cancel  context.CancelFunc
	wg      sync.WaitGroup
	pulse   *pulse

	mu        sync.Mutex
	calls     int
	failed    map[codes.Code]int
	latencies []time.Duration
	answered  map[string]time.Time // by address, the last answer
	gap, net  time.Duration        // the longest silence of a stream, and without stalls
}

// startLoad dials with a plain grpc-go client: what keeps calls from failing must be the
// server's doing. It knows the addresses, takes turns, and never retries.
func startLoad(ctx context.Context, addrs []string, reconnect string, o options) (*load, error) {
	r := manual.NewBuilderWithScheme("replicas")
	state := resolver.State{}
	for _, addr := range addrs {
		state.Endpoints = append(state.Endpoints, resolver.Endpoint{Addresses: []resolver.Address{{Addr: addr}}})
	}
	r.InitialState(state)
	conn, err := grpc.NewClient("replicas:///echo",
		grpc.WithResolvers(r),
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultServiceConfig(`{"loadBalancingConfig":[{"round_robin":{}}]}`),
		grpc.WithDisableRetry(),
		grpc.WithConnectParams(grpc.ConnectParams{Backoff: backoffs[reconnect], MinConnectTimeout: 5 * time.Second}),
	)
	if err != nil {
		return nil, fmt.Errorf("dial replicas: %w", err)
	}
	ctx, cancel := context.WithCancel(ctx)
	l := &load{
		options: o, conn: conn, client: benchv1.NewEchoServiceClient(conn), cancel: cancel,
		failed: make(map[codes.Code]int), answered: make(map[string]time.Time),
	}
	if err := l.connect(ctx); err != nil {
		cancel()
		return nil, errors.Join(err, conn.Close())
	}
	l.pulse = newPulse(time.Now())
	l.wg.Go(func() { l.pulse.run(ctx) })
	l.wg.Go(func() { l.call(ctx) })
	for range o.streams {
		l.wg.Go(func() { l.watch(ctx) })
	}
	return l, nil
}

var backoffs = map[string]backoff.Config{
	fast:     {BaseDelay: 100 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: time.Second},
	standard: backoff.DefaultConfig,
}

// connect waits for the first connection, so that no call is counted before there is one.
func (l *load) connect(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	if _, err := l.client.Echo(ctx, &benchv1.EchoRequest{}, grpc.WaitForReady(true)); err != nil {
		return fmt.Errorf("reach the first replica: %w", err)
	}
	return nil
}

// call starts a call whenever one is due until ctx ends.
func (l *load) call(ctx context.Context) {
	interval := time.Second / time.Duration(l.options.rate)
	random := rand.New(rand.NewPCG(1, 2)) // the same calls in every trial
	start := time.Now()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for n := time.Duration(0); ; n++ {
		due := start.Add(n * interval)
		timer.Reset(time.Until(due))
		select {
		case <-timer.C:
		case <-ctx.Done():
			return
		}
		work := 20 + random.Uint32N(31)
		// Calls outlive ctx: what was started is counted.
		l.wg.Go(func() { l.one(context.WithoutCancel(ctx), due, work) })
	}
}

func (l *load) one(ctx context.Context, due time.Time, work uint32) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	var p peer.Peer
	_, err := l.client.Echo(ctx, &benchv1.EchoRequest{Payload: make([]byte, 256), WorkMs: work}, grpc.Peer(&p))
	took := time.Since(due)

	l.mu.Lock()
	defer l.mu.Unlock()
	l.calls++
	l.latencies = append(l.latencies, took)
	if err != nil {
		l.failed[status.Code(err)]++
		return
	}
	l.answered[p.Addr.String()] = time.Now()
}

// watch keeps one stream open: when it ends, for whatever reason, another is opened at once.
func (l *load) watch(ctx context.Context) {
	last := l.mark()
	for ctx.Err() == nil {
		stream, err := l.client.Tick(ctx, &benchv1.TickRequest{IntervalMs: 10}, grpc.WaitForReady(true))
		for err == nil {
			if _, err = stream.Recv(); err == nil {
				last = l.heard(last)
			}
		}
	}
}

// mark is a moment, with the time that this process had lost until then.
type mark struct {
	at      time.Time
	stalled time.Duration
}

func (l *load) mark() mark {
	now := time.Now()
	return mark{now, l.pulse.stalled(now)}
}

// heard takes the time between two messages of a stream, whichever server sent them.
func (l *load) heard(last mark) mark {
	m := l.mark()
	gap := m.at.Sub(last.at)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.gap = max(l.gap, gap)
	l.net = max(l.net, gap-(m.stalled-last.stalled))
	return m
}

// reaches waits until each of addrs answers calls, and has for a moment: a rollout waits as
// long with minReadySeconds.
func (l *load) reaches(ctx context.Context, addrs []string) error {
	ctx, cancel := context.WithTimeout(ctx, reachTimeout)
	defer cancel()
	begin := time.Now()
	var since time.Time
	for tick := time.NewTicker(20 * time.Millisecond); ; {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return errors.New("a replica that is ready got no calls")
		}
		switch now := time.Now(); {
		case !l.answeredSince(addrs, begin):
		case since.IsZero():
			since = now
		case now.Sub(since) >= settled:
			return nil
		}
	}
}

func (l *load) answeredSince(addrs []string, t time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return !slices.ContainsFunc(addrs, func(addr string) bool { return !l.answered[addr].After(t) })
}

// stop ends the load and writes what it saw into r.
func (l *load) stop(r *result) error {
	l.cancel()
	l.wg.Wait()
	r.calls, r.failed = l.calls, maps.Clone(l.failed)
	slices.Sort(l.latencies)
	r.p99 = l.latencies[len(l.latencies)*99/100]
	r.gap, r.net, r.stall = l.gap, l.net, l.pulse.longest
	return l.conn.Close()
}
