package sagapg_test

import (
	"context"
	"fmt"
	"net/url"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/slipwayhq/slipway/platform/internal/faultproxy"
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

// behind returns a pool whose connections go through a proxy.
func behind(t *testing.T, pool *pgxpool.Pool) (*pgxpool.Pool, *faultproxy.Proxy) {
	t.Helper()
	u, err := url.Parse(pool.Config().ConnString())
	require.NoError(t, err)
	proxy := faultproxy.Start(t, u.Host)
	u.Host = proxy.Addr()
	u.RawQuery = "sslmode=disable"
	return open(t, u.String()), proxy
}

// A process that hangs for longer than its lease is replaced. When it wakes up, what it has to say is
// refused and counted. Without the token and the owner in the WHERE of the journal its progress is
// stored over that of the other.
func TestRunner_staleProcessChangesNothing(t *testing.T) {
	t.Parallel()
	pool := setup(t)
	far, proxy := behind(t, pool)
	slow, swift := newSteps(), newSteps()
	release := slow.gate("hotel")
	_, reg, _ := start(t, far, quick(), slow.trip())
	id := begin(t, pool, slow.trip(), trip{})
	eventually(t, func() bool { return slow.count("hotel") == 1 })
	proxy.SetFault(faultproxy.Fault{Stall: true})
	start(t, pool, quick(), swift.trip())
	status, data := ended(t, pool, id)
	require.Equal(t, saga.Completed, status)
	require.JSONEq(t, `{"log":["flight","hotel","book"]}`, data)
	require.Zero(t, swift.count("flight"), "what was stored is not done again")

	release()
	proxy.SetFault(faultproxy.Fault{})
	eventually(t, func() bool { return value(t, reg, "saga_worker_restarts_total") > 0 })
	require.Zero(t, slow.count("book"))
	require.Equal(t, 1, query[int](t, pool, "SELECT count(*) FROM slipway.saga_finished"))
	next := begin(t, pool, slow.trip(), trip{})
	ended(t, pool, next)
}

// What a process has in hand that was taken for dead is refused. Here its row says that it has ended
// while it is at work.
func TestRunner_refusedWritesAreCounted(t *testing.T) {
	t.Parallel()
	pool := setup(t)
	slow, swift := newSteps(), newSteps()
	release := slow.gate("hotel")
	cfg := quick()
	cfg.Lease = time.Minute // it does not find out by itself
	_, reg, _ := start(t, pool, cfg, slow.trip())
	id := begin(t, pool, slow.trip(), trip{})
	eventually(t, func() bool { return slow.count("hotel") == 1 })
	_, err := pool.Exec(t.Context(), "UPDATE slipway.saga_worker SET ended_at = clock_timestamp()")
	require.NoError(t, err)
	start(t, pool, quick(), swift.trip())
	status, _ := ended(t, pool, id)
	require.Equal(t, saga.Completed, status)
	release()
	eventually(t, func() bool { return value(t, reg, "saga_refused_writes_total") == 1 })
	require.Zero(t, slow.count("book"), "it stops")
	require.Equal(t, 2, query[int](t, pool, "SELECT count(*) FROM slipway.saga_journal WHERE step = 'hotel'"), "every attempt is in the journal")
}

// A process dies with many sagas in its hands; the others finish them, and repeat at most the calls
// that were on their way.
func TestRunner_takeover(t *testing.T) {
	t.Parallel()
	const n = 200
	pool := setup(t)
	far, proxy := behind(t, pool)
	dying, heir := newSteps(), newSteps()
	dying.gate("hotel")
	r, _, stop := start(t, far, quick(), dying.trip())
	var ids []string
	for range n {
		ids = append(ids, begin(t, pool, dying.trip(), trip{}))
	}
	r.Wake()
	eventually(t, func() bool { return dying.count("hotel") == n })
	proxy.SetFault(faultproxy.Fault{Refuse: true})
	proxy.Cut()
	start(t, pool, quick(), heir.trip())
	for _, id := range ids {
		status, data := ended(t, pool, id)
		require.Equal(t, saga.Completed, status)
		require.JSONEq(t, `{"log":["flight","hotel","book"]}`, data)
	}
	require.Zero(t, heir.count("flight"))
	require.Equal(t, n, heir.count("hotel"))
	stop()
}

// A step that ends its process each time is not tried for ever.
func TestRunner_countsLostAttempts(t *testing.T) {
	t.Parallel()
	pool := setup(t)
	s := newSteps()
	id := begin(t, pool, s.trip(), trip{})
	for range fast.MaxAttempts {
		_, err := pool.Exec(t.Context(), `WITH w AS (INSERT INTO slipway.saga_worker (name, definitions, ended_at) VALUES ('dead', '{}', now()) RETURNING id)
			UPDATE slipway.saga SET owner = w.id, next_run_at = NULL, claims = claims + 1 FROM w`)
		require.NoError(t, err)
	}
	start(t, pool, quick(), s.trip())
	status, _ := ended(t, pool, id)
	require.Equal(t, saga.Compensated, status)
	require.Zero(t, s.count("flight"))
	require.Equal(t, 1, s.count("no-flight"), "it may have had its effect")
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

func TestSignal(t *testing.T) {
	t.Parallel()
	waiting := func(s *steps, d time.Duration) *saga.Definition[trip] {
		return saga.Define("wait", 1, saga.Step("flight", s.of("flight")).Undo("no-flight", s.of("no-flight")),
			saga.Wait("paid", d, func(_ context.Context, c *saga.Call[trip]) error {
				c.State.Log = append(c.State.Log, string(c.Signal))
				return nil
			}), saga.Step("hotel", s.of("hotel")))
	}
	send := func(t *testing.T, pool *pgxpool.Pool, id, payload string) {
		t.Helper()
		require.NoError(t, inTx(pool, func(ctx context.Context, tx pgx.Tx) error { return sagapg.Signal(ctx, tx, id, "paid", []byte(payload)) }))
	}

	t.Run("goes on when the signal comes", func(t *testing.T) {
		t.Parallel()
		pool := setup(t)
		d := waiting(newSteps(), time.Hour)
		r, _, _ := start(t, pool, quick(), d)
		id := begin(t, pool, d, trip{})
		eventually(t, func() bool {
			return query[int](t, pool, "SELECT count(*) FROM slipway.saga WHERE waits_for = 'paid'") == 1
		})
		send(t, pool, id, "now")
		r.Wake()
		status, data := ended(t, pool, id)
		require.Equal(t, saga.Completed, status)
		require.JSONEq(t, `{"log":["flight","now","hotel"]}`, data)
		require.Zero(t, query[int](t, pool, "SELECT count(*) FROM slipway.saga_signal"))
	})

	t.Run("takes one that was there before", func(t *testing.T) {
		t.Parallel()
		pool := setup(t)
		d := waiting(newSteps(), time.Hour)
		id := begin(t, pool, d, trip{})
		send(t, pool, id, "early")
		start(t, pool, quick(), d)
		status, _ := ended(t, pool, id)
		require.Equal(t, saga.Completed, status)
	})

	t.Run("is undone when nothing comes", func(t *testing.T) {
		t.Parallel()
		pool := setup(t)
		d := waiting(newSteps(), 50*time.Millisecond)
		start(t, pool, quick(), d)
		status, data := ended(t, pool, begin(t, pool, d, trip{}))
		require.Equal(t, saga.Compensated, status)
		require.JSONEq(t, `{"log":["flight","no-flight"]}`, data)
	})
}

func TestGuard(t *testing.T) {
	t.Parallel()
	pool := setup(t)
	s := newSteps()
	_, err := pool.Exec(t.Context(), "CREATE TABLE booked (saga uuid)")
	require.NoError(t, err)
	entered, release := make(chan struct{}, 2), make(chan struct{})
	var first atomic.Bool
	first.Store(true)
	failed := make(chan error, 1)
	d := saga.Define("trip", 1, saga.Step("flight", s.of("flight")), saga.Pivot("book", func(ctx context.Context, c *saga.Call[trip]) error {
		slow := first.CompareAndSwap(true, false)
		if slow {
			entered <- struct{}{}
			<-release // another process takes over meanwhile
			ctx = context.WithoutCancel(ctx)
		}
		err := inTx(pool, func(_ context.Context, tx pgx.Tx) error {
			if err := sagapg.Guard(ctx, tx, c.SagaID, c.Token); err != nil {
				return err
			}
			_, err := tx.Exec(ctx, "INSERT INTO booked VALUES ($1)", c.SagaID)
			return err
		})
		if slow {
			failed <- err
		}
		return err
	}))
	cfg := quick()
	cfg.Lease = time.Minute
	start(t, pool, cfg, d)
	id := begin(t, pool, d, trip{})
	<-entered
	_, err = pool.Exec(t.Context(), "UPDATE slipway.saga_worker SET ended_at = clock_timestamp()")
	require.NoError(t, err)
	start(t, pool, quick(), d)
	status, _ := ended(t, pool, id)
	require.Equal(t, saga.Completed, status)
	close(release)
	require.ErrorIs(t, <-failed, sagapg.ErrFenced)
	require.Equal(t, 1, query[int](t, pool, "SELECT count(*) FROM booked"), "once")
}

func TestStart(t *testing.T) {
	t.Parallel()

	t.Run("a rollback leaves nothing", func(t *testing.T) {
		t.Parallel()
		pool := setup(t)
		s := newSteps()
		r, _, _ := start(t, pool, quick(), s.trip())
		require.ErrorIs(t, inTx(pool, func(ctx context.Context, tx pgx.Tx) error {
			_, err := sagapg.Start(ctx, tx, r, s.trip(), newID(), trip{})
			require.NoError(t, err)
			return errNo
		}), errNo)
		require.Zero(t, query[int](t, pool, "SELECT count(*) FROM slipway.saga"))
	})

	t.Run("runs at once where it was started, and elsewhere if that never begins", func(t *testing.T) {
		t.Parallel()
		pool := setup(t)
		here, there := newSteps(), newSteps()
		cfg := quick()
		cfg.Poll = time.Hour
		r, _, stop := start(t, pool, cfg, here.trip())
		eventually(t, func() bool { return query[int](t, pool, "SELECT count(*) FROM slipway.saga_worker") == 1 })
		id := newID()
		var run func()
		store := func(ctx context.Context, tx pgx.Tx) (err error) {
			run, err = sagapg.Start(ctx, tx, r, here.trip(), id, trip{})
			return err
		}
		eventually(t, func() bool {
			id = newID()
			require.NoError(t, inTx(pool, store))
			return query[int](t, pool, "SELECT count(*) FROM slipway.saga WHERE id = $1 AND owner IS NOT NULL", id) == 1
		}, "the runner has begun")
		run()
		ended(t, pool, id)
		id = newID()
		require.NoError(t, inTx(pool, store))
		stop() // before run was called
		start(t, pool, quick(), there.trip())
		status, _ := ended(t, pool, id)
		require.Equal(t, saga.Completed, status)
		require.NotZero(t, there.count("flight"))
	})

	t.Run("the same id twice is refused and harms nothing", func(t *testing.T) {
		t.Parallel()
		pool := setup(t)
		s := newSteps()
		id := begin(t, pool, s.trip(), trip{})
		require.NoError(t, inTx(pool, func(ctx context.Context, tx pgx.Tx) error {
			_, err := sagapg.Start(ctx, tx, nil, s.trip(), id, trip{})
			require.ErrorIs(t, err, sagapg.ErrExists)
			return nil
		}))
		start(t, pool, quick(), s.trip())
		ended(t, pool, id)
		require.Equal(t, 1, s.count("book"))
	})

	t.Run("says what is wrong", func(t *testing.T) {
		t.Parallel()
		pool := setup(t)
		require.ErrorContains(t, inTx(pool, func(ctx context.Context, tx pgx.Tx) error {
			_, err := sagapg.Start(ctx, tx, nil, newSteps().trip(), "7", trip{})
			return err
		}), `id "7" is not a UUID`)
	})
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

// While the database is away nothing is lost, and nothing is done that it does not know of.
func TestRunner_databaseAway(t *testing.T) {
	t.Parallel()
	pool := setup(t)
	far, proxy := behind(t, pool)
	s := newSteps()
	release := s.gate("hotel")
	start(t, far, quick(), s.trip())
	id := begin(t, pool, s.trip(), trip{})
	eventually(t, func() bool { return s.count("hotel") == 1 })
	proxy.SetFault(faultproxy.Fault{Refuse: true})
	proxy.Cut()
	release()
	require.Never(t, func() bool { return s.count("book") > 0 }, 300*time.Millisecond, 10*time.Millisecond)
	proxy.SetFault(faultproxy.Fault{})
	status, _ := ended(t, pool, id)
	require.Equal(t, saga.Completed, status)
}

// A runner that is told to stop finishes the calls on their way and hands the rest over at once.
func TestRunner_drain(t *testing.T) {
	t.Parallel()
	pool := setup(t)
	here, there := newSteps(), newSteps()
	release := here.gate("flight")
	cfg := quick()
	cfg.Lease, cfg.Grace = time.Minute, time.Minute
	_, _, stop := start(t, pool, cfg, here.trip())
	id := begin(t, pool, here.trip(), trip{})
	eventually(t, func() bool { return here.count("flight") == 1 })
	stopped := make(chan struct{})
	go func() { stop(); close(stopped) }()
	release()
	<-stopped
	require.LessOrEqual(t, here.count("hotel"), 1)
	cfg.Lease = time.Second
	start(t, pool, cfg, there.trip())
	status, data := ended(t, pool, id)
	require.Equal(t, saga.Completed, status)
	require.JSONEq(t, `{"log":["flight","hotel","book"]}`, data)
	require.Zero(t, there.count("flight"))
}

// Clocks that are hours apart, and jump, change no lease, no deadline and no pause. Here
// clock_timestamp() is a function that is ahead or behind by what a table says. Without taking jumps
// out, the timer ends at once when the clock is set forward.
func TestRunner_skewedClocks(t *testing.T) {
	t.Parallel()
	pool := setup(t)
	for _, sql := range []string{
		"CREATE SCHEMA skewed", "CREATE TABLE skewed.by (hours int)", "INSERT INTO skewed.by VALUES (1)",
		`CREATE FUNCTION skewed.clock_timestamp() RETURNS timestamptz LANGUAGE sql VOLATILE
			AS 'SELECT pg_catalog.clock_timestamp() + make_interval(hours => hours) FROM skewed.by'`,
	} {
		_, err := pool.Exec(t.Context(), sql)
		require.NoError(t, err)
	}
	u, err := url.Parse(pool.Config().ConnString())
	require.NoError(t, err)
	u.RawQuery = url.Values{"sslmode": {"disable"}, "search_path": {"skewed,pg_catalog,public"}}.Encode()
	skewed := open(t, u.String())
	s := newSteps()
	long := saga.Define("long", 1, saga.Sleep[trip]("rest", 30*time.Minute), saga.Step("hotel", s.of("hotel")))
	bounded := s.trip().Timeout(30 * time.Minute)
	_, reg, _ := start(t, skewed, quick(), long, bounded)
	id := begin(t, skewed, long, trip{})
	eventually(t, func() bool {
		return query[int](t, pool, "SELECT count(*) FROM slipway.saga WHERE stage = 0 AND owner IS NULL") == 1
	})
	for _, hours := range []int{-10, 10, 0, 5} {
		before := query[string](t, pool, "SELECT adjust::text FROM slipway.saga_clock")
		_, err := pool.Exec(t.Context(), "UPDATE skewed.by SET hours = $1", hours)
		require.NoError(t, err)
		eventually(t, func() bool { return query[string](t, pool, "SELECT adjust::text FROM slipway.saga_clock") != before })
		status, _ := ended(t, pool, begin(t, skewed, bounded, trip{}))
		require.Equal(t, saga.Completed, status)
	}
	require.Equal(t, 1, query[int](t, pool, "SELECT count(*) FROM slipway.saga WHERE id = $1 AND stage = 0", id), "it still rests")
	require.Zero(t, value(t, reg, "saga_worker_restarts_total"), "the lease never ended")
}
