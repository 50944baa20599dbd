package sagapg_test

import (
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
)

// A scrape goes on without the numbers of sagas when the database hangs: the query still waits when the scrape
// is over.
func TestStats_scrapeDoesNotHang(t *testing.T) {
	t.Parallel()
	pool := setup(t)
	_, reg, stop := start(t, pool, quick(), newSteps().trip())
	stop()
	holder, err := pgx.ConnectConfig(t.Context(), pool.Config().ConnConfig.Copy())
	require.NoError(t, err)
	defer func() { _ = holder.Close(t.Context()) }()
	_, err = holder.Exec(t.Context(), "BEGIN; LOCK TABLE slipway.saga_definition IN ACCESS EXCLUSIVE MODE")
	require.NoError(t, err)

	families, err := reg.Gather()
	require.NoError(t, err)
	for _, f := range families {
		require.NotEqual(t, "saga_instances", f.GetName())
	}
	waiting := query[int](t, pool, "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock' AND query LIKE '%why%'")
	require.Equal(t, 1, waiting)

	_, err = holder.Exec(t.Context(), "ROLLBACK")
	require.NoError(t, err)
	eventually(t, func() bool {
		families, err := reg.Gather()
		require.NoError(t, err)
		for _, f := range families {
			if f.GetName() == "saga_instances" {
				return true
			}
		}
		return false
	})
}
