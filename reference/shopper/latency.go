package main

import (
	"math"
	"slices"
	"sync"
	"time"
)

// latencies collects durations. It keeps each of them, so its quantiles are exact.
type latencies struct {
	mu     sync.Mutex
	values []time.Duration
}

func (l *latencies) add(d time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.values = append(l.values, d)
}

// quantiles are the durations that half, 95 %, 99 % and all of the values do not exceed.
type quantiles struct {
	P50 millis `json:"p50_ms"`
	P95 millis `json:"p95_ms"`
	P99 millis `json:"p99_ms"`
	Max millis `json:"max_ms"`
}

func (l *latencies) quantiles() quantiles {
	l.mu.Lock()
	defer l.mu.Unlock()
	sorted := slices.Sorted(slices.Values(l.values))
	at := func(q float64) millis {
		if len(sorted) == 0 {
			return 0
		}
		rank := int(math.Ceil(q * float64(len(sorted))))
		return millis(sorted[max(rank, 1)-1].Seconds() * 1000)
	}
	return quantiles{P50: at(.50), P95: at(.95), P99: at(.99), Max: at(1)}
}
