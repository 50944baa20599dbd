package main

import (
	"context"
	"sync"
	"time"
)

const (
	pulseInterval = 5 * time.Millisecond
	// pulseSlack is the lateness that timers have on a machine that is not busy.
	pulseSlack = 5 * time.Millisecond
)

// pulse knows for how long this process did not run when it should have. A stream cannot be
// heard in that time, and no server is to blame for it.
type pulse struct {
	mu             sync.Mutex
	last           time.Time
	total, longest time.Duration
}

func newPulse(now time.Time) *pulse { return &pulse{last: now} }

// run beats until ctx ends.
func (p *pulse) run(ctx context.Context) {
	ticker := time.NewTicker(pulseInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			p.beat(time.Now())
		case <-ctx.Done():
			return
		}
	}
}

func (p *pulse) beat(now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	stall := p.overdue(now)
	p.total += stall
	p.longest = max(p.longest, stall)
	p.last = now
}

// stalled is the time lost until now, that of a stall which nobody else has noticed yet with it.
func (p *pulse) stalled(now time.Time) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.total + p.overdue(now)
}

// overdue is how late the next beat is; the caller holds mu.
func (p *pulse) overdue(now time.Time) time.Duration {
	if late := now.Sub(p.last) - pulseInterval; late > pulseSlack {
		return late
	}
	return 0
}
