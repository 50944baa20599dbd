package outbox

import (
	"context"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/slipwayhq/slipway/platform/postgres/postgrestest"
)

// The last range of pages is left out of the index of ids: with it each new event changes the index. Seen to fail when
// it is not taken out again, and when another one is.
func TestCompleteIndex(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	conn, err := pgx.Connect(ctx, postgrestest.New(t, Migrations()))
	require.NoError(t, err)
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	_, err = conn.Exec(ctx, `INSERT INTO slipway.outbox (slot, lane, event_id, aggregate_type, aggregate_id, aggregate_version, event_type, event_version, payload, headers)
		SELECT 0, 0, gen_random_uuid(), 'order', i::text, 1, 'order.placed', 1, decode(repeat('78', 1000), 'hex'), '{}' FROM generate_series(1, 2000) i`)
	require.NoError(t, err)
	var pages int
	require.NoError(t, conn.QueryRow(ctx, "SELECT pg_relation_size('slipway.outbox_0') / 8192").Scan(&pages))
	require.Greater(t, pages, 256)
	require.Less(t, pages, 384)
	require.NoError(t, completeIndex(ctx, conn, 0))
	rows, err := conn.Query(ctx, "SELECT brin_summarize_range('slipway.outbox_0_expr_created_at_idx', page) FROM unnest('{0,128,256}'::bigint[]) page")
	require.NoError(t, err)
	missing, err := pgx.CollectRows(rows, pgx.RowTo[int])
	require.NoError(t, err)
	require.Equal(t, []int{0, 0, 1}, missing)
}
