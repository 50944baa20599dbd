package main

import (
	"context"
	"time"
)

// arrival is when the i-th order is due, counted from the start.
func arrival(i int, rate float64) time.Duration {
	return time.Duration(float64(i) / rate * float64(time.Second))
}

// pace calls start for each of n orders when it is due, until ctx ends, and returns how many it
// started. It never waits for what it started: if start is slow, the next ones are started late
// and learn when they were due.
func pace(ctx context.Context, n int, rate float64, start func(i int, due time.Time)) int {
	begin := time.Now()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for i := range n {
		due := begin.Add(arrival(i, rate))
		timer.Reset(time.Until(due))
		select {
		case <-ctx.Done():
			return i
		case <-timer.C:
		}
		if ctx.Err() != nil {
			return i
		}
		start(i, due)
	}
	return n
}
