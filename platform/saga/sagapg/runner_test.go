package sagapg_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/slipwayhq/slipway/platform/saga"
	"github.com/slipwayhq/slipway/platform/saga/sagapg"
)

// steps counts the calls of the steps of a saga and holds them up.
type steps struct {
	mu    sync.Mutex
	calls map[string]int // by key and kind of call
	gates map[string]chan struct{}
	fails map[string]func(attempt int) error
}

func newSteps() *steps {
	return &steps{calls: map[string]int{}, gates: map[string]chan struct{}{}, fails: map[string]func(int) error{}}
}

// gate holds up a step until it is opened.
func (s *steps) gate(name string) (open func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	g := make(chan struct{})
	s.gates[name] = g
	return sync.OnceFunc(func() { close(g) })
}

func (s *steps) fail(name string, with func(attempt int) error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fails[name] = with
}

func (s *steps) of(name string) saga.Func[trip] {
	return func(ctx context.Context, c *saga.Call[trip]) error {
		s.mu.Lock()
		s.calls[name]++
		gate, fail := s.gates[name], s.fails[name]
		s.mu.Unlock()
		if gate != nil {
			select {
			case <-gate:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		if fail != nil {
			if err := fail(c.Attempt); err != nil {
				return err
			}
		}
		c.State.Log = append(c.State.Log, name)
		return nil
	}
}

func (s *steps) count(name string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.calls[name]
}

func always(err error) func(int) error { return func(int) error { return err } }

// fast is a policy for tests.
var fast = saga.Policy{MaxAttempts: 3, Initial: 5 * time.Millisecond, Max: 20 * time.Millisecond}

func (s *steps) trip() *saga.Definition[trip] {
	return saga.Define("trip", 1,
		saga.Step("flight", s.of("flight")).Undo("no-flight", s.of("no-flight")).Retry(fast).UndoRetry(fast),
		saga.Step("hotel", s.of("hotel")).Undo("no-hotel", s.of("no-hotel")).Retry(fast).UndoRetry(fast),
		saga.Pivot("book", s.of("book")).Retry(fast))
}

func eventually(tb testing.TB, condition func() bool, message ...any) {
	tb.Helper()
	require.Eventually(tb, condition, patience, 5*time.Millisecond, message...)
}

func value(t *testing.T, reg *prometheus.Registry, name string, labels ...string) (sum float64) {
	t.Helper()
	families, err := reg.Gather()
	require.NoError(t, err)
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
		for _, m := range f.GetMetric() {
			matching := 0
			for _, l := range m.GetLabel() {
				for _, want := range labels {
					if l.GetName()+"="+l.GetValue() == want {
						matching++
					}
				}
			}
			if matching == len(labels) {
				sum += m.GetGauge().GetValue() + m.GetCounter().GetValue() + float64(m.GetHistogram().GetSampleCount())
			}
		}
	}
	return sum
}

func TestRunner_failures(t *testing.T) {
	t.Parallel()

	t.Run("what may help later is tried again, and left to others in long pauses", func(t *testing.T) {
		t.Parallel()
		pool := setup(t)
		s := newSteps()
		s.fail("hotel", func(attempt int) error {
			if attempt < 3 {
				return errNo
			}
			return nil
		})
		patient := saga.Policy{MaxAttempts: 5, Initial: 200 * time.Millisecond}
		d := saga.Define("trip", 1, saga.Step("hotel", s.of("hotel")).Retry(patient))
		start(t, pool, quick(), d)
		status, _ := ended(t, pool, begin(t, pool, d, trip{}))
		require.Equal(t, saga.Completed, status)
		require.Equal(t, 3, s.count("hotel"))
	})

	t.Run("a pivot out of attempts needs an operator and counts as stuck", func(t *testing.T) {
		t.Parallel()
		pool := setup(t)
		s := newSteps()
		s.fail("book", always(errNo))
		_, reg, _ := start(t, pool, quick(), s.trip())
		id := begin(t, pool, s.trip(), trip{})
		eventually(t, func() bool {
			return query[int](t, pool, "SELECT count(*) FROM slipway.saga WHERE id = $1 AND status = 2 AND owner IS NULL", id) == 1
		})
		eventually(t, func() bool { return value(t, reg, "saga_stuck_total", "saga=trip") == 1 })
		eventually(t, func() bool { return value(t, reg, "saga_stuck_by_reason", "reason=needs_operator") == 1 })
		eventually(t, func() bool { return value(t, reg, "saga_instances", "state=needs_operator") == 1 })
		require.Zero(t, s.count("no-hotel"))
		require.Contains(t, query[string](t, pool, "SELECT problem FROM slipway.saga"), "book: no")
	})

	t.Run("an undo that fails for good needs an operator", func(t *testing.T) {
		t.Parallel()
		pool := setup(t)
		s := newSteps()
		s.fail("book", always(saga.Rejected(errNo)))
		s.fail("no-hotel", always(errNo))
		_, reg, _ := start(t, pool, quick(), s.trip())
		begin(t, pool, s.trip(), trip{})
		eventually(t, func() bool {
			return value(t, reg, "saga_compensation_failures_total") == float64(fast.MaxAttempts) &&
				query[int](t, pool, "SELECT count(*) FROM slipway.saga WHERE status = 2 AND backward") == 1
		})
		eventually(t, func() bool { return value(t, reg, "saga_stuck_by_reason", "reason=compensation_failed") == 1 })
		require.Zero(t, s.count("no-flight"), "not before what came after it")
	})

	t.Run("a deadline undoes what is not done", func(t *testing.T) {
		t.Parallel()
		pool := setup(t)
		s := newSteps()
		s.gate("hotel")
		d := s.trip().Timeout(3 * time.Second)
		start(t, pool, quick(), d)
		status, data := ended(t, pool, begin(t, pool, d, trip{}))
		require.Equal(t, saga.Compensated, status)
		require.JSONEq(t, `{"log":["flight","no-hotel","no-flight"]}`, data)
	})

	t.Run("text that PostgreSQL cannot store harms nobody", func(t *testing.T) {
		t.Parallel()
		pool := setup(t)
		s := newSteps()
		s.fail("hotel", always(saga.Rejected(fmt.Errorf("\x00\xff%0*d", 5000, 1))))
		start(t, pool, quick(), s.trip())
		status, _ := ended(t, pool, begin(t, pool, s.trip(), trip{}))
		require.Equal(t, saga.Compensated, status)
	})
}

func TestRunner_parallel(t *testing.T) {
	t.Parallel()
	pool := setup(t)
	type state struct{ A, B, C int }
	var both sync.WaitGroup
	both.Add(2)
	meet := func(set func(*state)) saga.Func[state] {
		return func(_ context.Context, c *saga.Call[state]) error {
			both.Done()
			both.Wait() // each needs the other to run
			set(c.State)
			return nil
		}
	}
	d := saga.Define("both", 1,
		saga.Parallel(saga.Step("a", meet(func(s *state) { s.A = 1 })), saga.Step("b", meet(func(s *state) { s.B = 2 }))),
		saga.Step("c", func(_ context.Context, c *saga.Call[state]) error { c.State.C = c.State.A + c.State.B; return nil }))
	start(t, pool, quick(), d)
	status, data := ended(t, pool, begin(t, pool, d, state{}))
	require.Equal(t, saga.Completed, status)
	require.JSONEq(t, `{"A":1,"B":2,"C":3}`, data)
}

// A version of a saga runs only where it is known; a changed definition under an old version is refused.
func TestRunner_versions(t *testing.T) {
	t.Parallel()
	pool := setup(t)
	s := newSteps()
	two := saga.Define("trip", 2, saga.Step("flight", s.of("flight")), saga.Step("car", s.of("car")))
	old := begin(t, pool, s.trip(), trip{})
	_, reg, stop := start(t, pool, quick(), two)
	status, _ := ended(t, pool, begin(t, pool, two, trip{}))
	require.Equal(t, saga.Completed, status)
	require.Equal(t, 1, query[int](t, pool, "SELECT count(*) FROM slipway.saga WHERE id = $1 AND stage = -1", old))
	_, err := pool.Exec(t.Context(), "UPDATE slipway.saga SET next_run_at = next_run_at - interval '1 minute'")
	require.NoError(t, err)
	eventually(t, func() bool { return value(t, reg, "saga_stuck_by_reason", "reason=no_worker") == 1 })
	stop()

	changed := saga.Define("trip", 2, saga.Step("flight", s.of("flight")), saga.Step("train", s.of("train")))
	r, err := sagapg.NewRunner(pool, []sagapg.Definition{changed}, quick(), nil, nil, nil)
	require.NoError(t, err)
	require.ErrorContains(t, r.Run(t.Context()), "give the changed definition version 3")

	start(t, pool, quick(), s.trip(), two)
	status, _ = ended(t, pool, old)
	require.Equal(t, saga.Completed, status)
}
