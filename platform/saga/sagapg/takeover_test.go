package sagapg_test

import (
	"net/url"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/slipwayhq/slipway/platform/internal/faultproxy"
	"github.com/slipwayhq/slipway/platform/saga"
)

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
	for range fast.MaxAttempts { // the last of them is found lost below
		_, err := pool.Exec(t.Context(), `WITH w AS (INSERT INTO slipway.saga_worker (name, definitions, ended_at) VALUES ('dead', '{}', now()) RETURNING id)
			UPDATE slipway.saga SET owner = w.id, next_run_at = NULL, claims = claims + (owner IS NOT NULL)::int FROM w`)
		require.NoError(t, err)
	}
	start(t, pool, quick(), s.trip())
	status, _ := ended(t, pool, id)
	require.Equal(t, saga.Compensated, status)
	require.Zero(t, s.count("flight"))
	require.Equal(t, 1, s.count("no-flight"), "it may have had its effect")
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
	w := skew(t)
	_, reg, _ := start(t, w.far, quick(), w.long, w.bounded)
	id := w.rest(t)
	for _, hours := range []int{-10, 10, 0, 5} {
		before := w.adjustment(t)
		w.set(t, hours)
		eventually(t, func() bool { return w.adjustment(t) != before })
		status, _ := ended(t, w.pool, begin(t, w.far, w.bounded, trip{}))
		require.Equal(t, saga.Completed, status)
	}
	w.rests(t, id)
	require.Zero(t, value(t, reg, "saga_worker_restarts_total"), "the lease never ended")
}

// The database's clock jumps while it is away for longer than the lease: so it is when a standby with
// another clock takes over. With a clock that began anew with each membership, the timer ended at once.
func TestRunner_clockJumpsWhileTheDatabaseIsAway(t *testing.T) {
	t.Parallel()
	w := skew(t)
	_, first, _ := start(t, w.far, quick(), w.long, w.bounded)
	_, second, _ := start(t, w.far, quick(), w.long, w.bounded)
	id := w.rest(t)
	for _, hours := range []int{3, -3} {
		before := value(t, first, "saga_worker_restarts_total") + value(t, second, "saga_worker_restarts_total")
		w.proxy.SetFault(faultproxy.Fault{Refuse: true})
		w.proxy.Cut()
		eventually(t, func() bool {
			return value(t, first, "saga_worker_restarts_total")+value(t, second, "saga_worker_restarts_total") == before+2
		})
		adjustment := w.adjustment(t)
		w.set(t, hours)
		w.proxy.SetFault(faultproxy.Fault{})
		eventually(t, func() bool { return w.adjustment(t) != adjustment })
		status, _ := ended(t, w.pool, begin(t, w.far, w.bounded, trip{}))
		require.Equal(t, saga.Completed, status)
		w.rests(t, id)
	}
}

// skewed is a database whose clock_timestamp() is a function that is ahead or behind by what a table
// says, for who comes through the proxy.
type skewed struct {
	pool, far *pgxpool.Pool
	proxy     *faultproxy.Proxy

	long, bounded *saga.Definition[trip]
}

func skew(t *testing.T) *skewed {
	t.Helper()
	w := &skewed{pool: setup(t)}
	for _, sql := range []string{
		"CREATE SCHEMA skewed", "CREATE TABLE skewed.by (hours int)", "INSERT INTO skewed.by VALUES (1)",
		`CREATE FUNCTION skewed.clock_timestamp() RETURNS timestamptz LANGUAGE sql VOLATILE
			AS 'SELECT pg_catalog.clock_timestamp() + make_interval(hours => hours) FROM skewed.by'`,
	} {
		_, err := w.pool.Exec(t.Context(), sql)
		require.NoError(t, err)
	}
	u, err := url.Parse(w.pool.Config().ConnString())
	require.NoError(t, err)
	w.proxy = faultproxy.Start(t, u.Host)
	u.Host = w.proxy.Addr()
	u.RawQuery = url.Values{"sslmode": {"disable"}, "search_path": {"skewed,pg_catalog,public"}}.Encode()
	w.far = open(t, u.String())
	s := newSteps()
	w.long = saga.Define("long", 1, saga.Sleep[trip]("rest", 30*time.Minute), saga.Step("hotel", s.of("hotel")))
	w.bounded = s.trip().Timeout(30 * time.Minute)
	return w
}

func (w *skewed) set(t *testing.T, hours int) {
	t.Helper()
	_, err := w.pool.Exec(t.Context(), "UPDATE skewed.by SET hours = $1", hours)
	require.NoError(t, err)
}

func (w *skewed) adjustment(t *testing.T) string {
	t.Helper()
	return query[string](t, w.pool, "SELECT adjust::text FROM slipway.saga_clock")
}

// rest starts a saga that rests for half an hour, and returns when it does.
func (w *skewed) rest(t *testing.T) (id string) {
	t.Helper()
	id = begin(t, w.far, w.long, trip{})
	eventually(t, func() bool {
		return query[int](t, w.pool, "SELECT count(*) FROM slipway.saga WHERE stage = 0 AND owner IS NULL") == 1
	})
	return id
}

func (w *skewed) rests(t *testing.T, id string) {
	t.Helper()
	require.Equal(t, 1, query[int](t, w.pool, "SELECT count(*) FROM slipway.saga WHERE id = $1 AND stage = 0", id), "it still rests")
}
