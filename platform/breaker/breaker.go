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

// Breaker lets calls pass as long as enough of them succeed. Its methods may be called in parallel.
type Breaker struct {
	config  Config
	inner   *gobreaker.CircuitBreaker[error]
	metrics *metrics
	born    time.Time

	// until is when the open time is over, as nanoseconds since born; 0 unless open. The open time of
	// the inner breaker is always the shortest one. What the inner breaker takes for half open
	// before until is open.
	until atomic.Int64

	// mu orders the changes of the state. Whoever holds the inner breaker's lock as well has taken
	// that one first.
	mu sync.Mutex
	// openings since the breaker was closed.
	openings int

	// reason is why the breaker is about to open, guarded by the inner breaker's lock.
	reason reason
}

var (
	// errFailure and errIgnored stand for what calls have returned, so that an error is judged once,
	// and outside of the lock.
	errFailure = errors.New("failure")
	errIgnored = errors.New("ignored")
)

// New returns a breaker that is closed. A nil reg leaves the metrics unexposed; with one the breaker
// lives as long as reg. It returns an error for a configuration that cannot work, and
// for metrics that reg refuses.
func New(cfg Config, reg prometheus.Registerer) (*Breaker, error) {
	cfg.SetDefaults()
	if err := cfg.validateNamed(); err != nil {
		return nil, fmt.Errorf("check circuit breaker config: %w", err)
	}
	if cfg.Classify == nil {
		cfg.Classify = func(error) Outcome { return Failure }
	}
	m, err := newMetrics(reg)
	if err != nil {
		return nil, err
	}
	b := &Breaker{config: cfg, metrics: m, born: time.Now()}
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
	m.add(b)
	return b, nil
}

// Do calls fn and returns what it returns, or a [RejectedError] without having called it. A context
// that has ended already is returned as its error; fn is not called then either. A panic of fn
// is a failure and goes on. fn has to return or to panic: while half open, a call that
// stays holds one of the few places.
func (b *Breaker) Do(ctx context.Context, fn func(context.Context) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if wait := b.wait(); wait > 0 {
		return b.reject(ErrOpen, wait)
	}
	result, err := b.inner.Execute(func() (error, error) {
		if wait := b.wait(); wait > 0 { // The inner breaker does not know how long it is open.
			return b.reject(ErrOpen, wait), errIgnored
		}
		err := fn(ctx)
		return err, b.judge(ctx, err)
	})
	switch {
	case errors.Is(err, gobreaker.ErrOpenState): // Just now.
		return b.reject(ErrOpen, b.wait())
	case errors.Is(err, gobreaker.ErrTooManyRequests):
		return b.reject(ErrTooManyProbes, b.config.OpenTimeout)
	}
	return result
}

// Begin is [Breaker.Do] for a call that ends elsewhere than it begins, such as a stream. Unless it
// returns an error, done has to be called with what the call returned, once; more often changes
// nothing. Until then a goroutine waits for it.
func (b *Breaker) Begin(ctx context.Context) (done func(error), err error) {
	passed, result, ended := make(chan struct{}), make(chan error, 1), make(chan struct{})
	var refused error
	go func() {
		defer close(ended)
		refused = b.Do(ctx, func(context.Context) error {
			close(passed)
			return <-result
		})
	}()
	select {
	case <-passed:
	case <-ended:
		return nil, refused
	}
	var once sync.Once
	return func(err error) {
		once.Do(func() {
			result <- err
			<-ended // The state has followed.
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
	if err == nil {
		return nil
	}
	if rejected := (*RejectedError)(nil); errors.As(err, &rejected) ||
		errors.Is(err, context.Canceled) || errors.Is(ctx.Err(), context.Canceled) {
		return errIgnored
	}
	switch b.config.Classify(err) {
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

// changed follows the inner breaker, which holds its lock, to open and closed.
func (b *Breaker) changed(_ string, from, to gobreaker.State) {
	b.mu.Lock()
	defer b.mu.Unlock()
	c := Change{From: stateOf(from), To: stateOf(to)}
	switch c.To {
	case Open:
		why := b.reason
		if c.From == HalfOpen {
			why = probeFailed
		}
		c.RetryAfter = openFor(b.config, b.openings)
		b.openings++
		b.until.Store(int64(time.Since(b.born) + c.RetryAfter))
		b.tell(c, why)
	case Closed:
		b.openings = 0
		b.tell(c, probesSucceeded)
	case HalfOpen: // Perhaps too early: wait tells.
	}
}

// wait is how long nothing passes; 0 unless open. It ends the open time when that is over.
func (b *Breaker) wait() time.Duration {
	until := b.until.Load()
	if until == 0 {
		return 0
	}
	if wait := time.Duration(until) - time.Since(b.born); wait > 0 {
		return wait
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.until.Load() == until {
		b.tell(Change{From: Open, To: HalfOpen}, openTimeOver)
		b.until.Store(0) // Calls pass from here on.
	}
	return 0
}

// tell counts and reports a change. The caller holds mu.
func (b *Breaker) tell(c Change, why reason) {
	c.Name, c.Reason = b.config.Name, string(why)
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

func (b *Breaker) reject(why error, wait time.Duration) error {
	b.metrics.rejections.WithLabelValues(b.config.Name, rejectionReasons[why]).Inc()
	return &RejectedError{Name: b.config.Name, RetryAfter: wait, Reason: why}
}
