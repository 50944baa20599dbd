// Package audit compares what was committed with what was delivered: what is lost,
// what was never committed, what came out of order and what came twice.
package audit

import "sync"

// Event identifies an event: the version that an aggregate has after it, and a number
// that no other event has, not even one of the same version that was rolled back.
type Event struct {
	Aggregate, Version, Nonce int64
}

// Ledger holds what was committed. Its methods may be called concurrently.
type Ledger struct {
	mu     sync.Mutex
	nonces map[int64][]int64 // by aggregate, at version-1; 0 is unknown
	count  int
}

// NewLedger returns an empty one.
func NewLedger() *Ledger { return &Ledger{nonces: make(map[int64][]int64)} }

// Commit adds events whose transaction has committed. Versions begin at 1.
func (l *Ledger) Commit(events ...Event) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, e := range events {
		all := l.nonces[e.Aggregate]
		for int64(len(all)) < e.Version {
			all = append(all, 0)
		}
		if all[e.Version-1] == 0 {
			l.count++
		}
		all[e.Version-1] = e.Nonce
		l.nonces[e.Aggregate] = all
	}
}

// Len returns how many events were committed.
func (l *Ledger) Len() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.count
}

// Delivery is what arrived, in the order in which it did. Its methods may be called
// concurrently.
type Delivery struct {
	mu       sync.Mutex
	arrivals []Event
	distinct map[int64]struct{}
}

// NewDelivery returns an empty one.
func NewDelivery() *Delivery { return &Delivery{distinct: make(map[int64]struct{})} }

// Arrive adds events.
func (d *Delivery) Arrive(events ...Event) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.arrivals = append(d.arrivals, events...)
	for _, e := range events {
		d.distinct[e.Nonce] = struct{}{}
	}
}

// Distinct returns how many different events have arrived.
func (d *Delivery) Distinct() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.distinct)
}

// Verdict counts what went wrong, and the duplicates, which at-least-once allows.
type Verdict struct {
	// Committed events, and Arrivals, duplicates included.
	Committed, Arrivals int
	// Losses were committed and never arrived.
	Losses int
	// Phantoms arrived and were not committed.
	Phantoms int
	// Inversions arrived for the first time after a later version of their
	// aggregate.
	Inversions int
	// Duplicates arrived before.
	Duplicates int
}

// Judge compares the two once both are complete.
func Judge(l *Ledger, d *Delivery) Verdict {
	l.mu.Lock()
	defer l.mu.Unlock()
	d.mu.Lock()
	defer d.mu.Unlock()
	v := Verdict{Committed: l.count, Arrivals: len(d.arrivals)}
	seen := make(map[int64]struct{}, len(d.distinct))
	latest := make(map[int64]int64, len(l.nonces))
	kept := 0
	for _, e := range d.arrivals {
		if _, twice := seen[e.Nonce]; twice {
			v.Duplicates++
			continue
		}
		seen[e.Nonce] = struct{}{}
		if !l.has(e) {
			v.Phantoms++
			continue
		}
		kept++
		if e.Version < latest[e.Aggregate] {
			v.Inversions++
		} else {
			latest[e.Aggregate] = e.Version
		}
	}
	v.Losses = l.count - kept
	return v
}

func (l *Ledger) has(e Event) bool {
	all := l.nonces[e.Aggregate]
	return e.Version >= 1 && e.Version <= int64(len(all)) && all[e.Version-1] == e.Nonce
}
