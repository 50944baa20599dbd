package outbox

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/slipwayhq/slipway/platform/postgres/postgrestest"
)

// Each query uses the index that it must, whatever the planner knows: with an empty table, a large
// one that was never analysed, and one that was. Without the settings of the session, or with a
// parameter for LIMIT, some of them read the whole table.
func TestReader_plans(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	conn, err := pgx.Connect(ctx, postgrestest.New(t, Migrations()))
	require.NoError(t, err)
	defer func() { _ = conn.Close(ctx) }()
	run := func(sql string, args ...any) {
		_, err := conn.Exec(ctx, sql, args...)
		require.NoError(t, err)
	}
	for _, sql := range strings.Split(session, ";") {
		run(sql)
	}
	explain := func(sql, args string) string { return planOf(t, conn, sql, "("+args+")") }
	check := func(t *testing.T) {
		t.Helper()
		poll := explain(pollSQL(1000), "'740', '{741,742}'")
		near := explain(nearSQL(1000), "'740', '740:745:741,742'")
		late := explain(lateSQL(1000), "'{741,742}', 10, 20")
		part := explain(partSQL(1000), "10, 1010, '740:740:', '900:900:'")
		dense := explain(denseSQL, "10, 1010, '740:740:', '900:900:'")
		for name, plan := range map[string]string{"poll": poll, "near": near, "late": late, "part": part, "dense": dense} {
			require.NotContains(t, strings.ReplaceAll(plan, "Seq Scan on outbox_id_seq", ""), "Seq Scan", name)
			require.Regexp(t, `\$\d`, plan, "%s: made once, not for these values", name)
		}
		for i := range children {
			require.Contains(t, poll, fmt.Sprintf("outbox_%d_xid_id_idx", i))
			require.Contains(t, near, fmt.Sprintf("outbox_%d_xid_id_idx", i))
			require.Contains(t, late, fmt.Sprintf("outbox_%d_xid_id_idx", i))
			require.Contains(t, part, fmt.Sprintf("outbox_%d_expr_created_at_idx", i))
			require.Contains(t, dense, fmt.Sprintf("outbox_%d_expr_created_at_idx", i))
		}
		for _, line := range strings.Split(poll+near, "\n") {
			if strings.Contains(line, "Index Cond") {
				require.Contains(t, line, "xid", "the index is entered by the xid")
			}
		}
	}
	insert := `INSERT INTO slipway.outbox (slot, lane, event_id, aggregate_type, aggregate_id, aggregate_version, event_type, event_version, payload, headers)
		SELECT 0, 0, gen_random_uuid(), 'order', i::text, 1, 'order.placed', 1, '\x00', '{}' FROM generate_series(1, 1000000) i`
	run("ALTER TABLE slipway.outbox_0 SET (autovacuum_enabled = off)")
	t.Run("of an empty table", check)
	run(insert)
	t.Run("of a large table that was never analysed", check)
	run("ANALYZE slipway.outbox_0")
	t.Run("of a large table that was analysed", check)
	run("TRUNCATE slipway.outbox_0")
	t.Run("of an empty table that is taken for a large one", check)
}

// Both ways to read a window find the same, whoever was at work when it began. One that begins where the
// transactions that were over begin, not where the oldest began that was not, loses what was late.
func TestWindowTables_pollsAlike(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	url := postgrestest.New(t, Migrations())
	connect := func() *pgx.Conn {
		conn, err := pgx.Connect(ctx, url)
		require.NoError(t, err)
		t.Cleanup(func() { _ = conn.Close(context.WithoutCancel(ctx)) })
		return conn
	}
	add := func(tx pgx.Tx) {
		id := uuid.NewString()
		require.NoError(t, Add(ctx, tx, Event{AggregateType: "order", AggregateID: id, AggregateVersion: 1, Type: "order.placed", Version: 1}))
	}
	reader, other := connect(), connect()
	tables, err := newWindowTables(ctx, reader, 1000)
	require.NoError(t, err)
	poll := func(done snapshot, batch int) (xids []uint64) {
		tables.batch = batch
		w, err := tables.poll(ctx, done)
		require.NoError(t, err)
		for _, e := range w.events {
			xids = append(xids, e.xid)
		}
		return xids
	}
	origin, err := parseSnapshot("3:3:")
	require.NoError(t, err)
	random := rand.New(rand.NewPCG(1, 2))
	late := 0
	for range 20 {
		var open []pgx.Tx
		begin := func() {
			tx, err := connect().Begin(ctx)
			require.NoError(t, err)
			add(tx)
			open = append(open, tx)
		}
		for range 2 + random.IntN(5) {
			begin()
			require.NoError(t, pgx.BeginFunc(ctx, other, func(tx pgx.Tx) error { add(tx); return nil }))
		}
		w, err := tables.poll(ctx, origin)
		require.NoError(t, err)
		begin()
		for i, tx := range open {
			if random.IntN(3) > 0 {
				require.NoError(t, tx.Commit(ctx))
				if i < len(open)-1 {
					late++
				}
			}
		}
		near, far := poll(w.end, 1000), poll(w.end, 0)
		require.ElementsMatch(t, far, near)
		for _, tx := range open {
			_ = tx.Rollback(ctx)
			_ = tx.Conn().Close(ctx)
		}
	}
	require.Greater(t, late, 20, "transactions that were running before and are over now")
}

// planOf returns the plan of a prepared statement.
func planOf(t *testing.T, conn *pgx.Conn, sql, args string) string {
	t.Helper()
	_, err := conn.Prepare(t.Context(), "planned", sql)
	require.NoError(t, err)
	defer func() { require.NoError(t, conn.Deallocate(t.Context(), "planned")) }()
	rows, err := conn.Query(t.Context(), "EXPLAIN EXECUTE planned "+args, pgx.QueryExecModeSimpleProtocol)
	require.NoError(t, err)
	lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(t, err)
	return strings.Join(lines, "\n")
}

// The fallback reads in the order of its index and asks for each row whether it is held, whatever the planner
// knows. Without the settings of its session, or with a parameter for LIMIT, it sorts the whole table.
func TestFallback_plan(t *testing.T) {
	t.Parallel()
	conn, err := pgx.Connect(t.Context(), postgrestest.New(t, FallbackMigrations()))
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	run := func(sql string) {
		_, err := conn.Exec(t.Context(), sql)
		require.NoError(t, err)
	}
	for _, setting := range fallbackSession {
		run(setting)
	}
	check := func(t *testing.T) {
		t.Helper()
		plan := planOf(t, conn, readSQL(10_000), "")
		require.Contains(t, plan, "Index Scan using outbox_pkey")
		require.Contains(t, plan, "outbox_held_pkey")
		require.NotContains(t, plan, "Sort")
	}
	run("ALTER TABLE slipway.outbox SET (autovacuum_enabled = off)")
	run("ALTER TABLE slipway.outbox_held SET (autovacuum_enabled = off)")
	t.Run("of an empty table", check)
	run(`INSERT INTO slipway.outbox (slot, lane, event_id, aggregate_type, aggregate_id, aggregate_version, event_type, event_version, payload, headers)
		SELECT 0, 0, gen_random_uuid(), 'order', i::text, 1, 'order.placed', 1, '\x00', '{}' FROM generate_series(1, 50000) i`)
	run("INSERT INTO slipway.outbox_held (aggregate_type, aggregate_id, error, attempts) SELECT 'order', i::text, 'hiccup', 1 FROM generate_series(1, 5000) i")
	t.Run("of a large table that was never analysed", check)
	run("ANALYZE slipway.outbox, slipway.outbox_held")
	t.Run("of a large table that was analysed", check)
	run("TRUNCATE slipway.outbox")
	t.Run("of an empty table that is taken for a large one", check)
}

func TestSnapshot(t *testing.T) {
	t.Parallel()
	s, err := parseSnapshot("10:20:11,15")
	require.NoError(t, err)
	for xid, seen := range map[uint64]bool{9: true, 10: true, 11: false, 12: true, 15: false, 19: true, 20: false, 30: false} {
		require.Equal(t, seen, s.sees(xid), xid)
	}
	next, err := parseSnapshot("15:30:15,22")
	require.NoError(t, err)
	require.Equal(t, []string{"11"}, s.late(next))
	require.Equal(t, []string{"11", "15"}, s.runningText())
	for _, bad := range []string{"", "1:2", "a:2:", "1:b:", "1:2:c"} {
		_, err := parseSnapshot(bad)
		require.Error(t, err, bad)
	}
}

func TestConfig(t *testing.T) {
	t.Parallel()
	var c Config
	c.SetDefaults()
	require.NoError(t, c.Validate())
	c.Lease = 2 * time.Minute
	require.ErrorContains(t, c.Validate(), "OUTBOX_LEASE: 2m0s is longer than 1m0s")
	c = Config{Sink: "\x00", Batch: 20_000, Lease: 1, Poll: -1, MaxAttempts: -1, MinBackoff: 2, MaxBackoff: 1}
	c.SetDefaults()
	err := c.Validate()
	for _, part := range []string{"OUTBOX_SINK", "OUTBOX_BATCH", "OUTBOX_LEASE", "OUTBOX_POLL", "OUTBOX_MAX_ATTEMPTS", "longest backoff"} {
		require.ErrorContains(t, err, part)
	}
	_, err = NewRelay(nil, nil, c, nil, nil)
	require.Error(t, err)
}

func FuzzDecodeHeaders(f *testing.F) {
	for _, seed := range []string{
		`{}`, `{"a":"b"}`, `{"a":"b","c":"d"}`, `{"a":"\u00e4\"","b":"<"}`, `{"a": "b"}`, `{"a":"b",}`, `{"a":1}`, `{"a":"b"}x`, `{"a":"b""c":"d"}`,
		`{"a","b":"c"}`, `null`, `[]`, ``, `{`, `{"a":"b"`, "{\"a\":\"b\nc\"}", "{\"a\":\"\xff\"}",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		want, got := map[string]string{}, map[string]string{}
		err := decodeHeaders(text, got)
		if json.Unmarshal([]byte(text), &want) == nil && want != nil && utf8.ValidString(text) {
			require.NoError(t, err)
			require.Equal(t, want, got)
		}
	})
}
