package telemetry

import (
	"fmt"
	"math/rand/v2"
	"time"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
)

// newSampler returns the sampler that the package comment describes, and a function that tells the
// share of new traces it keeps at the moment.
func newSampler(cfg Config, now func() time.Time) (sdktrace.Sampler, func() float64, error) {
	s, share, err := cfg.standardSampler()
	if err != nil {
		return nil, nil, err
	}
	if s != nil {
		return s, func() float64 { return share }, nil
	}
	if cfg.SamplingMode == "tail" || cfg.Environment != Production {
		return sdktrace.AlwaysSample(), func() float64 { return 1 }, nil
	}
	ratio := newAdaptive(cfg.SampleRatio, now)
	var remote []sdktrace.ParentBasedSamplerOption
	if cfg.PublicEdge {
		s := byChance{ratio}
		remote = []sdktrace.ParentBasedSamplerOption{
			sdktrace.WithRemoteParentSampled(s), sdktrace.WithRemoteParentNotSampled(s),
		}
	}
	return requestCounter{sdktrace.ParentBased(byLink{ratio}, remote...), ratio}, ratio.share, nil
}

// standardSampler returns the sampler that OTEL_TRACES_SAMPLER names and the share of new traces
// it keeps; nil if the variable is not set.
func (c Config) standardSampler() (sdktrace.Sampler, float64, error) {
	ratio, err := c.ratioArg()
	if err != nil {
		return nil, 0, err
	}
	switch c.Sampler {
	case "":
		return nil, 0, nil
	case "always_on":
		return sdktrace.AlwaysSample(), 1, nil
	case "always_off":
		return sdktrace.NeverSample(), 0, nil
	case "traceidratio":
		return sdktrace.TraceIDRatioBased(ratio), ratio, nil
	case "parentbased_always_on":
		return sdktrace.ParentBased(sdktrace.AlwaysSample()), 1, nil
	case "parentbased_always_off":
		return sdktrace.ParentBased(sdktrace.NeverSample()), 0, nil
	case "parentbased_traceidratio":
		return sdktrace.ParentBased(sdktrace.TraceIDRatioBased(ratio)), ratio, nil
	}
	return nil, 0, fmt.Errorf("OTEL_TRACES_SAMPLER: %q is not one of always_on, always_off, traceidratio, "+
		"parentbased_always_on, parentbased_always_off, parentbased_traceidratio", c.Sampler)
}

// requestCounter counts the requests that reach the service, that is the spans without a parent in
// this process, whoever decides about their sampling.
type requestCounter struct {
	sdktrace.Sampler
	ratio *adaptive
}

// ShouldSample implements [sdktrace.Sampler].
func (s requestCounter) ShouldSample(p sdktrace.SamplingParameters) sdktrace.SamplingResult {
	if parent := trace.SpanContextFromContext(p.ParentContext); !parent.IsValid() || parent.IsRemote() {
		s.ratio.request()
	}
	return s.Sampler.ShouldSample(p)
}

// byLink decides about a trace that follows from others as it was decided about those, so that a
// request is kept with the messages and steps that it caused, or without them.
type byLink struct {
	sdktrace.Sampler
}

// ShouldSample implements [sdktrace.Sampler].
func (s byLink) ShouldSample(p sdktrace.SamplingParameters) sdktrace.SamplingResult {
	if len(p.Links) == 0 {
		return s.Sampler.ShouldSample(p)
	}
	result := sdktrace.SamplingResult{Decision: sdktrace.Drop}
	for _, l := range p.Links {
		if l.SpanContext.IsSampled() {
			result.Decision = sdktrace.RecordAndSample
		}
	}
	return result
}

// byChance keeps the share of an adaptive sampler without looking at the trace id: at a public edge
// it is the caller who chose it, and may have chosen one that a ratio always keeps. Services further
// down follow the flag set here, so that traces stay whole.
type byChance struct {
	ratio *adaptive
}

// ShouldSample implements [sdktrace.Sampler].
func (s byChance) ShouldSample(p sdktrace.SamplingParameters) sdktrace.SamplingResult {
	result := sdktrace.SamplingResult{
		Decision:   sdktrace.Drop,
		Tracestate: trace.SpanContextFromContext(p.ParentContext).TraceState(),
	}
	if rand.Float64() < s.ratio.current.Load().share {
		result.Decision = sdktrace.RecordAndSample
	}
	return result
}

// Description implements [sdktrace.Sampler].
func (s byChance) Description() string { return "ByChance{" + s.ratio.Description() + "}" }
