package main

import (
	"context"
	"sync"
	"time"

	"github.com/slipwayhq/slipway/bench/outbox/internal/system"
	"github.com/slipwayhq/slipway/platform/broker"
)

// counter is a broker that takes everything and counts what it has not seen yet, by
// the numbers that Fill gives the events.
type counter struct {
	want int

	mu    sync.Mutex
	seen  []uint64
	count int
	first time.Time // when the first events came, and how many
	batch int
	last  time.Time
	done  chan struct{}
}

func newCounter(want int) *counter {
	return &counter{want: want, seen: make([]uint64, want/64+1), done: make(chan struct{})}
}

// Publish implements broker.Publisher.
func (c *counter) Publish(_ context.Context, messages []broker.Message) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	before := c.count
	for i := range messages {
		_, _, number, err := system.Marked(messages[i].Payload)
		if err != nil {
			return err
		}
		if number < 0 || int(number) > c.want {
			continue
		}
		if bit := uint64(1) << (number % 64); c.seen[number/64]&bit == 0 {
			c.seen[number/64] |= bit
			c.count++
		}
	}
	if before == 0 {
		c.first, c.batch = time.Now(), c.count
	}
	if c.count >= c.want && before < c.want {
		c.last = time.Now()
		close(c.done)
	}
	return nil
}

// drained returns what has come so far of a drain that began then.
func (c *counter) drained(begin time.Time) drained {
	c.mu.Lock()
	defer c.mu.Unlock()
	end := c.last
	if c.count < c.want {
		end = time.Now()
	}
	return drained{events: c.count, took: end.Sub(begin), each: end.Sub(c.first) / time.Duration(max(1, c.count-c.batch))}
}
