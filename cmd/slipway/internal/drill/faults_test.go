package drill

import (
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/slipwayhq/slipway/platform/postgres/postgrestest"
)

// A service at work takes its tables in an order of its own. Seen to fail with a single
// attempt: the fault was not put in for a deadlock.
func TestLockTables_againstAServiceAtWork(t *testing.T) {
	t.Parallel()
	url := postgrestest.New(t)
	connect := func() *pgx.Conn {
		conn, err := pgx.Connect(t.Context(), url)
		require.NoError(t, err)
		t.Cleanup(func() { _ = conn.Close(t.Context()) })
		return conn
	}
	service, fault, observer := connect(), connect(), connect()
	require.ErrorContains(t, lockTables(t.Context(), fault), "the database has none")
	_, err := fault.Exec(t.Context(), "CREATE TABLE one(); CREATE TABLE two()")
	require.NoError(t, err)

	// The service never notices a deadlock first.
	_, err = service.Exec(t.Context(), "SET deadlock_timeout = '10min'; BEGIN; LOCK TABLE two IN ROW EXCLUSIVE MODE")
	require.NoError(t, err)
	done := make(chan error, 1)
	go func() { done <- lockTables(t.Context(), fault) }()
	require.Eventually(t, func() bool {
		var waits bool
		err := observer.QueryRow(t.Context(), "SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted AND pid = $1)", fault.PgConn().PID()).Scan(&waits)
		return err == nil && waits
	}, time.Minute, time.Millisecond)
	_, err = service.Exec(t.Context(), "LOCK TABLE one IN ROW EXCLUSIVE MODE; COMMIT")
	require.NoError(t, err)
	require.NoError(t, <-done)

	var held int
	require.NoError(t, observer.QueryRow(t.Context(), "SELECT count(*) FROM pg_locks WHERE granted AND mode = 'AccessExclusiveLock' AND pid = $1", fault.PgConn().PID()).Scan(&held))
	require.Equal(t, 2, held)
}
