package rig

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// Load is what a loop is asked for: so many clients start one saga after the other for a
// while.
type Load struct {
	Clients int           `json:"clients"`
	Warm    time.Duration `json:"warm"` // before anything is counted
	Length  time.Duration `json:"length"`
	Rejects bool          `json:"rejects"` // the third step is rejected
}

// Report is what came of a loop.
type Report struct {
	// Sagas have been started and are over. Took is from the first start until the store
	// has all of them as over.
	Sagas int           `json:"sagas"`
	Took  time.Duration `json:"took"`
	// Micros are the times from before the start of each saga to its last call.
	Micros []int64 `json:"micros"`
	// Calls are those of steps, Repeated those that were made before.
	Calls    int `json:"calls"`
	Repeated int `json:"repeated"`
	// Wrong are sagas that the store has with another end than the one that they should have.
	Wrong int `json:"wrong"`
	// Asked is how often Counts was asked meanwhile.
	Asked int `json:"asked"`
}

// settleTimeout bounds the wait for sagas that were started to be over.
const settleTimeout = 3 * time.Minute

// Run runs the loop. The participant must be the one that the system's steps are called at.
func (l Load) Run(ctx context.Context, sys System, p *Participant) (Report, error) {
	if l.Warm > 0 {
		warm := Load{Clients: l.Clients, Length: l.Warm, Rejects: l.Rejects}
		if _, err := warm.Run(ctx, sys, p); err != nil {
			return Report{}, fmt.Errorf("warm up: %w", err)
		}
	}
	p.Reset(l.Rejects)
	before, err := sys.Counts(ctx)
	if err != nil {
		return Report{}, err
	}
	begin := time.Now()
	micros, err := l.start(ctx, sys, p, begin)
	if err != nil {
		return Report{}, err
	}
	after, asked, err := settle(ctx, sys)
	r := Report{Asked: asked + 1, Sagas: len(micros), Took: time.Since(begin), Micros: micros, Wrong: len(micros) - (after.Done - before.Done)}
	if l.Rejects {
		r.Wrong = len(micros) - (after.Undone - before.Undone)
	}
	r.Calls, r.Repeated = p.Calls()
	return r, err
}

// start starts sagas until the time is over, and returns how long each has taken.
func (l Load) start(ctx context.Context, sys System, p *Participant, begin time.Time) ([]int64, error) {
	ctx, cancel := context.WithTimeout(ctx, l.Length+settleTimeout)
	defer cancel()
	var mu sync.Mutex
	var all []int64
	var errs []error
	var clients sync.WaitGroup
	for range l.Clients {
		clients.Go(func() {
			micros, err := l.client(ctx, sys, p, begin)
			mu.Lock()
			defer mu.Unlock()
			all, errs = append(all, micros...), append(errs, err)
			if err != nil {
				cancel()
			}
		})
	}
	clients.Wait()
	return all, errors.Join(errs...)
}

func (l Load) client(ctx context.Context, sys System, p *Participant, begin time.Time) (micros []int64, err error) {
	for time.Since(begin) < l.Length {
		id := NewID()
		over, started := p.Expect(id), time.Now()
		if err := sys.Start(ctx, id); err != nil {
			return nil, err
		}
		select {
		case last := <-over:
			micros = append(micros, last.Sub(started).Microseconds())
		case <-ctx.Done():
			return nil, fmt.Errorf("wait for saga %s: %w", id, ctx.Err())
		}
	}
	return micros, nil
}

// settle waits until no saga is active, and says how often it has asked.
func settle(ctx context.Context, sys System) (c Counts, asked int, err error) {
	ctx, cancel := context.WithTimeout(ctx, settleTimeout)
	defer cancel()
	for asked = 1; ; asked++ {
		if c, err = sys.Counts(ctx); err != nil || c.Active == 0 {
			return c, asked, err
		}
		select {
		case <-time.After(10 * time.Millisecond):
		case <-ctx.Done():
			return c, asked, fmt.Errorf("wait for %d sagas to be over: %w", c.Active, ctx.Err())
		}
	}
}

// StartAll starts the sagas by so many clients.
func StartAll(ctx context.Context, sys System, ids []string, clients int) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var next atomic.Int64
	var all sync.WaitGroup
	for range clients {
		all.Go(func() {
			for ctx.Err() == nil {
				n := int(next.Add(1)) - 1
				if n >= len(ids) {
					return
				}
				if err := sys.Start(ctx, ids[n]); err != nil {
					cancel(err)
				}
			}
		})
	}
	all.Wait()
	return context.Cause(ctx)
}

// NewID returns a random UUID.
func NewID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // it never fails
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}
