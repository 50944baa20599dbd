package telemetry

import (
	"context"
	"encoding/binary"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
)

// clock is a time that moves when it is told to.
type clock struct{ passed atomic.Int64 }

func (c *clock) Now() time.Time          { return time.Unix(1_700_000_000, c.passed.Load()) }
func (c *clock) Advance(d time.Duration) { c.passed.Add(int64(d)) }

// ids draws trace and span ids from a seed, so that a share that is counted once is counted again.
type ids struct{ *rand.Rand }

func (g ids) NewIDs(ctx context.Context) (t trace.TraceID, s trace.SpanID) {
	binary.BigEndian.PutUint64(t[:8], g.Uint64())
	binary.BigEndian.PutUint64(t[8:], g.Uint64())
	return t, g.NewSpanID(ctx, t)
}

func (g ids) NewSpanID(context.Context, trace.TraceID) (s trace.SpanID) {
	binary.BigEndian.PutUint64(s[:], g.Uint64())
	return s
}

// service is a tracer whose sampler follows cfg, at a time of its own.
type service struct {
	clock   *clock
	ids     ids
	sampler sdktrace.Sampler
	tracer  trace.Tracer
	share   func() float64
}

func newService(t *testing.T, cfg Config) *service {
	t.Helper()
	cfg.SetDefaults()
	require.NoError(t, cfg.Validate())
	s := &service{clock: &clock{}, ids: ids{rand.New(rand.NewPCG(1, 2))}}
	sampler, share, err := newSampler(cfg, s.clock.Now)
	require.NoError(t, err)
	s.sampler, s.share = sampler, share
	s.tracer = sdktrace.NewTracerProvider(sdktrace.WithSampler(sampler), sdktrace.WithIDGenerator(s.ids)).Tracer("test")
	return s
}

// serve lets n requests come in at rate per second and returns the share that is sampled. Each has
// the context that caller makes; of some it is seen that a span below is decided alike.
func (s *service) serve(t *testing.T, n, rate int, caller func() context.Context) float64 {
	t.Helper()
	kept := 0
	for i := range n {
		s.clock.Advance(time.Second / time.Duration(rate))
		ctx, span := s.tracer.Start(caller(), "request")
		if i%16 == 0 {
			_, inner := s.tracer.Start(ctx, "query")
			require.Equal(t, span.SpanContext().IsSampled(), inner.SpanContext().IsSampled(), "sampled in part")
		}
		if span.SpanContext().IsSampled() {
			kept++
		}
	}
	return float64(kept) / float64(n)
}

// pass lets seconds of requests go by, seen by nothing but the sampler, and returns the share then.
func (s *service) pass(seconds, rate int) float64 {
	p := sdktrace.SamplingParameters{ParentContext: context.Background(), TraceID: trace.TraceID{1}}
	for range seconds * rate {
		s.clock.Advance(time.Second / time.Duration(rate))
		s.sampler.ShouldSample(p)
	}
	return s.share()
}

// root is a request of nobody who traces.
func (s *service) root() context.Context { return context.Background() }

// remote makes requests of a caller who traces.
func (s *service) remote(sampled bool) func() context.Context {
	return func() context.Context {
		t, sp := s.ids.NewIDs(context.Background())
		return remoteParent(t, sp, sampled)
	}
}

func remoteParent(t trace.TraceID, s trace.SpanID, sampled bool) context.Context {
	return trace.ContextWithRemoteSpanContext(context.Background(), trace.NewSpanContext(trace.SpanContextConfig{
		TraceID: t, SpanID: s, TraceFlags: trace.TraceFlags(0).WithSampled(sampled), Remote: true,
	}))
}

const (
	traces = 100_000
	calm   = 500    // requests a second that are no high traffic
	spread = 0.0057 // five standard deviations of a share of 0.15 over that many traces
)

// TestSampler_shares counts every row of the table in the package comment.
func TestSampler_shares(t *testing.T) {
	t.Parallel()
	production := func(c Config) Config { c.Environment = Production; return c }
	for name, row := range map[string]struct {
		cfg  Config
		rate int
		// the shares of requests without a trace, of sampled callers and of those that are not
		root, sampled, notSampled float64
	}{
		"development":        {Config{}, calm, 1, 1, 1},
		"staging":            {Config{Environment: Staging}, calm, 1, 1, 1},
		"staging, high":      {Config{Environment: Staging}, 12_000, 1, 1, 1},
		"production":         {production(Config{}), calm, 0.15, 1, 0},
		"production at 10 %": {production(Config{SampleRatio: 0.10}), calm, 0.10, 1, 0},
		"production at 20 %": {production(Config{SampleRatio: 0.20}), calm, 0.20, 1, 0},
		"at the threshold":   {production(Config{}), 10_000, 0.15, 1, 0},
		"above 10,000/s":     {production(Config{}), 10_200, 500. / 10_200, 1, 0},
		"at 20,000/s":        {production(Config{SampleRatio: 0.20}), 20_000, 500. / 20_000, 1, 0},
		"at 60,000/s":        {production(Config{}), 60_000, 0.01, 1, 0},
		"tail":               {production(Config{SamplingMode: "tail"}), calm, 1, 1, 1},
		"tail, high":         {production(Config{SamplingMode: "tail", PublicEdge: true}), 12_000, 1, 1, 1},
		"public edge":        {production(Config{PublicEdge: true}), calm, 0.15, 0.15, 0.15},
		"public edge, high":  {production(Config{PublicEdge: true}), 20_000, 0.025, 0.025, 0.025},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newService(t, row.cfg)
			s.pass(6, row.rate) // until the rate is known
			require.InDelta(t, row.root, s.serve(t, traces, row.rate, s.root), spread)
			require.InDelta(t, row.root, s.share(), 0.0005, "trace_sampling_ratio")
			callers := 5_000 // enough for what is all or nothing
			if row.cfg.PublicEdge {
				callers = traces
			}
			require.InDelta(t, row.sampled, s.serve(t, callers, row.rate, s.remote(true)), spread)
			require.InDelta(t, row.notSampled, s.serve(t, callers, row.rate, s.remote(false)), spread)
		})
	}
}

// What a request causes later is kept with it, or not at all.
func TestSampler_links(t *testing.T) {
	t.Parallel()
	for name, edge := range map[string]bool{"internal": false, "public edge": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newService(t, Config{Environment: Production, PublicEdge: edge})
			kept := 0
			for range 2_000 {
				_, request := s.tracer.Start(context.Background(), "request")
				_, step := s.tracer.Start(context.Background(), "step", trace.WithNewRoot(), trace.WithLinks(trace.Link{SpanContext: request.SpanContext()}))
				require.NotEqual(t, request.SpanContext().TraceID(), step.SpanContext().TraceID())
				require.Equal(t, request.SpanContext().IsSampled(), step.SpanContext().IsSampled())
				if step.SpanContext().IsSampled() {
					kept++
				}
			}
			require.Positive(t, kept)
			require.Less(t, kept, 2_000)
		})
	}
}

func TestSampler_publicEdge(t *testing.T) {
	t.Parallel()
	s := newService(t, Config{Environment: Production, PublicEdge: true})
	always := trace.TraceID{0: 1} // the ratio keeps it, however small it is
	kept := s.serve(t, traces, calm, func() context.Context { return remoteParent(always, trace.SpanID{1}, true) })
	require.InDelta(t, 0.15, kept, spread, "a stranger picked trace ids that are always kept")
}

func TestSampler_hysteresis(t *testing.T) {
	t.Parallel()
	t.Run("the rate is averaged over a window", func(t *testing.T) {
		t.Parallel()
		s := newService(t, Config{Environment: Production})
		require.InDelta(t, 0.15, s.pass(1, 30_000), 0, "a burst of a second")
		require.InDelta(t, 0.15, s.pass(4, 1_000), 0, "which is 6,800/s over the window")
		require.InDelta(t, 500./12_000, s.pass(6, 12_000), 0.0005)
	})

	t.Run("between both thresholds nothing changes", func(t *testing.T) {
		t.Parallel()
		s := newService(t, Config{Environment: Production})
		require.InDelta(t, 0.15, s.pass(20, 9_000), 0, "not entered at 9,000/s")
		require.Less(t, s.pass(6, 12_000), 0.05)
		require.InDelta(t, 0.05, s.pass(40, 9_000), 0.0001, "not left at 9,000/s")
	})

	t.Run("it must be calm for half a minute without a break", func(t *testing.T) {
		t.Parallel()
		s := newService(t, Config{Environment: Production})
		s.pass(5, 20_000)
		require.InDelta(t, 0.05, s.pass(25, 1_000), 0)
		require.InDelta(t, 0.05, s.pass(5, 9_000), 0.0001, "the calm is broken")
		require.InDelta(t, 0.05, s.pass(25, 1_000), 0)
		require.InDelta(t, 0.15, s.pass(6, 1_000), 0)
	})

	t.Run("asking for the share is enough to leave when no request comes any more", func(t *testing.T) {
		t.Parallel()
		s := newService(t, Config{Environment: Production})
		s.pass(5, 20_000)
		s.clock.Advance(highTrafficHold - time.Second)
		require.InDelta(t, 0.05, s.share(), 0)
		s.clock.Advance(rateWindow)
		require.InDelta(t, 0.15, s.share(), 0)
	})

	t.Run("spans inside the service are no requests", func(t *testing.T) {
		t.Parallel()
		s := newService(t, Config{Environment: Production})
		ctx, _ := s.tracer.Start(s.root(), "request")
		s.serve(t, 120_000, 20_000, func() context.Context { return ctx })
		require.InDelta(t, 0.15, s.share(), 0)
	})
}

func TestSampler_concurrentRequests(t *testing.T) {
	t.Parallel()
	c := &clock{}
	a := newAdaptive(0.15, c.Now)
	var done sync.WaitGroup
	for range 8 {
		done.Go(func() {
			for range 20_000 {
				c.Advance(50 * time.Microsecond)
				a.request()
			}
		})
	}
	done.Wait()
	require.InDelta(t, 500./20_000, a.share(), 0.002)
}

func TestConfig_standardSampler(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		sampler, arg              string
		root, sampled, notSampled float64
	}{
		{"always_on", "", 1, 1, 1},
		{"always_off", "", 0, 0, 0},
		{"traceidratio", "0.5", 0.5, 0.5, 0.5},
		{"traceidratio", "", 1, 1, 1},
		{"parentbased_always_on", "", 1, 1, 0},
		{"parentbased_always_off", "", 0, 1, 0},
		{"parentbased_traceidratio", "0.25", 0.25, 1, 0},
	} {
		t.Run(row.sampler+" "+row.arg, func(t *testing.T) {
			t.Parallel()
			s := newService(t, Config{
				Environment: Production, PublicEdge: true, SamplingMode: "tail", // which are overridden
				Sampler: row.sampler, SamplerArg: row.arg,
			})
			require.InDelta(t, row.root, s.share(), 0)
			require.InDelta(t, row.root, s.serve(t, 5_000, 20_000, s.root), 0.03)
			require.InDelta(t, row.sampled, s.serve(t, 5_000, 20_000, s.remote(true)), 0.03)
			require.InDelta(t, row.notSampled, s.serve(t, 5_000, 20_000, s.remote(false)), 0.03)
		})
	}
}

func TestSampler_allocations(t *testing.T) {
	s := newProductionSampler(t)
	for name, ctx := range map[string]context.Context{
		"root": context.Background(), "remote": remoteParent(trace.TraceID{1}, trace.SpanID{1}, true),
	} {
		p := sdktrace.SamplingParameters{ParentContext: ctx, TraceID: trace.TraceID{1}}
		require.Zero(t, testing.AllocsPerRun(1000, func() { s.ShouldSample(p) }), name)
	}
}

func newProductionSampler(tb testing.TB) sdktrace.Sampler {
	tb.Helper()
	cfg := Config{Environment: Production, PublicEdge: true}
	cfg.SetDefaults()
	s, _, err := newSampler(cfg, time.Now)
	require.NoError(tb, err)
	return s
}

func BenchmarkSampler(b *testing.B) {
	s := newProductionSampler(b)
	p := sdktrace.SamplingParameters{
		ParentContext: remoteParent(trace.TraceID{1}, trace.SpanID{1}, true), TraceID: trace.TraceID{1},
	}
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			s.ShouldSample(p)
		}
	})
}
