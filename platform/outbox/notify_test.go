package outbox_test

import (
	"strconv"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/slipwayhq/slipway/platform/outbox"
	"github.com/slipwayhq/slipway/platform/postgres/migrate"
	"github.com/slipwayhq/slipway/platform/postgres/postgrestest"
)

// No commit waits for the lock with which NOTIFY lines commits up, whoever wakes the relay. The same writers
// with a NOTIFY in each transaction do. Here each commit takes as long as the test wants: it waits for a
// synchronous standby that there is not.
func TestRelay_linesNoCommitsUp(t *testing.T) {
	t.Parallel()
	server := postgrestest.StartServer(t)
	url := server.URL("postgres")
	_, err := migrate.Up(t.Context(), url, outbox.Migrations())
	require.NoError(t, err)
	pool := open(t, url)
	standbys := func(names string) {
		exec(t, pool, "ALTER SYSTEM SET synchronous_standby_names = '"+names+"'")
		exec(t, pool, "SELECT pg_reload_conf()")
		eventually(t, func() bool { return rows[string](t, pool, "SHOW synchronous_standby_names")[0] == names })
	}
	s := &sink{}
	active, _, _ := start(t, pool, s, quick())
	eventually(t, active.Active)
	standby, _, _ := start(t, pool, s, quick())
	// Who commits waits as long as the test wants: no bound of a pool ends it.
	patient := func(name string, conns int32) *pgxpool.Pool {
		cfg, err := pgxpool.ParseConfig(url + "&synchronous_commit=on")
		require.NoError(t, err)
		cfg.MaxConns = conns
		cfg.ConnConfig.RuntimeParams["application_name"] = name
		crowd, err := pgxpool.NewWithConfig(t.Context(), cfg)
		require.NoError(t, err)
		t.Cleanup(crowd.Close)
		return crowd
	}
	const writers = 16
	crowd, scout := patient("writer", writers), patient("scout", 1)
	exec(t, pool, "CREATE TABLE scout (way int)")
	waiting := func(name, event string) int {
		return rows[int](t, pool, "SELECT count(*) FROM pg_stat_activity WHERE application_name = '"+name+"' AND wait_event = '"+event+"'")[0]
	}

	// commit lets every writer come to its commit, and returns when so many of them wait for the standby
	// and so many for the lock.
	commit := func(also string, committing, inLine int) {
		var group sync.WaitGroup
		standbys("nobody")
		// Commits wait only once a process of the server has heard of it: somebody goes ahead until one does.
		var found atomic.Bool
		group.Go(func() {
			for !found.Load() {
				exec(t, scout, "INSERT INTO scout VALUES (1)")
			}
		})
		eventually(t, func() bool { return waiting("scout", "SyncRep") == 1 })
		found.Store(true)
		for w := range writers {
			group.Go(func() {
				err := pgx.BeginFunc(t.Context(), crowd, func(tx pgx.Tx) error {
					if _, err := tx.Exec(t.Context(), also); err != nil {
						return err
					}
					standby.Wake()
					return outbox.Add(t.Context(), tx, event(strconv.Itoa(w)+also, 1))
				})
				if err != nil {
					t.Error(err)
				}
			})
		}
		eventually(t, func() bool {
			return waiting("writer", "SyncRep") == committing && waiting("writer", "object") == inLine
		})
		standbys("")
		group.Wait()
	}
	commit("SELECT 1", writers, 0)
	commit("SELECT pg_notify('somebody', 'an event')", 1, writers-1)
	eventually(t, func() bool { return s.count() == 2*writers })
}
