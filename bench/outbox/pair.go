package main

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"syscall"
	"time"

	"github.com/slipwayhq/slipway/bench/internal/process"
)

const (
	// strikeEvery is how often the active relay is hit.
	strikeEvery = time.Second
	// A relay that is not killed is paused for longer than its lease: when it wakes
	// up, another one has taken over.
	pauseEach = 4
	pauseFor  = 2 * time.Second
)

// pair is two relays of one system, each a process, and who publishes is hit again
// and again.
type pair struct {
	args      []string
	collector *collector
	paused    sync.WaitGroup

	mu     sync.Mutex
	relays map[int]*process.Process // by process id
	kills  int
	pauses int
}

func startPair(ctx context.Context, name, url string, c *collector) (*pair, error) {
	p := &pair{
		args:      []string{"-serve", relayProcess, "-system", name, "-url", url, "-sink", c.addr()},
		collector: c, relays: make(map[int]*process.Process),
	}
	for range 2 {
		if err := p.start(ctx); err != nil {
			return nil, errors.Join(err, p.stop())
		}
	}
	return p, nil
}

func (p *pair) start(ctx context.Context) error {
	var pid int
	relay, err := process.Start(ctx, &pid, p.args...)
	if err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.relays[pid] = relay
	return nil
}

// strike hits the relays until ctx ends. New processes live as long as life.
func (p *pair) strike(ctx, life context.Context) error {
	for n := 1; ctx.Err() == nil; n++ {
		sleep(ctx, strikeEvery)
		pid, relay := p.take(n%pauseEach != 0)
		switch {
		case relay == nil:
		case n%pauseEach == 0:
			p.pause(life, pid)
		default:
			relay.Kill()
			if err := p.start(life); err != nil {
				return err
			}
		}
	}
	return nil
}

// take returns the relay that has published last, for the last time if it is to be
// killed. If none has since the last time, it is any of them, or none: if somebody
// died in each second, nobody might ever publish.
func (p *pair) take(kill bool) (pid int, relay *process.Process) {
	p.mu.Lock()
	defer p.mu.Unlock()
	pid = int(p.collector.active.Swap(0))
	if p.relays[pid] == nil {
		if rand.IntN(2) == 0 {
			return 0, nil
		}
		for pid = range p.relays { // in any order
			break
		}
	}
	relay = p.relays[pid]
	if kill {
		delete(p.relays, pid)
		p.kills++
	} else {
		p.pauses++
	}
	return pid, relay
}

// pause stops a process and lets it go on later.
func (p *pair) pause(ctx context.Context, pid int) {
	if syscall.Kill(pid, syscall.SIGSTOP) != nil {
		return // it has ended, and another one has not taken its number: it is our child
	}
	p.paused.Go(func() {
		sleep(ctx, pauseFor)
		_ = syscall.Kill(pid, syscall.SIGCONT)
	})
}

// stop ends the relays in good order.
func (p *pair) stop() error {
	p.paused.Wait()
	p.mu.Lock()
	defer p.mu.Unlock()
	var errs []error
	for _, relay := range p.relays {
		errs = append(errs, relay.Stop())
	}
	return errors.Join(errs...)
}
