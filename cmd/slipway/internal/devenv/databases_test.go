package devenv

import (
	"context"
	"net/url"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/slipwayhq/slipway/platform/postgres/postgrestest"
)

func TestTenant_create(t *testing.T) {
	t.Parallel()
	admin := postgrestest.StartServer(t).URL("postgres") // roles are the whole server's
	root := connect(t, admin)
	run(t, root, "CREATE ROLE developer LOGIN CREATEDB CREATEROLE PASSWORD 'd'", "CREATE ROLE foreign_role")
	developer := tenant{role: "developer", password: "d"}.url(admin)
	shared := connect(t, replaceDatabase(t, developer, "postgres"))
	order := tenant{role: "order", password: "it's"} // a reserved word, and a quote
	mail := tenant{role: "mail", password: "p", owner: "project one"}

	t.Run("makes a role and a database that nobody else may enter", func(t *testing.T) { //nolint:paralleltest // in order
		require.NoError(t, order.create(t.Context(), root))
		require.NoError(t, mail.create(t.Context(), shared), "an account that is not superuser will do")
		conn := connect(t, order.url(admin))
		run(t, conn, "CREATE SCHEMA slipway", "CREATE TABLE orders ()")
		_, err := pgx.Connect(t.Context(), replaceDatabase(t, mail.url(admin), "order"))
		require.ErrorContains(t, err, "permission denied for database")
	})

	t.Run("adopts what it has made, with a new password", func(t *testing.T) { //nolint:paralleltest // in order
		order.password, mail.password = "new", "new"
		require.NoError(t, order.create(t.Context(), root))
		require.NoError(t, mail.create(t.Context(), shared))
		run(t, connect(t, order.url(admin)), "SELECT FROM orders")
	})

	t.Run("leaves alone on a shared server what another project has made", func(t *testing.T) { //nolint:paralleltest // in order
		mail.owner = "project two"
		require.ErrorContains(t, mail.create(t.Context(), shared), "role mail is there already and was not made by this project")
		foreign := tenant{role: "foreign_role", owner: "project one"}
		require.ErrorContains(t, foreign.create(t.Context(), shared), "was not made by this project")
	})

	t.Run("does not take over the database of another role", func(t *testing.T) { //nolint:paralleltest // in order
		run(t, root, "CREATE DATABASE stock")
		require.ErrorContains(t, tenant{role: "stock"}.create(t.Context(), root), "not to stock: rename it, or use another server")
	})
}

func TestEnv_credential(t *testing.T) {
	t.Parallel()
	e := setup(t)
	require.False(t, e.hasCredential("order"))
	first, err := e.credential("order")
	require.NoError(t, err)
	require.Len(t, first, 26)
	other, err := e.credential("mail")
	require.NoError(t, err)
	require.NotEqual(t, first, other)

	again, err := New(e.cfg).credential("order")
	require.NoError(t, err)
	require.Equal(t, first, again)
	require.True(t, e.hasCredential("order"))
}

func connect(t *testing.T, address string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), address)
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

func run(t *testing.T, conn *pgx.Conn, statements ...string) {
	t.Helper()
	for _, sql := range statements {
		_, err := conn.Exec(t.Context(), sql)
		require.NoError(t, err, sql)
	}
}

func replaceDatabase(t *testing.T, address, database string) string {
	t.Helper()
	u, err := url.Parse(address)
	require.NoError(t, err)
	u.Path = "/" + database
	return u.String()
}
