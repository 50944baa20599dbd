package outbox_test

import (
	"context"
	"net/url"
	"strconv"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/slipwayhq/slipway/platform/broker"
	"github.com/slipwayhq/slipway/platform/internal/faultproxy"
	"github.com/slipwayhq/slipway/platform/outbox"
	"github.com/slipwayhq/slipway/platform/postgres/postgrestest"
)

// behind returns a pool that reaches the database of another through a proxy.
func behind(t *testing.T, pool *pgxpool.Pool) (*pgxpool.Pool, *faultproxy.Proxy) {
	t.Helper()
	u, err := url.Parse(pool.Config().ConnString())
	require.NoError(t, err)
	proxy := faultproxy.Start(t, u.Host)
	u.Host = proxy.Addr()
	q := u.Query()
	q.Del("synchronous_commit")
	u.RawQuery = q.Encode()
	if u.RawQuery == "" {
		u.RawQuery = "sslmode=disable"
	}
	return open(t, u.String()), proxy
}

// A replica whose connections hang past its lease, as when its process is stopped, is replaced
// within two leases. When it wakes up it changes nothing: its writes carry an old term. Without the
// term in the WHERE of the position it would set that back, and publish for ever beside the other.
func TestRelay_staleReplicaChangesNothing(t *testing.T) {
	t.Parallel()
	pool := setup(t)
	far, proxy := behind(t, pool)
	release := make(chan struct{})
	first, second := &sink{}, &sink{}
	first.fail = func(m broker.Message) error {
		if m.Key == "order/slow" {
			<-release
		}
		return nil
	}
	cfg := quick()
	cfg.Lease = 500 * time.Millisecond
	cfg.Holder = "stale"
	stale, reg, _ := start(t, far, first, cfg)
	eventually(t, stale.Active)
	cfg.Holder = "fresh"
	fresh, _, _ := start(t, pool, second, cfg)
	add(t, t.Context(), pool, event("a", 1))
	eventually(t, func() bool { return first.count() == 1 })

	add(t, t.Context(), pool, event("slow", 1), event("slow", 2))
	eventually(t, func() bool { return !first.mu.TryLock() || func() bool { first.mu.Unlock(); return false }() }, "it publishes")
	proxy.SetFault(faultproxy.Fault{Stall: true})
	eventually(t, fresh.Active, "the standby takes over")
	eventually(t, func() bool { return len(second.versions("order/slow")) == 2 })
	add(t, t.Context(), pool, event("a", 2))
	fresh.Wake()
	eventually(t, func() bool { return len(second.versions("order/a")) >= 1 })
	position := rows[string](t, pool, "select snapshot::text from slipway.outbox_position")[0]

	proxy.SetFault(faultproxy.Fault{})
	close(release)
	eventually(t, func() bool { return value(t, reg, "outbox_fenced_writes_total") > 0 || !stale.Active() }, "it finds out")
	eventually(t, func() bool { return !stale.Active() })
	require.True(t, fresh.Active())
	require.True(t, rows[bool](t, pool, "select pg_snapshot_xmax(snapshot) >= pg_snapshot_xmax($1::text::pg_snapshot) from slipway.outbox_position", position)[0])
	require.Equal(t, []string{"fresh"}, rows[string](t, pool, "select holder from slipway.outbox_sink"))
}

// A replica that is told to end hands over at once, one that dies is replaced within two leases.
func TestRelay_takeover(t *testing.T) {
	t.Parallel()
	pool := setup(t)
	s := &sink{}
	cfg := quick()
	cfg.Lease = time.Minute // nobody could wait for its end
	first, _, stop := start(t, pool, s, cfg)
	eventually(t, first.Active)
	second, _, _ := start(t, pool, s, cfg)
	require.False(t, second.Active())
	stop()
	require.False(t, first.Active())
	eventually(t, second.Active)

	// The third sees no sign of life of one whose connections are gone.
	other := setup(t)
	cfg.Lease = 500 * time.Millisecond
	far, proxy := behind(t, other)
	dying, _, _ := start(t, far, s, cfg)
	eventually(t, dying.Active)
	heir, _, _ := start(t, other, s, cfg)
	proxy.SetFault(faultproxy.Fault{Refuse: true})
	proxy.Cut()
	eventually(t, heir.Active)
}

// A replica is told to end while its database is frozen: it ends, with nothing in hand and nothing to be had.
// With no bound on giving the lease back Run never returns.
func TestRelay_endsWithoutItsDatabase(t *testing.T) {
	t.Parallel()
	pool := setup(t)
	far, proxy := behind(t, pool)
	s := &sink{}
	cfg := quick()
	cfg.Lease = time.Minute // no sign of life is under way when the database freezes
	relay, _, stop := start(t, far, s, cfg)
	eventually(t, relay.Active)
	eventually(t, func() bool { return rows[int64](t, pool, "select beat from slipway.outbox_position")[0] > 0 })
	add(t, t.Context(), pool, event("a", 1))
	relay.Wake()
	eventually(t, func() bool {
		return s.count() == 1 && rows[bool](t, pool, "select not exists (select from slipway.outbox e, slipway.outbox_position p where not pg_visible_in_snapshot(e.xid, p.snapshot))")[0]
	})
	proxy.SetFault(faultproxy.Fault{Stall: true})
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		stop()
	}()
	select {
	case <-ended:
	case <-time.After(patience):
		t.Error("it hangs")
	}
	proxy.SetFault(faultproxy.Fault{})
	<-ended
	require.False(t, relay.Active())
}

// skewed returns where a database is in which the schema skewed comes before that of PostgreSQL.
func skewed(t *testing.T, pool *pgxpool.Pool) string {
	t.Helper()
	u, err := url.Parse(pool.Config().ConnString())
	require.NoError(t, err)
	q := u.Query()
	q.Del("synchronous_commit")
	q.Set("search_path", "skewed,pg_catalog,public")
	u.RawQuery = q.Encode()
	return u.String()
}

// skew returns a pool for the same database on another clock, which is ahead by what set says: at
// first not at all. Relays and operators on it ask that clock; events get their times from the other.
func skew(t *testing.T, pool *pgxpool.Pool) (other *pgxpool.Pool, set func(ahead time.Duration)) {
	t.Helper()
	exec(t, pool, "create schema skewed")
	exec(t, pool, "create table skewed.by (ahead interval)")
	exec(t, pool, "insert into skewed.by values ('0')")
	exec(t, pool, `create function skewed.clock_timestamp() returns timestamptz language sql volatile
		as 'select pg_catalog.clock_timestamp() + ahead from skewed.by'`)
	return open(t, skewed(t, pool)), func(ahead time.Duration) {
		exec(t, pool, "update skewed.by set ahead = make_interval(secs => $1)", ahead.Seconds())
	}
}

// Clocks of replicas and of the database that are hours apart, and jump, change no lease and no
// order: no instant of one clock is ever compared with that of another. Here clock_timestamp() is
// a function that is ahead or behind by what a table says. With a standby that takes the lease when the
// last publication is seconds ago by its own clock, the lease changes hands.
func TestRelay_skewedClocks(t *testing.T) {
	t.Parallel()
	pool := setup(t)
	other, set := skew(t, pool)
	set(time.Hour)
	require.True(t, rows[bool](t, other, "select clock_timestamp() > pg_catalog.clock_timestamp() + interval '50 minutes'")[0])

	s := &sink{}
	cfg := quick()
	ahead, _, _ := start(t, other, s, cfg)
	eventually(t, ahead.Active)
	standby, _, _ := start(t, pool, s, cfg)
	for i, hours := range []time.Duration{-10, 10, 0, -1, 5} {
		set(hours * time.Hour)
		add(t, t.Context(), other, event("a", int64(i+1)))
		ahead.Wake()
		eventually(t, func() bool { return s.count() == i+1 })
		looked(t, pool)
		looked(t, pool) // the position has been stored by then
	}
	require.True(t, ahead.Active())
	require.False(t, standby.Active(), "the lease never changed hands")
	require.Equal(t, []int64{1}, rows[int64](t, pool, "select term from slipway.outbox_sink"))
	require.Equal(t, []string{"1", "2", "3", "4", "5"}, s.versions("order/a"))
}

// looked waits until a standby has looked at the lease once more.
func looked(t *testing.T, pool *pgxpool.Pool) {
	t.Helper()
	began := rows[time.Time](t, pool, "select clock_timestamp()")[0]
	eventually(t, func() bool {
		return rows[int](t, pool, `select count(*) from pg_stat_activity where datname = current_database() and state = 'idle'
			and query like 'SELECT term, beat, holder IS NULL%' and query_start > $1`, began)[0] > 0
	})
}

// Commits wake the active relay through a standby with one notification for many of them, from
// outside of their transactions. A NOTIFY in each transaction sends one each, and lines up the
// commits behind each other.
func TestRelay_wakesAcrossReplicas(t *testing.T) {
	t.Parallel()
	pool := setup(t)
	ctx := t.Context()
	s := &sink{}
	cfg := quick()
	cfg.Poll, cfg.Linger = time.Hour, 5*time.Millisecond
	active, _, _ := start(t, pool, s, cfg)
	eventually(t, active.Active)
	standby, _, _ := start(t, pool, s, cfg)
	conn, err := pgx.Connect(ctx, pool.Config().ConnString())
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	exec(t, conn, "listen slipway_outbox")

	began := time.Now()
	const commits = 400
	for i := range commits {
		add(t, ctx, pool, event(strconv.Itoa(i%7), int64(i/7+1)))
		standby.Wake()
	}
	eventually(t, func() bool { return s.count() == commits })
	exec(t, pool, "select pg_notify('slipway_outbox', 'end')")
	heard := 0
	for {
		n, err := conn.WaitForNotification(ctx)
		require.NoError(t, err)
		if n.Payload == "end" {
			break
		}
		heard++
	}
	require.Positive(t, heard)
	require.LessOrEqual(t, heard, int(time.Since(began)/(2*cfg.Linger))+1)
	require.Zero(t, rows[int](t, pool, "select count(*) from pg_replication_slots where database = current_database()")[0], "no slot that could fill the disk")
}

// A backlog is published in batches, in order. With ranges that are handed on whole the broker gets sixteen batches at
// once.
func TestRelay_backlogInPieces(t *testing.T) {
	t.Parallel()
	pool := setup(t)
	fill(t, pool, 10_000)
	largest := 0
	s := &sink{}
	cfg := quick()
	cfg.Batch = 250
	relay, reg, _ := start(t, pool, publishFunc(func(ctx context.Context, m []broker.Message) error {
		largest = max(largest, len(m))
		return s.Publish(ctx, m)
	}), cfg)
	eventually(t, func() bool { return s.count() == 10_000 })
	relay.Wake()
	require.Equal(t, 250, largest)
	require.Equal(t, []string{"1", "2", "3", "4", "5", "6", "7", "8", "9", "10"}, s.versions("order/7"))
	eventually(t, func() bool { return value(t, reg, "outbox_unsent_events_total") == 0 })
	require.InDelta(t, 10_000, value(t, reg, "outbox_published_events_total"), 0)
}

// Ranges of ids that were drawn and rolled back are passed quickly, and reading ahead begins again
// behind them. With ranges that do not meet, or a connection that is still busy with what was asked
// for ahead, events are missing.
func TestRelay_backlogWithGaps(t *testing.T) {
	t.Parallel()
	pool := setup(t)
	for range 4 {
		fill(t, pool, 2000)
		exec(t, pool, "select setval('slipway.outbox_id_seq', nextval('slipway.outbox_id_seq') + 30000)")
		fill(t, pool, 1000)
	}
	s := &sink{}
	cfg := quick()
	cfg.Batch = 100
	_, reg, _ := start(t, pool, s, cfg)
	eventually(t, func() bool { return s.count() == 12_000 })
	eventually(t, func() bool { return rows[bool](t, pool, "select target is null from slipway.outbox_position")[0] })
	require.InDelta(t, 12_000, value(t, reg, "outbox_published_events_total"), 0, "each once")
}

type publishFunc func(ctx context.Context, messages []broker.Message) error

func (f publishFunc) Publish(ctx context.Context, messages []broker.Message) error {
	return f(ctx, messages)
}

func TestRelay_withoutDatabase(t *testing.T) {
	t.Parallel()
	server := postgrestest.StartServer(t)
	pool := open(t, server.URL("postgres"))
	s := &sink{}
	cfg := quick()
	relay, err := outbox.NewRelay(pool, s, cfg, nil, nil)
	require.NoError(t, err)
	err = relay.Run(t.Context())
	require.ErrorIs(t, err, outbox.ErrUnsafe)
	require.ErrorContains(t, err, "slipway migrate up")
}

// A replica that ends stores what it owes: its successor publishes nothing twice. Neither does one that
// takes over from a replica that was idle.
func TestRelay_storesWhatItOwes(t *testing.T) {
	t.Parallel()
	pool := setup(t)
	first, second, third := &sink{}, &sink{}, &sink{}
	relay, _, stop := start(t, pool, first, quick())
	eventually(t, relay.Active)
	add(t, t.Context(), pool, event("a", 1), event("a", 2))
	relay.Wake()
	eventually(t, func() bool { return first.count() == 2 })
	stop()

	far, proxy := behind(t, pool)
	_, _, _ = start(t, far, second, quick())
	add(t, t.Context(), pool, event("a", 3))
	eventually(t, func() bool { return second.count() == 1 })
	eventually(t, func() bool {
		return rows[bool](t, pool, "select not exists (select from slipway.outbox e, slipway.outbox_position p where not pg_visible_in_snapshot(e.xid, p.snapshot))")[0]
	}, "the position is stored soon")
	proxy.SetFault(faultproxy.Fault{Refuse: true})
	proxy.Cut()
	_, _, _ = start(t, pool, third, quick())
	add(t, t.Context(), pool, event("a", 4))
	eventually(t, func() bool { return third.count() == 1 })
	require.Equal(t, []string{"3"}, second.versions("order/a"))
	require.Equal(t, []string{"4"}, third.versions("order/a"))
}

// Publishing and signs of life leave no dead row behind, however long somebody holds a snapshot: the
// sink's row stays where it is. An UPDATE of it with each batch moves it.
func TestRelay_leavesNoDeadRows(t *testing.T) {
	t.Parallel()
	pool := setup(t)
	s := &sink{}
	relay, _, _ := start(t, pool, s, quick())
	eventually(t, relay.Active)
	where := func() []string { return rows[string](t, pool, "select ctid::text from slipway.outbox_sink") }
	steps := func() int { return rows[int](t, pool, "select count(*) from slipway.outbox_step")[0] }
	before, atFirst := where(), steps()
	for i := range 20 {
		add(t, t.Context(), pool, event("a", int64(i+1)))
		relay.Wake()
		eventually(t, func() bool { return s.count() == i+1 })
	}
	eventually(t, func() bool { return steps() > atFirst })
	require.Equal(t, before, where())
}

// The steps are folded into the sinks' rows, also that of a sink that nobody publishes to just now,
// and nothing is published twice for it. Somebody who reads the steps for long, as a dump does,
// holds up that but no event. Without the fold of all sinks before TRUNCATE the other sink begins
// from the start.
func TestRelay_foldsSteps(t *testing.T) {
	t.Parallel()
	pool := setup(t)
	const step = `insert into slipway.outbox_step (sink, beat, snapshot, floor, published_at)
		select $1, beat, pg_current_snapshot(), last_value, clock_timestamp() from generate_series(1, 10000) beat, slipway.outbox_id_seq`
	add(t, t.Context(), pool, event("before", 1))
	for _, name := range []string{"broker", "idle"} {
		exec(t, pool, "insert into slipway.outbox_sink (sink) values ($1)", name)
		exec(t, pool, step, name)
	}
	idle := rows[string](t, pool, "select snapshot::text from slipway.outbox_position where sink = 'idle'")
	conn, err := pgx.Connect(t.Context(), pool.Config().ConnString())
	require.NoError(t, err)
	exec(t, conn, "begin")
	exec(t, conn, "lock table slipway.outbox_step in access share mode")

	s := &sink{}
	relay, _, _ := start(t, pool, s, quick())
	eventually(t, relay.Active)
	tried := "select count(*) > 0 from pg_stat_activity where datname = current_database() and query ~ 'LOCK TABLE slipway.outbox_step'"
	eventually(t, func() bool { return rows[bool](t, pool, tried)[0] }, "it tries to fold")
	add(t, t.Context(), pool, event("meanwhile", 1))
	relay.Wake()
	eventually(t, func() bool { return s.count() == 1 })
	require.Equal(t, []int64{0, 0}, rows[int64](t, pool, "select beat from slipway.outbox_sink"))

	require.NoError(t, conn.Close(t.Context()))
	eventually(t, func() bool { return rows[int64](t, pool, "select min(beat) from slipway.outbox_sink")[0] == 10_000 })
	eventually(t, func() bool { return rows[int](t, pool, "select count(*) from slipway.outbox_step")[0] < 100 })
	require.Equal(t, idle, rows[string](t, pool, "select snapshot::text from slipway.outbox_position where sink = 'idle'"))
	add(t, t.Context(), pool, event("after", 1))
	relay.Wake()
	eventually(t, func() bool { return s.count() == 2 })
	require.Empty(t, s.versions("order/before"))
	require.Equal(t, []string{"1"}, s.versions("order/after"))
}
