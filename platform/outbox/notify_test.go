package outbox_test

import (
	"strconv"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/slipwayhq/slipway/platform/outbox"
	"github.com/slipwayhq/slipway/platform/postgres"
	"github.com/slipwayhq/slipway/platform/postgres/migrate"
	"github.com/slipwayhq/slipway/platform/postgres/postgrestest"
)

// No commit waits for the lock with which NOTIFY lines commits up, whoever wakes the relay. The same writers
// with a NOTIFY in each transaction do.
func TestRelay_linesNoCommitsUp(t *testing.T) {
	t.Parallel()
	server := postgrestest.StartServer(t)
	url := server.URL("postgres")
	_, err := migrate.Up(t.Context(), url, outbox.Migrations())
	require.NoError(t, err)
	pool := open(t, url)
	// Commits take their time, as on a disk.
	for _, setting := range []string{"fsync = on", "commit_siblings = 0", "commit_delay = 3000"} {
		exec(t, pool, "ALTER SYSTEM SET "+setting)
	}
	exec(t, pool, "SELECT pg_reload_conf()")
	s := &sink{}
	active, _, _ := start(t, pool, s, quick())
	eventually(t, active.Active)
	standby, _, _ := start(t, pool, s, quick())
	const writers, each = 64, 30
	cfg := pool.Config().Copy()
	cfg.MaxConns, cfg.ConnConfig.ConnectTimeout = writers+1, patience
	crowd, err := pgxpool.NewWithConfig(t.Context(), cfg)
	require.NoError(t, err)
	t.Cleanup(crowd.Close)
	// write returns how often somebody was seen to wait for the lock, and how often it was looked.
	write := func(also string) (waits, looks int) {
		var group sync.WaitGroup
		for w := range writers {
			group.Go(func() {
				for i := range each {
					err := postgres.InTx(t.Context(), crowd, postgres.TxOptions{}, func(tx pgx.Tx) error {
						if also != "" {
							if _, err := tx.Exec(t.Context(), also); err != nil {
								return err
							}
						}
						return outbox.Add(t.Context(), tx, event(strconv.Itoa(w)+also, int64(i+1)))
					})
					if err != nil {
						t.Error(err)
					}
					standby.Wake()
				}
			})
		}
		done := make(chan struct{})
		go func() { group.Wait(); close(done) }()
		for {
			waits += rows[int](t, pool, `SELECT count(*) FROM pg_locks JOIN pg_stat_activity USING (pid)
				WHERE datname = current_database() AND locktype = 'object' AND database = 0 AND NOT granted`)[0]
			looks++
			select {
			case <-done:
				return waits, looks
			default:
			}
		}
	}
	waits, looks := write("")
	require.Zero(t, waits)
	require.Greater(t, looks, 10)
	waits, _ = write("SELECT pg_notify('somebody', 'an event')")
	require.Positive(t, waits, "this test looks at the wrong lock")
}
