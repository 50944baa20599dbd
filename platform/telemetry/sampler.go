package telemetry

import (
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
)

// Under high traffic a fixed budget of traces is kept, as a share between highRatioMin and
// highRatioMax.
const (
	highTrafficEnter = 10_000 // requests a second
	highTrafficLeave = 8_000
	highTrafficHold  = 30 * time.Second // how long it must be calm before the share goes up again
	tracesPerSecond  = 500
	highRatioMin     = 0.01
	highRatioMax     = 0.05
	rateWindow       = 5 * time.Second
)

// newSampler returns the sampler that the package comment describes, and a function that tells the
// share of new traces it keeps at the moment.
func newSampler(cfg Config, now func() time.Time) (sdktrace.Sampler, func() float64, error) {
	s, err := cfg.standardSampler()
	if err != nil {
		return nil, nil, err
	}
	if s != nil {
		return s, cfg.standardRatio, nil
	}
	if cfg.SamplingMode == "tail" || cfg.Environment != Production {
		return sdktrace.AlwaysSample(), func() float64 { return 1 }, nil
	}
	root := newAdaptive(cfg.SampleRatio, now)
	var parents []sdktrace.ParentBasedSamplerOption
	if cfg.PublicEdge {
		parents = append(parents, sdktrace.WithRemoteParentSampled(root), sdktrace.WithRemoteParentNotSampled(root))
	}
	return &requestCounter{next: sdktrace.ParentBased(root, parents...), rate: root}, root.share, nil
}

// standardSampler returns the sampler that OTEL_TRACES_SAMPLER names, nil if it is not set.
func (c Config) standardSampler() (sdktrace.Sampler, error) {
	if c.Sampler == "" {
		return nil, nil
	}
	ratio, err := c.ratioArg()
	if err != nil {
		return nil, err
	}
	switch c.Sampler {
	case "always_on":
		return sdktrace.AlwaysSample(), nil
	case "always_off":
		return sdktrace.NeverSample(), nil
	case "traceidratio":
		return sdktrace.TraceIDRatioBased(ratio), nil
	case "parentbased_always_on":
		return sdktrace.ParentBased(sdktrace.AlwaysSample()), nil
	case "parentbased_always_off":
		return sdktrace.ParentBased(sdktrace.NeverSample()), nil
	case "parentbased_traceidratio":
		return sdktrace.ParentBased(sdktrace.TraceIDRatioBased(ratio)), nil
	}
	return nil, fmt.Errorf("OTEL_TRACES_SAMPLER: %q is not one of always_on, always_off, traceidratio, "+
		"parentbased_always_on, parentbased_always_off, parentbased_traceidratio", c.Sampler)
}

func (c Config) standardRatio() float64 {
	switch c.Sampler {
	case "always_on", "parentbased_always_on":
		return 1
	case "always_off", "parentbased_always_off":
		return 0
	}
	ratio, _ := c.ratioArg() // Validated before.
	return ratio
}

// requestCounter counts the requests that reach the service, that is the spans without a parent in
// this process, whoever decides about their sampling.
type requestCounter struct {
	next sdktrace.Sampler
	rate *adaptive
}

// ShouldSample implements [sdktrace.Sampler].
func (s *requestCounter) ShouldSample(p sdktrace.SamplingParameters) sdktrace.SamplingResult {
	if parent := trace.SpanContextFromContext(p.ParentContext); !parent.IsValid() || parent.IsRemote() {
		s.rate.request()
	}
	return s.next.ShouldSample(p)
}

// Description implements [sdktrace.Sampler].
func (s *requestCounter) Description() string { return s.next.Description() }

// adaptive keeps a share of traces by their id, as TraceIDRatioBased does, and lowers the share
// when the measured rate of requests is high. It needs no goroutine: a request that finds the
// window over closes it.
type adaptive struct {
	base float64
	now  func() time.Time

	requests  atomic.Int64
	windowEnd atomic.Int64 // UnixNano
	current   atomic.Pointer[decision]

	mu          sync.Mutex // held by the request that closes a window
	windowStart time.Time
	calmSince   time.Time // zero while the rate is not low
}

// decision is a sampler with the share it keeps.
type decision struct {
	sdktrace.Sampler
	share float64
	high  bool
}

func newAdaptive(base float64, now func() time.Time) *adaptive {
	a := &adaptive{base: base, now: now, windowStart: now()}
	a.windowEnd.Store(a.windowStart.Add(rateWindow).UnixNano())
	a.decide(base, false)
	return a
}

// ShouldSample implements [sdktrace.Sampler].
func (a *adaptive) ShouldSample(p sdktrace.SamplingParameters) sdktrace.SamplingResult {
	return a.current.Load().ShouldSample(p)
}

// Description implements [sdktrace.Sampler].
func (a *adaptive) Description() string { return fmt.Sprintf("AdaptiveRatio{%g}", a.base) }

func (a *adaptive) share() float64 { return a.current.Load().share }

func (a *adaptive) request() {
	n := a.requests.Add(1)
	if n&63 != 0 && n > 64 { // Looking at the clock for every 64th is enough under load.
		return
	}
	now := a.now()
	if now.UnixNano() < a.windowEnd.Load() || !a.mu.TryLock() {
		return
	}
	defer a.mu.Unlock()
	a.closeWindow(now)
}

func (a *adaptive) closeWindow(now time.Time) {
	elapsed := now.Sub(a.windowStart)
	if elapsed < rateWindow {
		return // Another request closed it just before.
	}
	rate := float64(a.requests.Swap(0)) / elapsed.Seconds()
	if rate >= highTrafficLeave {
		a.calmSince = time.Time{}
	} else if a.calmSince.IsZero() {
		a.calmSince = a.windowStart
	}
	high := a.current.Load().high
	switch {
	case rate > highTrafficEnter || high && (a.calmSince.IsZero() || now.Sub(a.calmSince) < highTrafficHold):
		a.decide(min(highRatioMax, max(highRatioMin, tracesPerSecond/rate)), true)
	case high:
		a.decide(a.base, false)
	}
	a.windowStart = now
	a.windowEnd.Store(now.Add(rateWindow).UnixNano())
}

func (a *adaptive) decide(share float64, high bool) {
	a.current.Store(&decision{Sampler: sdktrace.TraceIDRatioBased(share), share: share, high: high})
}
