package sagapg

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/slipwayhq/slipway/platform/postgres/postgrestest"
)

// Each statement of a worker uses the index that it must, whatever the planner knows: with an empty
// table, a large one that was never analysed, one that was, and one that was when all had gone. Without
// the settings of the session, or with the plain owner in the journal's update, some of them walk over
// other sagas.
func TestStatements_plans(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	conn, err := pgx.Connect(ctx, postgrestest.New(t, Migrations()))
	require.NoError(t, err)
	defer func() { _ = conn.Close(ctx) }()
	run := func(sql string) {
		_, err := conn.Exec(ctx, sql)
		require.NoError(t, err)
	}
	explain := func(settings, sql string) string { // as it is planned for any values
		run("RESET ALL")
		run(settings)
		statement, err := conn.Prepare(ctx, "planned", sql)
		require.NoError(t, err)
		defer func() { require.NoError(t, conn.Deallocate(ctx, "planned")) }()
		values := strings.TrimSuffix(strings.Repeat("NULL, ", len(statement.ParamOIDs)), ", ")
		rows, err := conn.Query(ctx, "EXPLAIN EXECUTE planned ("+values+")", pgx.QueryExecModeSimpleProtocol)
		require.NoError(t, err)
		lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
		require.NoError(t, err)
		return strings.Join(lines, "\n")
	}
	check := func(t *testing.T) {
		t.Helper()
		claim := explain(claimPlans, fmt.Sprintf(claimSQL, 100, 100))
		require.Contains(t, claim, "saga_due")
		require.Contains(t, claim, "saga_owned")
		require.NotContains(t, claim, "Seq Scan on saga s")
		require.NotContains(t, claim, "Sort Key: s.next_run_at", "the index is in order")
		update, finish := explain(journalPlans, updateSagas), explain(journalPlans, finishSagas)
		for _, plan := range []string{update, finish} {
			require.Contains(t, plan, "saga_pkey")
			require.Contains(t, plan, "Index Cond: (id = ", "each saga is looked up: %s", plan)
			require.NotContains(t, plan, "saga_owned")
			require.NotContains(t, plan, "Seq Scan")
		}
	}
	check(t)
	run("ALTER TABLE slipway.saga SET (autovacuum_enabled = false)")
	run(`INSERT INTO slipway.saga (id, definition, data, headers, created_at, updated_at, next_run_at, owner)
		SELECT gen_random_uuid(), 1 + n % 2, '{}', '{}', now(), now(), CASE WHEN n % 100 > 0 THEN now() + n * interval '1 second' END,
			CASE WHEN n % 100 = 0 THEN 7 + n % 3 END FROM generate_series(1, 200000) n`)
	check(t)
	run("ANALYZE slipway.saga")
	check(t)
	run("DELETE FROM slipway.saga WHERE id <> (SELECT id FROM slipway.saga ORDER BY ctid DESC LIMIT 1)")
	run("VACUUM slipway.saga")
	run("DELETE FROM slipway.saga")
	run("ANALYZE slipway.saga") // without rows, and with pages
	check(t)
}

// Progress of a saga that its worker keeps changes no indexed column: it stays in its page, and no
// index grows.
func TestStatements_progressIsHOT(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	conn, err := pgx.Connect(ctx, postgrestest.New(t, Migrations()))
	require.NoError(t, err)
	defer func() { _ = conn.Close(ctx) }()
	_, err = conn.Exec(ctx, `INSERT INTO slipway.saga (id, definition, data, headers, created_at, updated_at, owner, token)
		SELECT gen_random_uuid(), 1, convert_to(repeat('x', 300), 'UTF8'), '{}', now(), now(), 7, 9 FROM generate_series(1, 100) n`)
	require.NoError(t, err)
	rows, err := conn.Query(ctx, "SELECT id FROM slipway.saga")
	require.NoError(t, err)
	ids, err := pgx.CollectRows(rows, pgx.RowTo[uuid.UUID])
	require.NoError(t, err)
	for stage := range 3 {
		var c columns
		for _, id := range ids {
			r := &record{id: id, token: 9}
			r.instance.Stage = stage
			c.add(r)
		}
		_, err := conn.Exec(ctx, updateSagas, int64(7), time.Now(), c.id, c.token, c.stage, c.status, c.backward, c.steps, c.data,
			c.failingSince, c.reason, c.problem, c.waitsFor, c.release, c.next, c.took)
		require.NoError(t, err)
	}
	var updated, hot int
	require.Eventually(t, func() bool {
		_, err := conn.Exec(ctx, "SELECT pg_stat_force_next_flush()")
		require.NoError(t, err)
		err = conn.QueryRow(ctx, "SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables WHERE relname = 'saga'").Scan(&updated, &hot)
		return err == nil && updated == 300
	}, time.Minute, 10*time.Millisecond)
	require.GreaterOrEqual(t, hot, 100, "the first update of each finds room in its page, later ones once it was pruned")
}
