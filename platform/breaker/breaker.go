package breaker

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/sony/gobreaker/v2"
)

// Outcome is what the end of a call says about its callee.
type Outcome int

// The outcomes of a call.
const (
	// Success is an answer, though it may be one that the caller does not like.
	Success Outcome = iota
	// Failure is the callee's fault.
	Failure
	// Ignored says nothing about the callee.
	Ignored
)

// Classify tells what an error says about the callee. It is not asked about nil, which is a
// [Success], nor about what is ignored on every account. It is called in parallel.
type Classify func(error) Outcome

// Breaker lets calls pass as long as enough of them succeed. Its methods may be called in parallel.
type Breaker struct {
	config   Config
	classify Classify
	inner    *gobreaker.CircuitBreaker[error]
	metrics  *metrics
	rejected prometheus.Counter

	born time.Time
	// until is when the open time is over, as nanoseconds since born; 0 unless open. The inner
	// breaker's open time is fixed, and therefore the shortest that there is.
	until atomic.Int64
	// openings since the breaker was closed, and why the last one is about to happen, are
	// guarded by the inner breaker's lock.
	openings int
	reason   reason
}

var (
	// errFailure and errIgnored stand for what calls have returned, so that an error is judged once,
	// and outside of the lock.
	errFailure = errors.New("failure")
	errIgnored = errors.New("ignored")
)

// New returns a breaker that is closed. A nil classify counts every error as a failure. A nil reg
// leaves the metrics unexposed; with one the breaker lives as long as reg. It returns an error
// for a configuration that cannot work, and for metrics that reg refuses.
func New(cfg Config, classify Classify, reg prometheus.Registerer) (*Breaker, error) {
	cfg.SetDefaults()
	err := cfg.Validate()
	if cfg.Name == "" {
		err = errors.Join(errors.New("name is required and not set"), err)
	}
	if err != nil {
		return nil, fmt.Errorf("check circuit breaker config: %w", err)
	}
	if classify == nil {
		classify = func(error) Outcome { return Failure }
	}
	m, err := newMetrics(reg)
	if err != nil {
		return nil, err
	}
	b := &Breaker{config: cfg, classify: classify, metrics: m, born: time.Now()}
	b.inner = gobreaker.NewCircuitBreaker[error](gobreaker.Settings{
		MaxRequests:  uint32(cfg.HalfOpenProbes),
		Interval:     cfg.Window,
		BucketPeriod: (cfg.Window + buckets - 1) / buckets,
		// Over at the same instant as until: the inner breaker waits for the instant after.
		Timeout:       cfg.OpenTimeout - 1,
		ReadyToTrip:   b.tripped,
		OnStateChange: b.changed,
		IsSuccessful:  func(err error) bool { return err == nil },
		IsExcluded:    func(err error) bool { return errors.Is(err, errIgnored) },
	})
	b.rejected = m.add(b)
	return b, nil
}

// Do calls fn and returns what it returns, or an [OpenError] without having called it. A context
// that has ended already is returned as its error; fn is not called then either. A panic of fn
// is a failure and goes on. fn has to return or to panic: while half open, a call that
// stays holds one of the few places.
func (b *Breaker) Do(ctx context.Context, fn func(context.Context) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if wait := b.wait(); wait > 0 {
		return b.reject(wait)
	}
	result, err := b.inner.Execute(func() (error, error) {
		err := fn(ctx)
		return err, b.judge(ctx, err)
	})
	if errors.Is(err, gobreaker.ErrOpenState) || errors.Is(err, gobreaker.ErrTooManyRequests) {
		return b.reject(max(b.wait(), 0))
	}
	return result
}

// Begin is [Breaker.Do] for a call that ends elsewhere than it begins, such as a stream. Unless it
// returns an error, done has to be called with what the call returned, once; more often changes
// nothing. Until then a goroutine waits for it.
func (b *Breaker) Begin(ctx context.Context) (done func(error), err error) {
	passed, result, ended := make(chan struct{}), make(chan error, 1), make(chan error, 1)
	go func() {
		ended <- b.Do(ctx, func(context.Context) error {
			close(passed)
			return <-result
		})
	}()
	select {
	case <-passed:
	case err := <-ended:
		return nil, err
	}
	var once sync.Once
	return func(err error) {
		once.Do(func() {
			result <- err
			_ = <-ended // The state has followed.
		})
	}, nil
}

// State returns the state at this moment. An open breaker whose time is over is half open.
func (b *Breaker) State() State {
	if b.wait() > 0 {
		return Open
	}
	return stateOf(b.inner.State())
}

// judge turns what a call returned into what the inner breaker counts.
func (b *Breaker) judge(ctx context.Context, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, ErrOpen), errors.Is(err, context.Canceled), errors.Is(ctx.Err(), context.Canceled):
		return errIgnored
	}
	switch b.classify(err) {
	case Failure:
		return errFailure
	case Ignored:
		return errIgnored
	case Success:
	}
	return nil
}

// tripped says whether a failure opens the breaker. The inner breaker holds its lock.
func (b *Breaker) tripped(n gobreaker.Counts) bool {
	ended := n.TotalSuccesses + n.TotalFailures
	switch {
	case b.config.Failures > 0 && n.ConsecutiveFailures >= uint32(b.config.Failures):
		b.reason = consecutiveFailures
	case b.config.Ratio > 0 && ended >= uint32(b.config.MinCalls) && float64(n.TotalFailures) >= b.config.Ratio*float64(ended):
		b.reason = failureRatio
	default:
		return false
	}
	return true
}

// changed follows the inner breaker, which holds its lock.
func (b *Breaker) changed(_ string, from, to gobreaker.State) {
	c := Change{Name: b.config.Name, From: stateOf(from), To: stateOf(to)}
	why := b.reason
	switch c.To {
	case Open:
		if c.From == HalfOpen {
			why = probeFailed
		}
		c.RetryAfter = openFor(b.config, b.openings)
		b.openings++
		b.until.Store(int64(time.Since(b.born) + c.RetryAfter))
	case HalfOpen:
		why = openTimeOver
		b.until.Store(0)
	case Closed:
		why = probesSucceeded
		b.openings = 0
	}
	c.Reason = string(why)
	b.metrics.transitions.WithLabelValues(c.Name, string(c.From), string(c.To), c.Reason).Inc()
	if b.config.OnChange != nil {
		b.config.OnChange(c)
	}
}

// openFor is how long a breaker stays open that has opened so many times since it was closed.
func openFor(c Config, openings int) time.Duration {
	d := c.OpenTimeout
	for range openings {
		if d >= c.MaxOpen/2 {
			return c.MaxOpen
		}
		d *= 2
	}
	return d
}

// wait is how long nothing passes; not positive unless open.
func (b *Breaker) wait() time.Duration {
	until := b.until.Load()
	if until == 0 {
		return 0
	}
	return time.Duration(until) - time.Since(b.born)
}

func (b *Breaker) reject(wait time.Duration) error {
	b.rejected.Inc()
	if wait == 0 { // The probes are in flight: if they fail, it is at least as long.
		wait = b.config.OpenTimeout
	}
	return &OpenError{Name: b.config.Name, RetryAfter: wait}
}
