package breaker_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/slipwayhq/slipway/platform/breaker"
)

// model says what a breaker must do, from the list of what has happened.
type model struct {
	cfg      breaker.Config
	state    breaker.State
	since    time.Time     // of the state
	open     time.Duration // how long it is open, in that state
	openings int
	calls    []ended // those that ended in the state and began in it
	begun    int     // places taken in half open
	changes  []breaker.Change
}

type ended struct {
	part   int64 // of the time since the state began, in tenths of the window
	failed bool
}

// flight is a call that has begun and has not ended.
type flight struct {
	since time.Time // the state's
	state breaker.State
	part  int64
}

// now ends the open time if it is over.
func (m *model) now() time.Time {
	if end := m.since.Add(m.open); m.state == breaker.Open && !time.Now().Before(end) {
		m.change(breaker.HalfOpen, "open_time_over")
	}
	return time.Now()
}

func (m *model) change(to breaker.State, reason string) {
	c := breaker.Change{Name: m.cfg.Name, From: m.state, To: to, Reason: reason}
	if to == breaker.Open {
		m.open = m.cfg.OpenTimeout
		for range m.openings {
			m.open = min(2*m.open, m.cfg.MaxOpen)
		}
		m.openings++
		c.RetryAfter = m.open
	}
	if to == breaker.Closed {
		m.openings = 0
	}
	m.state, m.since, m.calls, m.begun = to, time.Now(), nil, 0
	m.changes = append(m.changes, c)
}

func (m *model) part() int64 { return int64(time.Since(m.since) / (m.cfg.Window / 10)) }

// begin returns what a call gets that does not pass.
func (m *model) begin() (flight, error) {
	now := m.now()
	switch {
	case m.state == breaker.Open:
		return flight{}, &breaker.RejectedError{
			Name: m.cfg.Name, Reason: breaker.ErrOpen, RetryAfter: m.since.Add(m.open).Sub(now),
		}
	case m.state == breaker.HalfOpen && m.begun == m.cfg.HalfOpenProbes:
		return flight{}, &breaker.RejectedError{
			Name: m.cfg.Name, Reason: breaker.ErrTooManyProbes, RetryAfter: m.cfg.OpenTimeout,
		}
	}
	m.begun++
	return flight{since: m.since, state: m.state, part: m.part()}, nil
}

func (m *model) end(f flight, result error) {
	m.now()
	if f.state != m.state || !f.since.Equal(m.since) {
		return
	}
	outcome := breaker.Success
	if result != nil {
		outcome = classify(result)
	}
	if outcome == breaker.Ignored {
		m.begun--
		return
	}
	m.calls = append(m.calls, ended{part: f.part, failed: outcome == breaker.Failure})
	switch failed := outcome == breaker.Failure; {
	case m.state == breaker.HalfOpen && failed:
		m.change(breaker.Open, "probe_failed")
	case m.state == breaker.HalfOpen && len(m.calls) == m.cfg.HalfOpenProbes:
		m.change(breaker.Closed, "probes_succeeded")
	case m.state == breaker.Closed && failed:
		m.trip()
	}
}

// trip opens after a failure if there were enough of late.
func (m *model) trip() {
	var calls, failures, row int
	for _, c := range m.calls {
		if m.part()-c.part >= 10 {
			continue
		}
		calls++
		row++
		if c.failed {
			failures++
		} else {
			row = 0
		}
	}
	switch {
	case m.cfg.Failures > 0 && row >= m.cfg.Failures:
		m.change(breaker.Open, "consecutive_failures")
	case m.cfg.Ratio > 0 && calls >= m.cfg.MinCalls && float64(failures)/float64(calls) >= m.cfg.Ratio:
		m.change(breaker.Open, "failure_ratio")
	}
}

// step is one thing that happens to a breaker.
type step struct {
	kind   string
	result error
	wait   time.Duration
	which  int // of the calls in flight
}

func drawStep(t *rapid.T) step {
	return step{
		kind:   rapid.SampledFrom([]string{"call", "call", "call", "begin", "end", "wait"}).Draw(t, "kind"),
		result: rapid.SampledFrom([]error{nil, nil, errWrong, errAway, errDown, errDown, errDown, errDown}).Draw(t, "result"),
		wait: rapid.SampledFrom([]time.Duration{
			1, time.Millisecond, 100 * time.Millisecond, time.Second - 1, time.Second, 2 * time.Second, 9 * time.Second,
		}).Draw(t, "wait"),
		which: rapid.IntRange(0, 9).Draw(t, "which"),
	}
}

// drawConfig draws a config, for calls that overlap one with a window in which nothing is forgotten:
// gobreaker remembers calls by when they began, but a row of failures by when they ended, so what it
// forgets of such a row is not exact.
func drawConfig(t *rapid.T, overlapping bool) breaker.Config {
	cfg := breaker.Config{
		Name:           "orders",
		Failures:       rapid.SampledFrom([]int{-1, 1, 2, 3}).Draw(t, "failures"),
		Ratio:          rapid.SampledFrom([]float64{-1, 0.25, 0.5, 1}).Draw(t, "ratio"),
		MinCalls:       rapid.IntRange(1, 6).Draw(t, "min calls"),
		Window:         rapid.SampledFrom([]time.Duration{time.Second, 10 * time.Second}).Draw(t, "window"),
		OpenTimeout:    time.Second,
		MaxOpen:        rapid.SampledFrom([]time.Duration{time.Second, 3 * time.Second, 10 * time.Second}).Draw(t, "max open"),
		HalfOpenProbes: rapid.IntRange(1, 3).Draw(t, "probes"),
		Classify:       classify,
	}
	if cfg.Failures < 0 && cfg.Ratio < 0 {
		cfg.Failures = 3
	}
	if overlapping {
		cfg.Window = 24 * time.Hour
	}
	return cfg
}

// Whatever calls and pauses come in whatever order, a breaker does what the model says.
func TestBreaker_model(t *testing.T) {
	t.Parallel()
	reasons, rejections := map[string]int{}, map[error]int{}
	rapid.Check(t, func(rt *rapid.T) {
		overlapping := rapid.Bool().Draw(rt, "overlapping")
		cfg := drawConfig(rt, overlapping)
		steps := rapid.SliceOfN(rapid.Custom(drawStep), 100, 300).Draw(rt, "steps")
		bubble(t, func() {
			w := newWorld(rt, cfg)
			defer w.land()
			for _, s := range steps {
				if overlapping || s.kind == "call" || s.kind == "wait" {
					w.step(rt, s)
				}
			}
			for _, c := range w.changes {
				reasons[c.Reason]++
			}
			for reason, n := range w.rejections {
				rejections[reason] += n
			}
		})
	})
	t.Logf("changes: %v, rejections: %v", reasons, rejections)
	require.Len(t, reasons, 5, "some change was never tried")
	require.Len(t, rejections, 2, "some rejection was never tried")
}

// world holds a breaker beside its model.
type world struct {
	real       *breaker.Breaker
	model      *model
	changes    []breaker.Change
	rejections map[error]int
	done       []func(error)
	flights    []flight
}

func newWorld(t require.TestingT, cfg breaker.Config) *world {
	w := &world{model: &model{cfg: cfg, state: breaker.Closed, since: time.Now()}, rejections: map[error]int{}}
	cfg.OnChange = func(c breaker.Change) { w.changes = append(w.changes, c) }
	var err error
	w.real, err = breaker.New(cfg, nil)
	require.NoError(t, err)
	return w
}

func (w *world) step(t require.TestingT, s step) {
	switch s.kind {
	case "wait":
		time.Sleep(s.wait)
	case "begin":
		w.begin(t)
	case "end":
		if len(w.done) > 0 {
			w.end(s.which%len(w.done), s.result)
		}
	case "call":
		if w.begin(t) {
			w.end(len(w.done)-1, s.result)
		}
	}
	w.model.now()
	require.Equal(t, w.model.state, w.real.State())
	require.Equal(t, w.model.changes, w.changes)
}

func (w *world) begin(t require.TestingT) (passed bool) {
	f, want := w.model.begin()
	done, err := w.real.Begin(context.Background())
	if want == nil {
		require.NoError(t, err)
		w.done, w.flights = append(w.done, done), append(w.flights, f)
		return true
	}
	require.Equal(t, want, err)
	w.rejections[errors.Unwrap(err)]++
	return false
}

func (w *world) end(i int, result error) {
	w.model.end(w.flights[i], result)
	w.done[i](result)
	w.done, w.flights = slices.Delete(w.done, i, i+1), slices.Delete(w.flights, i, i+1)
}

// land ends what is in flight, so that its goroutines end.
func (w *world) land() {
	for _, done := range w.done {
		done(nil)
	}
}

// bubble runs fn in a bubble of its own, and has its panics outside: that is how rapid is told of a failure.
func bubble(t *testing.T, fn func()) {
	t.Helper()
	var failed any
	synctest.Test(t, func(*testing.T) {
		defer func() { failed = recover() }()
		fn()
	})
	if failed != nil {
		panic(failed)
	}
}
