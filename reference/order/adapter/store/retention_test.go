package store

import (
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/slipwayhq/slipway/platform/outbox"
	"github.com/slipwayhq/slipway/platform/postgres"
	"github.com/slipwayhq/slipway/platform/postgres/migrate"
	"github.com/slipwayhq/slipway/platform/postgres/postgrestest"
	"github.com/slipwayhq/slipway/reference/order/adapter/store/sqlc"
	"github.com/slipwayhq/slipway/reference/order/migrations"
)

func TestKeyCleaner(t *testing.T) {
	t.Parallel()
	url := postgrestest.New(t, outbox.Migrations(), migrate.Component{Name: "order", FS: migrations.FS})
	pool, err := postgres.Open(t.Context(), postgres.Config{URL: url}, nil, nil, nil)
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	orders := New(pool)
	now := time.Now().UTC()
	_, err = pool.Exec(t.Context(), `INSERT INTO idempotency_keys (owner, key, request_hash, order_id, created_at)
		SELECT 'shop', 'old-' || n, decode(repeat('00', 32), 'hex'), gen_random_uuid(), $1::timestamptz - interval '8 days'
		FROM generate_series(1, $2::int) AS n`, now, 2*retentionBatch+1)
	require.NoError(t, err)
	_, err = orders.queries.ClaimKey(t.Context(), sqlc.ClaimKeyParams{
		Owner: "shop", Key: "new", RequestHash: []byte(strings.Repeat("h", 32)), OrderID: uuid.New(), CreatedAt: now,
	})
	require.NoError(t, err)

	require.NoError(t, NewKeyCleaner(orders, nil).clean(t.Context(), now.Add(-KeyRetention)))

	var left []string
	rows, err := pool.Query(t.Context(), "SELECT key FROM idempotency_keys")
	require.NoError(t, err)
	for rows.Next() {
		var key string
		require.NoError(t, rows.Scan(&key))
		left = append(left, key)
	}
	require.Equal(t, []string{"new"}, left, "more than two batches of old keys are gone, the new one is not")
}
