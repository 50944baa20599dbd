package telemetry

import (
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
)

// Under high traffic a budget of traces is kept, as a share between highRatioMin and highRatioMax.
const (
	highTrafficEnter = 10_000           // requests a second
	highTrafficLeave = 8_000            // requests a second
	highTrafficHold  = 30 * time.Second // how long it must be calm before the share goes up again
	tracesPerSecond  = 500
	highRatioMin     = 0.01
	highRatioMax     = 0.05
	rateWindow       = 5 * time.Second
)

// adaptive keeps a share of traces by their id, as TraceIDRatioBased does, and lowers the share
// while the measured rate of requests is high. It needs no goroutine: the first request after the
// end of a window closes it, or whoever asks for the share. A request costs one atomic addition and
// a look at the clock.
type adaptive struct {
	base  float64
	now   func() time.Time
	start time.Time

	requests  atomic.Int64
	windowEnd atomic.Int64 // as a time.Duration since start: the monotonic clock, which nobody sets
	current   atomic.Pointer[decision]

	mu          sync.Mutex // held by who closes a window
	windowStart time.Duration
	calm        time.Duration // for how long the rate has been below highTrafficLeave
}

// decision is a sampler with the share it keeps.
type decision struct {
	sdktrace.Sampler
	share float64
	high  bool
}

func newAdaptive(base float64, now func() time.Time) *adaptive {
	a := &adaptive{base: base, now: now, start: now()}
	a.windowEnd.Store(int64(rateWindow))
	a.decide(base, false)
	return a
}

// ShouldSample implements [sdktrace.Sampler].
func (a *adaptive) ShouldSample(p sdktrace.SamplingParameters) sdktrace.SamplingResult {
	return a.current.Load().ShouldSample(p)
}

// Description implements [sdktrace.Sampler].
func (a *adaptive) Description() string { return fmt.Sprintf("AdaptiveRatio{%g}", a.base) }

// share returns the share that is kept now.
func (a *adaptive) share() float64 {
	a.measure()
	return a.current.Load().share
}

// request counts a request.
func (a *adaptive) request() {
	a.requests.Add(1)
	a.measure()
}

// measure closes the window if it is over.
func (a *adaptive) measure() {
	now := a.now().Sub(a.start)
	if int64(now) < a.windowEnd.Load() || !a.mu.TryLock() {
		return
	}
	defer a.mu.Unlock()
	if int64(now) >= a.windowEnd.Load() { // else another request closed it just before
		a.closeWindow(now)
	}
}

func (a *adaptive) closeWindow(now time.Duration) {
	elapsed := now - a.windowStart
	rate := float64(a.requests.Swap(0)) / elapsed.Seconds()
	if rate < highTrafficLeave {
		a.calm += elapsed
	} else {
		a.calm = 0
	}
	high := a.current.Load().high
	switch {
	case rate > highTrafficEnter, high && a.calm < highTrafficHold:
		a.decide(min(highRatioMax, max(highRatioMin, tracesPerSecond/rate)), true)
	case high:
		a.decide(a.base, false)
	}
	a.windowStart = now
	a.windowEnd.Store(int64(now + rateWindow))
}

func (a *adaptive) decide(share float64, high bool) {
	a.current.Store(&decision{Sampler: sdktrace.TraceIDRatioBased(share), share: share, high: high})
}
