package outbox_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/slipwayhq/slipway/platform/broker"
	"github.com/slipwayhq/slipway/platform/outbox"
)

// begin opens a transaction that has its xid.
func begin(t *testing.T, pool *pgxpool.Pool) pgx.Tx {
	t.Helper()
	tx, err := pool.Begin(t.Context())
	require.NoError(t, err)
	t.Cleanup(func() { _ = tx.Rollback(context.Background()) })
	exec(t, tx, "select pg_current_xact_id()")
	return tx
}

// Two transactions suffice to break an order by xid, three one by id below the oldest open xid:
// the transaction that wrote first locks the aggregate last. With the rows of a poll sorted by
// (xid, id), or read below the snapshot's xmin only, this delivers 2 before 1.
func TestRelay_orderOfXidsIsNotThatOfEvents(t *testing.T) {
	t.Parallel()
	pool := setup(t)
	ctx := t.Context()
	s := &sink{}
	_, _, _ = start(t, pool, s, quick())

	second := begin(t, pool)
	open := begin(t, pool) // keeps the oldest open xid below that of the first
	first := begin(t, pool)
	require.NoError(t, outbox.Add(ctx, first, event("a", 1)))
	require.NoError(t, first.Commit(ctx))
	require.NoError(t, outbox.Add(ctx, second, event("a", 2)))
	require.NoError(t, second.Commit(ctx))
	eventually(t, func() bool { return s.count() == 2 }, "an open transaction must not hold them up")
	require.Equal(t, []string{"1", "2"}, s.versions("order/a"))

	require.NoError(t, outbox.Add(ctx, open, event("b", 1)))
	require.NoError(t, open.Commit(ctx))
	eventually(t, func() bool { return s.count() == 3 })
}

// The transaction that drew the smaller id commits last. A reader that remembers the largest id,
// "id > last", never sees it.
func TestRelay_lateCommitOfSmallerID(t *testing.T) {
	t.Parallel()
	pool := setup(t)
	ctx := t.Context()
	s := &sink{}
	_, _, _ = start(t, pool, s, quick())
	late := begin(t, pool)
	require.NoError(t, outbox.Add(ctx, late, event("late", 1)))
	gone := begin(t, pool)
	require.NoError(t, outbox.Add(ctx, gone, event("gone", 1)))
	for i := range 5 {
		add(t, ctx, pool, event("early", int64(i+1)))
	}
	eventually(t, func() bool { return s.count() == 5 })
	require.NoError(t, gone.Rollback(ctx))
	require.NoError(t, late.Commit(ctx))
	eventually(t, func() bool { return s.count() == 6 })
	require.Equal(t, []string{"1"}, s.versions("order/late"))
	require.Empty(t, s.versions("order/gone"))
}

// An open snapshot and an open writer hold up neither the others' events nor leave dead rows.
// Reading "xid < xmin" stalls here until the writer ends.
func TestRelay_longTransactionsHoldNothingUp(t *testing.T) {
	t.Parallel()
	pool := setup(t)
	ctx := t.Context()
	reader, err := pool.BeginTx(ctx, pgx.TxOptions{IsoLevel: pgx.RepeatableRead})
	require.NoError(t, err)
	t.Cleanup(func() { _ = reader.Rollback(context.Background()) })
	exec(t, reader, "select count(*) from slipway.outbox")
	writer := begin(t, pool)
	require.NoError(t, outbox.Add(ctx, writer, event("own", 1)))

	s := &sink{}
	relay, _, _ := start(t, pool, s, quick())
	for i := range 200 {
		add(t, ctx, pool, event(strconv.Itoa(i%10), int64(i/10+1)))
		relay.Wake()
	}
	eventually(t, func() bool { return s.count() == 200 })
	for i := range 10 {
		require.Len(t, s.versions("order/"+strconv.Itoa(i)), 20)
	}
	require.NoError(t, writer.Commit(ctx))
	eventually(t, func() bool { return s.count() == 201 })
	exec(t, pool, "select pg_stat_force_next_flush()")
	require.Zero(t, rows[int](t, pool, "select coalesce(sum(n_dead_tup), 0) from pg_stat_all_tables where schemaname = 'slipway' and relname ~ '^outbox_\\d'")[0])
}

// A transaction has drawn its id but not its place in a snapshot: it is the youngest of all, so
// that the snapshot knows nothing of it. It commits as a part of a window that does not fit into a
// batch. If the floor of that window came from the sequence alone, the event would be below it and
// never read.
func TestRelay_youngestTransactionBelowTheSequence(t *testing.T) {
	t.Parallel()
	pool := setup(t)
	ctx := t.Context()
	s := &sink{}
	cfg := quick()
	cfg.Batch, cfg.Lease, cfg.Maintenance, cfg.Poll = 3, time.Minute, time.Minute, time.Minute // nothing of its own comes between
	relay, _, _ := start(t, pool, s, cfg)
	eventually(t, relay.Active)

	youngest, err := pool.Begin(ctx)
	require.NoError(t, err)
	require.NoError(t, outbox.Add(ctx, youngest, event("young", 1)))
	polled(t, pool, relay)
	var rest []outbox.Event
	for i := range 20 {
		rest = append(rest, event(strconv.Itoa(i), 1))
	}
	require.NoError(t, outbox.Add(ctx, youngest, rest...)) // above that poll's sequence, the first one below
	require.NoError(t, youngest.Commit(ctx))
	relay.Wake()
	eventually(t, func() bool { return s.count() == 21 })
	require.Equal(t, []string{"1"}, s.versions("order/young"))
}

// polled waits until the relay has looked for events once more.
func polled(t *testing.T, pool *pgxpool.Pool, relay *outbox.Relay) {
	t.Helper()
	began := rows[time.Time](t, pool, "select clock_timestamp()")[0]
	eventually(t, func() bool {
		relay.Wake()
		return rows[int](t, pool, `select count(*) from pg_stat_activity where datname = current_database() and state = 'idle'
			and query like '%pg_current_snapshot()::text, true%' and query_start > $1 and pid <> pg_backend_pid()`, began)[0] > 0
	})
}

// ledger of what the fuzz has committed, by aggregate.
type committed struct {
	mu       sync.Mutex
	versions map[string]int
}

// TestRelay_fuzz runs writers that delay, roll back and take their xid early against relays that
// fight for the lease, lose their connections at any moment and publish to a sink that fails at
// random, with a batch so small that most windows are read in pieces. Afterwards nothing is lost,
// nothing made up, and each aggregate's events came first in their order.
//
// It fails with a reader that sorts by xid, that cuts windows at the batch, that takes the floor of
// a window from the sequence alone (events of a transaction that drew its id before and its
// visibility after are lost), and with a relay that goes on after a failed message of an aggregate.
func TestRelay_fuzz(t *testing.T) {
	t.Parallel()
	fuzz(t, setup(t), func(relays *pgxpool.Pool, s *sink, cfg outbox.Config) { _, _, _ = start(t, relays, s, cfg) })
}

// fuzz runs four relays, on connections that no writer ever has.
func fuzz(t *testing.T, pool *pgxpool.Pool, start func(relays *pgxpool.Pool, s *sink, cfg outbox.Config)) {
	t.Helper()
	ctx := t.Context()
	exec(t, pool, "create table aggregates (id text primary key, version bigint not null)")
	const writers, aggregates = 8, 25
	each := 400
	for i := range aggregates {
		exec(t, pool, "insert into aggregates values ($1, 0)", strconv.Itoa(i))
	}
	s := &sink{fail: func(broker.Message) error {
		switch rand.IntN(200) {
		case 0, 1:
			return broker.ErrUnavailable
		case 2:
			return errors.New("hiccup") // has its aggregate parked
		case 3:
			time.Sleep(5 * time.Millisecond)
		}
		return nil
	}}
	cfg := quick()
	cfg.Batch = 7
	cfg.Lease = 100 * time.Millisecond
	relays := open(t, pool.Config().ConnString()+"&application_name=relay")
	for range 4 {
		start(relays, s, cfg)
	}

	done := committed{versions: map[string]int{}}
	var wg sync.WaitGroup
	errs := make(chan error, writers)
	for w := range writers {
		wg.Go(func() { errs <- write(ctx, pool, w, each, aggregates, &done) })
	}
	stop := make(chan struct{})
	killed := make(chan int)
	go func() { killed <- kill(pool, stop) }()
	wg.Wait()
	for range writers {
		require.NoError(t, <-errs)
	}
	close(stop)
	t.Logf("active relays lost their connections %d times", <-killed)
	s.failing(nil)
	check(t, s, &done)
}

// write makes n transactions of one writer.
func write(ctx context.Context, pool *pgxpool.Pool, w, n, aggregates int, done *committed) error {
	random := rand.New(rand.NewPCG(uint64(w), 1))
	for range n {
		if err := writeOne(ctx, pool, random, aggregates, done); err != nil {
			return err
		}
	}
	return nil
}

func writeOne(ctx context.Context, pool *pgxpool.Pool, random *rand.Rand, aggregates int, done *committed) error {
	tx, err := pool.Begin(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback(context.WithoutCancel(ctx)) }()
	pause := func() {
		if random.IntN(4) == 0 {
			time.Sleep(time.Duration(random.IntN(8)) * time.Millisecond)
		}
	}
	if random.IntN(2) == 0 {
		if _, err := tx.Exec(ctx, "select pg_current_xact_id()"); err != nil {
			return err
		}
		pause()
	}
	id := strconv.Itoa(random.IntN(aggregates))
	events := 1 + random.IntN(3)
	if random.IntN(40) == 0 {
		events = 30
	}
	var version int64
	if err := tx.QueryRow(ctx, "update aggregates set version = version + $2 where id = $1 returning version", id, events).Scan(&version); err != nil {
		return err
	}
	var added []outbox.Event
	for i := range events {
		added = append(added, event(id, version-int64(events)+int64(i)+1))
	}
	if err := outbox.Add(ctx, tx, added...); err != nil {
		return err
	}
	pause()
	if random.IntN(8) == 0 {
		return tx.Rollback(ctx)
	}
	if err := tx.Commit(ctx); err != nil {
		return err
	}
	done.mu.Lock()
	done.versions[id] = max(done.versions[id], int(version))
	done.mu.Unlock()
	return nil
}

// kill cuts all connections of the active relay now and then, and returns how often.
func kill(pool *pgxpool.Pool, stop chan struct{}) (n int) {
	for {
		select {
		case <-stop:
			return n
		case <-time.After(time.Duration(150+rand.IntN(200)) * time.Millisecond):
		}
		tag, err := pool.Exec(context.Background(), `select pg_terminate_backend(pid) from pg_stat_activity
			where datname = current_database() and application_name = 'relay' and (query ~ 'slipway.outbox_(step|held)' or query ~ 'outbox_id_seq' and query !~ 'INSERT INTO slipway.outbox ')`)
		if err == nil && tag.RowsAffected() > 0 {
			n++
		}
	}
}

// check waits until everything has arrived and judges it.
func check(t *testing.T, s *sink, done *committed) {
	t.Helper()
	total := 0
	for _, last := range done.versions {
		total += last
	}
	first := func() map[string][]int {
		seen := map[string][]int{}
		for _, m := range s.all() {
			v, err := strconv.Atoi(m.Headers[broker.HeaderAggregateVersion])
			require.NoError(t, err)
			if id := m.Headers[broker.HeaderAggregateID]; !slices.Contains(seen[id], v) {
				seen[id] = append(seen[id], v)
			}
		}
		return seen
	}
	complete := func() bool {
		n := 0
		for _, versions := range first() {
			n += len(versions)
		}
		return n >= total
	}
	require.Eventually(t, complete, patience, 200*time.Millisecond, "lost events")
	seen := first()
	for id, last := range done.versions {
		want := make([]int, last)
		for i := range want {
			want[i] = i + 1
		}
		require.Equal(t, want, seen[id], "aggregate "+id)
	}
	t.Logf("%d events, %d published", total, s.count())
}
