package outbox_test

import (
	"context"
	"fmt"
	"os"
	osexec "os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/slipwayhq/slipway/platform/outbox"
	"github.com/slipwayhq/slipway/platform/postgres/migrate"
	"github.com/slipwayhq/slipway/platform/postgres/pgserver"
	"github.com/slipwayhq/slipway/platform/postgres/postgrestest"
)

// refuses runs a relay that must not start, and returns why.
func refuses(t *testing.T, pool *pgxpool.Pool) error {
	t.Helper()
	relay, err := outbox.NewRelay(pool, &sink{}, quick(), nil, nil)
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	err = relay.Run(ctx)
	require.ErrorIs(t, err, outbox.ErrUnsafe)
	return err
}

// Without the check the relay runs.
func TestRelay_refusesCachedSequence(t *testing.T) {
	t.Parallel()
	pool := setup(t)
	exec(t, pool, "alter sequence slipway.outbox_id_seq cache 20")
	require.ErrorContains(t, refuses(t, pool), "CACHE 1")
}

// A database is dumped and restored into another cluster, whose transaction ids begin anew. The
// relay refuses to read it; after a reset it publishes exactly what had not been published, in
// order, and what comes. One that goes on as if nothing had happened publishes nothing until the
// new cluster's ids have passed the old ones, or takes unsent events for sent.
func TestRelay_restoredDatabase(t *testing.T) {
	t.Parallel()
	pool := setup(t)
	ctx := t.Context()
	s := &sink{}
	_, _, stop := start(t, pool, s, quick())
	add(t, ctx, pool, event("a", 1), event("a", 2))
	eventually(t, func() bool { return s.count() == 2 })
	stop()
	add(t, ctx, pool, event("b", 1))
	add(t, ctx, pool, event("a", 3))
	add(t, ctx, pool, event("b", 2))
	replay(t, pool)
	exec(t, pool, "update slipway.outbox_replay set begun_at = clock_timestamp()")

	server := postgrestest.StartServer(t)
	dump(t, server, pool.Config().ConnString(), server.URL("postgres"))
	restored := open(t, server.URL("postgres"))
	require.ErrorContains(t, refuses(t, restored), "slipway outbox reset")

	operator := outbox.NewOperator(restored)
	unsent, err := operator.Reset(ctx, by)
	require.NoError(t, err)
	require.Equal(t, int64(3), unsent)
	require.Equal(t, []bool{true}, rows[bool](t, restored, "select begun_at is null from slipway.outbox_replay"), "its snapshot is of the other cluster")
	after := &sink{}
	relay, _, _ := start(t, restored, after, quick())
	add(t, ctx, restored, event("a", 4))
	relay.Wake()
	eventually(t, func() bool {
		return finished(t, restored) && len(after.times("order/a")) == 4 && len(after.times("order/b")) == 2
	})
	require.Equal(t, 1, after.times("order/a")["1"], "by the replay only")
	live := slices.DeleteFunc(after.all(), again)
	require.Len(t, live, 4)
	require.Equal(t, []string{"3", "4"}, (&sink{messages: live}).versions("order/a"))
	require.Equal(t, []string{"1", "2"}, (&sink{messages: live}).versions("order/b"))
}

// dump copies a database with the tools of the server.
func dump(t *testing.T, server *pgserver.Server, from, to string) {
	t.Helper()
	tool := func(name string) string { return filepath.Join(server.Binaries().Dir, name) }
	if _, err := osexec.LookPath(tool("pg_dump")); err != nil {
		t.Skip("pg_dump is not beside the server")
	}
	from = strings.ReplaceAll(strings.ReplaceAll(from, "&synchronous_commit=on", ""), "?synchronous_commit=on", "")
	out, err := osexec.CommandContext(t.Context(), tool("pg_dump"), "--no-owner", from).Output()
	require.NoError(t, err)
	restore := osexec.CommandContext(t.Context(), tool("psql"), "-q", "-v", "ON_ERROR_STOP=1", "-f", "-", to)
	restore.Stdin = strings.NewReader(string(out))
	text, err := restore.CombinedOutput()
	require.NoError(t, err, string(text))
}

// startForgetful starts a server that writes its log late: what does not wait for the disk is lost when it
// is killed.
func startForgetful(t *testing.T, tables migrate.Component) *pgserver.Server {
	t.Helper()
	dir, err := os.MkdirTemp("", "outbox-")
	require.NoError(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	require.NoError(t, os.Chmod(dir, 0o755))
	server, err := pgserver.Start(t.Context(), pgserver.Config{Dir: filepath.Join(dir, "pg"), Settings: map[string]string{"wal_writer_delay": "10s"}})
	if err != nil {
		t.Skip("no local server: ", err)
	}
	t.Cleanup(func() { _ = server.Kill() })
	_, err = migrate.Up(t.Context(), server.URL("postgres"), tables)
	require.NoError(t, err)
	return server
}

// A transaction that does not wait for the disk is seen before it is safe. The relay waits: when
// the server dies at once, no event exists of what never happened. Without the wait one does.
func TestRelay_noPhantoms(t *testing.T) {
	t.Parallel()
	server := startForgetful(t, outbox.Migrations())
	pool := open(t, server.URL("postgres"))
	s := &sink{}
	relay, reg, _ := start(t, pool, s, quick())
	add(t, t.Context(), pool, event("safe", 1))
	eventually(t, func() bool { return s.count() == 1 })

	// crash kills the server with an event that is seen and may not be on the disk, and returns whether
	// that was kept. On a busy machine something else may flush the log before.
	crash := func(n int) (kept int) {
		phantom, seen := fmt.Sprintf("phantom-%d", n), value(t, reg, "outbox_async_commit_events_total")
		conn, err := pgx.Connect(t.Context(), server.URL("postgres"))
		require.NoError(t, err)
		exec(t, conn, "set synchronous_commit = off")
		tx, err := conn.Begin(t.Context())
		require.NoError(t, err)
		require.NoError(t, outbox.Add(t.Context(), tx, event(phantom, 1)))
		require.NoError(t, tx.Commit(t.Context()))
		relay.Wake()
		eventually(t, func() bool { return value(t, reg, "outbox_async_commit_events_total") > seen }, "it has seen it")
		require.NoError(t, server.Kill())
		_ = conn.Close(context.Background())
		require.NoError(t, server.Restart(t.Context()))
		add(t, t.Context(), pool, event("safe", int64(n+1)))
		eventually(t, func() bool { return slices.Contains(s.versions("order/safe"), strconv.Itoa(n+1)) })
		kept = rows[int](t, pool, "select count(*) from slipway.outbox where aggregate_id = '"+phantom+"'")[0]
		require.Len(t, s.versions("order/"+phantom), kept)
		return kept
	}
	for n := 1; crash(n) > 0; n++ {
		require.Less(t, n, 5, "each crash came too late to prove anything")
	}
}

// The children rotate, and each is emptied only when every sink is past it, also past a transaction
// that chose it before the rotation and commits after; nothing waits with an exclusive lock.
// Emptying by age, or by the xid of the rotation alone, loses that transaction's event.
func TestRelay_rotates(t *testing.T) {
	t.Parallel()
	pool := setup(t)
	ctx := t.Context()
	s := &sink{}
	cfg := quick()
	cfg.Retention = time.Second
	_, _, _ = start(t, pool, s, cfg)
	late, err := pool.BeginTx(ctx, pgx.TxOptions{IsoLevel: pgx.RepeatableRead})
	require.NoError(t, err)
	t.Cleanup(func() { _ = late.Rollback(context.Background()) })
	exec(t, late, "select 1 from slipway.outbox_rotation") // chooses outbox_0
	add(t, ctx, pool, event("a", 1))
	current := func() int { return rows[int](t, pool, "select slot from slipway.outbox_rotation where current")[0] }
	version := int64(1)
	rotated := func(to int) func() bool {
		return func() bool {
			version++
			add(t, ctx, pool, event("a", version))
			return current() == to
		}
	}
	require.Eventually(t, rotated(1), patience, 50*time.Millisecond)
	require.NoError(t, outbox.Add(ctx, late, event("late", 1))) // into the child that is closed
	require.Eventually(t, rotated(2), patience, 50*time.Millisecond)
	require.Never(t, func() bool {
		return rows[bool](t, pool, "select closed_at is null from slipway.outbox_rotation where slot = 0")[0]
	}, 2*time.Second, 100*time.Millisecond, "emptied below an open transaction")
	require.NoError(t, late.Commit(ctx))
	eventually(t, func() bool { return len(s.versions("order/late")) == 1 })
	require.Eventually(t, rotated(0), patience, 50*time.Millisecond)
	require.Eventually(t, rotated(1), patience, 50*time.Millisecond)
	eventually(t, func() bool { return int64(len(s.versions("order/a"))) == version })
	require.Less(t, rows[int64](t, pool, "select count(*) from slipway.outbox")[0], version+1, "old events are gone")
	var emptied []int
	eventually(t, func() bool {
		emptied = rows[int](t, pool, "select slot from slipway.outbox_rotation where not current and opened_at is null")
		return len(emptied) > 0
	})
	fillPages(t, pool, emptied[0], 1)
	eventually(t, func() bool {
		return rows[int64](t, pool, fmt.Sprintf("select brin_summarize_range('slipway.outbox_%d_expr_created_at_idx', 0)", emptied[0]))[0] == 1
	}, "no event changes the index of one that was emptied")
}

// A sink that is behind keeps everything, and one that nobody uses can be removed. With a rotation that asks for the
// sink of its own relay only the event is gone.
func TestRelay_rotationWaitsForEverySink(t *testing.T) {
	t.Parallel()
	pool := setup(t)
	ctx := t.Context()
	s := &sink{}
	cfg := quick()
	cfg.Retention = time.Second
	exec(t, pool, "insert into slipway.outbox_sink (sink) values ('behind')")
	_, _, _ = start(t, pool, s, cfg)
	add(t, ctx, pool, event("a", 1))
	eventually(t, func() bool {
		add(t, ctx, pool, event("b", 1))
		return rows[int](t, pool, "select slot from slipway.outbox_rotation where current")[0] == 2
	})
	require.Never(t, func() bool {
		return rows[int](t, pool, "select count(*) from slipway.outbox where aggregate_id = 'a'")[0] == 0
	}, 2*time.Second, 100*time.Millisecond)
	require.NoError(t, outbox.NewOperator(pool).RemoveSink(ctx, by, "behind"))
	eventually(t, func() bool {
		return rows[int](t, pool, "select count(*) from slipway.outbox where aggregate_id = 'a'")[0] == 0
	})
}
