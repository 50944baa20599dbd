package outbox_test

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/slipwayhq/slipway/platform/outbox"
	"github.com/slipwayhq/slipway/platform/postgres"
)

// rotate closes the current child and opens the next, and returns the xid that
// the rotation records.
func rotate(t *testing.T, pool *pgxpool.Pool) string {
	t.Helper()
	var xid string
	require.NoError(t, postgres.InTx(t.Context(), pool, postgres.TxOptions{}, func(tx pgx.Tx) error {
		var slot int16
		err := tx.QueryRow(t.Context(), `update slipway.outbox_rotation
			set current = false, closed_at = clock_timestamp(), closed_xid = pg_current_xact_id()
			where current returning slot, closed_xid::text`).Scan(&slot, &xid)
		if err != nil {
			return err
		}
		_, err = tx.Exec(t.Context(), `update slipway.outbox_rotation
			set current = true, opened_at = clock_timestamp(), closed_at = null, closed_xid = null where slot = $1`, (slot+1)%3)
		return err
	}))
	return xid
}

// children returns which child holds each event of the aggregate, by id.
func children(t *testing.T, pool *pgxpool.Pool, aggregate string) []string {
	t.Helper()
	return rows[string](t, pool, "select tableoid::regclass::text from slipway.outbox where aggregate_id = $1 order by id", aggregate)
}

func TestTable_indexes(t *testing.T) {
	t.Parallel()
	pool := setup(t)
	require.Equal(t, []string{
		"outbox_0 brin (((id + 0)), created_at)", "outbox_0 btree (xid, id)", "outbox_1 brin (((id + 0)), created_at)", "outbox_1 btree (xid, id)",
		"outbox_2 brin (((id + 0)), created_at)", "outbox_2 btree (xid, id)",
	}, rows[string](t, pool, `select tablename || ' ' || split_part(substring(indexdef from '(?:brin|btree) .*'), ' WITH', 1) from pg_indexes
		where schemaname = 'slipway' and tablename ~ '^outbox_\d' order by 1`))
	require.Equal(t, []int64{1}, rows[int64](t, pool, "select seqcache from pg_sequence where seqrelid = 'slipway.outbox_id_seq'::regclass"))
}

// A request to complete the index stands for 128 pages: autovacuum keeps 256 of all, and those for sixteen pages that it
// was created with were too many. Seen to fail without the migration, and without its REINDEX.
func TestTable_completesIndexByManyPages(t *testing.T) {
	t.Parallel()
	pool := setup(t)
	for i := range 3 {
		child := fmt.Sprintf("slipway.outbox_%d", i)
		fillPages(t, pool, i, 1)
		require.Equal(t, []int64{1}, rows[int64](t, pool, fmt.Sprintf("select brin_summarize_range('%s_expr_created_at_idx', 0)", child)), "no event changes a new index")
		fillPages(t, pool, i, 200)
		require.NoError(t, pgx.BeginFunc(t.Context(), pool, func(tx pgx.Tx) error {
			_, err := tx.Exec(t.Context(), fmt.Sprintf(`LOCK TABLE %s IN SHARE UPDATE EXCLUSIVE MODE; -- autovacuum completes it as well
				SELECT brin_summarize_new_values('%[1]s_expr_created_at_idx'), brin_desummarize_range('%[1]s_expr_created_at_idx', 0)`, child))
			require.NoError(t, err)
			rows, err := tx.Query(t.Context(), fmt.Sprintf("SELECT brin_summarize_range('%s_expr_created_at_idx', page) FROM unnest('{128,127}'::bigint[]) page", child))
			require.NoError(t, err)
			completed, err := pgx.CollectRows(rows, pgx.RowTo[int64])
			require.Equal(t, []int64{0, 1}, completed, "the range of page 0 ends with page 127")
			return err
		}))
	}
}

// fillPages stores events in a child until it has more pages.
func fillPages(t *testing.T, pool *pgxpool.Pool, child, pages int) {
	t.Helper()
	table := fmt.Sprintf("slipway.outbox_%d", child)
	for rows[bool](t, pool, fmt.Sprintf("select pg_relation_size('%s') <= %d * 8192", table, pages))[0] {
		exec(t, pool, fmt.Sprintf(`insert into %s (slot, lane, event_id, aggregate_type, aggregate_id, aggregate_version, event_type, event_version, payload, headers)
			select %d, 0, gen_random_uuid(), 'order', i::text, 1, 'order.placed', 1, decode(repeat('78', 1000), 'hex'), '{}' from generate_series(1, 200) i`, table, child))
	}
}

func TestTable_rotation(t *testing.T) {
	t.Parallel()
	pool := setup(t)
	ctx := t.Context()
	add(t, ctx, pool, event("a", 1))
	rotate(t, pool)
	add(t, ctx, pool, event("a", 2))
	rotate(t, pool)
	add(t, ctx, pool, event("a", 3))
	rotate(t, pool)
	add(t, ctx, pool, event("a", 4))
	require.Equal(t, []string{"slipway.outbox_0", "slipway.outbox_1", "slipway.outbox_2", "slipway.outbox_0"}, children(t, pool, "a"))

	t.Run("allows one current child only", func(t *testing.T) {
		_, err := pool.Exec(ctx, "update slipway.outbox_rotation set current = true")
		require.True(t, postgres.IsUniqueViolation(err, "outbox_rotation_current"))
	})
}

func TestTable_truncate(t *testing.T) {
	t.Parallel()
	pool := setup(t)
	ctx := t.Context()
	add(t, ctx, pool, event("old", 1))
	rotate(t, pool)

	writer, err := pool.Begin(ctx)
	require.NoError(t, err)
	defer writer.Rollback(ctx)
	require.NoError(t, outbox.Add(ctx, writer, event("new", 1)))

	t.Run("of a closed child does not wait for writers", func(t *testing.T) {
		tx, err := pool.Begin(ctx)
		require.NoError(t, err)
		defer tx.Rollback(ctx)
		exec(t, tx, "set local lock_timeout = '1ms'")
		exec(t, tx, "truncate slipway.outbox_0")
		add(t, ctx, pool, event("beside", 1)) // nor do writers wait for it
		require.NoError(t, tx.Commit(ctx))
	})
	t.Run("of the writer's child would wait", func(t *testing.T) {
		require.Equal(t, "55P03", postgres.SQLState(lock(t, pool, "outbox_1", nil)))
	})
	require.NoError(t, writer.Commit(ctx))
	require.Empty(t, children(t, pool, "old"))
	require.Equal(t, []string{"slipway.outbox_1"}, children(t, pool, "new"))
}

// lock takes the child for itself, if that is possible at once.
func lock(t *testing.T, pool *pgxpool.Pool, child string, do func(tx pgx.Tx)) error {
	t.Helper()
	return postgres.InTx(t.Context(), pool, postgres.TxOptions{}, func(tx pgx.Tx) error {
		_, err := tx.Exec(t.Context(), "lock table slipway."+child+" in access exclusive mode nowait")
		if err == nil && do != nil {
			do(tx)
		}
		return err
	})
}

// uncovered counts the events of a child that a sink with the snapshot has not
// seen. A child is truncated only when this is zero under the exclusive lock.
func uncovered(t *testing.T, tx pgx.Tx, child, snapshot string) int {
	t.Helper()
	return rows[int](t, tx, fmt.Sprintf(`select count(*) from slipway.%s
		where xid >= pg_snapshot_xmin('%s') and not pg_visible_in_snapshot(xid, '%s')`, child, snapshot, snapshot))[0]
}

// The writer's snapshot is older than the rotation, its xid is younger: the xid
// that the rotation recorded says nothing about it, the lock and the look do. With
// rows that carry the xmin of their snapshot as their xid the look does not find it.
func TestTable_lateWriter(t *testing.T) {
	t.Parallel()
	pool := setup(t)
	ctx := t.Context()
	late, err := pool.BeginTx(ctx, pgx.TxOptions{IsoLevel: pgx.RepeatableRead})
	require.NoError(t, err)
	defer late.Rollback(ctx)
	exec(t, late, "select 1 from slipway.outbox_rotation") // takes the snapshot

	closed := rotate(t, pool)
	require.NoError(t, outbox.Add(ctx, late, event("late", 1)))
	require.Equal(t, []bool{true}, rows[bool](t, late, "select pg_current_xact_id() > $1::text::xid8", closed))
	var sink string
	require.Eventually(t, func() bool { // other tests on the server may hold older xids for a while
		sink = rows[string](t, pool, "select pg_current_snapshot()::text")[0]
		return rows[bool](t, pool, "select pg_snapshot_xmin($1::text::pg_snapshot) > $2::text::xid8", sink, closed)[0]
	}, 30*time.Second, 20*time.Millisecond, "by the recorded xid alone the child could go")

	t.Run("keeps its child from being truncated while it is open", func(t *testing.T) {
		require.Equal(t, "55P03", postgres.SQLState(lock(t, pool, "outbox_0", nil)))
	})
	t.Run("is found under the lock when it has committed", func(t *testing.T) {
		require.NoError(t, late.Commit(ctx))
		require.Equal(t, []string{"slipway.outbox_0"}, children(t, pool, "late"))
		require.NoError(t, lock(t, pool, "outbox_0", func(tx pgx.Tx) {
			require.Equal(t, 1, uncovered(t, tx, "outbox_0", sink))
			next := rows[string](t, tx, "select pg_current_snapshot()::text")[0]
			require.Zero(t, uncovered(t, tx, "outbox_0", next), "a sink that has seen it sets the child free")
		}))
	})
}

// window is the query of a relay: what is visible in s2 and was not in s1.
func window(child, s1, s2 string) string {
	const columns = "id, event_id, aggregate_type, aggregate_id, event_type, payload, headers"
	return fmt.Sprintf(`select %[1]s from slipway.%[2]s
		where xid >= pg_snapshot_xmax('%[3]s') and xid < pg_snapshot_xmax('%[4]s') and pg_visible_in_snapshot(xid, '%[4]s')
		union all select %[1]s from slipway.%[2]s
		where xid = any (array(select pg_snapshot_xip('%[3]s'))) and pg_visible_in_snapshot(xid, '%[4]s')`, columns, child, s1, s2)
}

func TestTable_window(t *testing.T) {
	t.Parallel()
	pool := setup(t)
	ctx := t.Context()
	snapshot := func() string { return rows[string](t, pool, "select pg_current_snapshot()::text")[0] }

	requireIndexed := func(t *testing.T, s1, s2 string) {
		t.Helper()
		tx, err := pool.Begin(ctx)
		require.NoError(t, err)
		defer tx.Rollback(ctx)
		exec(t, tx, "set local enable_seqscan = off")
		var plan json.RawMessage
		require.NoError(t, tx.QueryRow(ctx, "explain (format json) "+window("outbox_0", s1, s2)).Scan(&plan))
		text := string(plan)
		require.Contains(t, text, "outbox_0_xid_id_idx")
		require.NotContains(t, text, "Seq Scan")
		require.NotContains(t, text, `"Sort"`)
		require.Contains(t, text, `Index Cond`)
	}

	start := snapshot()
	t.Run("uses the index on an empty table", func(t *testing.T) { requireIndexed(t, start, snapshot()) })

	open, err := pool.Begin(ctx)
	require.NoError(t, err)
	defer open.Rollback(ctx)
	require.NoError(t, outbox.Add(ctx, open, event("open", 1)))
	before := snapshot()
	for i := range 20 {
		events := make([]outbox.Event, 500)
		for j := range events {
			events[j] = event(fmt.Sprint(i), int64(j))
		}
		add(t, ctx, pool, events...)
	}
	t.Run("uses the index on a large table that was never analysed", func(t *testing.T) { requireIndexed(t, before, snapshot()) })
	t.Run("uses the index on a large table that was analysed", func(t *testing.T) {
		exec(t, pool, "analyze slipway.outbox_0")
		requireIndexed(t, before, snapshot())
	})
	t.Run("finds each event once, and one that was open later", func(t *testing.T) {
		count := func(s1, s2 string) int {
			return rows[int](t, pool, "select count(*) from ("+window("outbox_0", s1, s2)+") w")[0]
		}
		middle := snapshot()
		require.Equal(t, 10_000, count(start, middle))
		require.NoError(t, open.Commit(ctx))
		end := snapshot()
		require.Equal(t, 1, count(middle, end))
		require.Equal(t, 10_001, count(start, end))
	})
}
