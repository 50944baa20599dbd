package postgrestest_test

import (
	"context"
	"testing"
	"testing/fstest"

	atlas "ariga.io/atlas/sql/migrate"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/slipwayhq/slipway/platform/postgres/migrate"
	"github.com/slipwayhq/slipway/platform/postgres/postgrestest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(postgrestest.Closing(m)) }

// component returns one migration with the SQL.
func component(t *testing.T, sql string) migrate.Component {
	t.Helper()
	dir := &atlas.MemDir{}
	require.NoError(t, dir.CopyFiles([]atlas.File{atlas.NewLocalFile("1_init.sql", []byte(sql))}))
	files := fstest.MapFS{}
	for _, name := range []string{"1_init.sql", atlas.HashFileName} {
		f, err := dir.Open(name)
		require.NoError(t, err)
		body := make([]byte, 4096)
		n, err := f.Read(body)
		require.NoError(t, err)
		files[name] = &fstest.MapFile{Data: body[:n]}
	}
	return migrate.Component{Name: "test", FS: files}
}

func connect(t *testing.T, url string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

func TestNew(t *testing.T) {
	t.Parallel()
	comp := component(t, "create table thing (id int);")
	for range 4 {
		t.Run("each test has a migrated database of its own", func(t *testing.T) {
			t.Parallel()
			conn := connect(t, postgrestest.New(t, comp))
			var n int
			_, err := conn.Exec(t.Context(), "insert into thing values (1)")
			require.NoError(t, err)
			require.NoError(t, conn.QueryRow(t.Context(), "select count(*) from thing").Scan(&n))
			require.Equal(t, 1, n)
		})
	}
	t.Run("without components the database is empty", func(t *testing.T) {
		t.Parallel()
		conn := connect(t, postgrestest.New(t))
		_, err := conn.Exec(t.Context(), "select 1 from thing")
		require.ErrorContains(t, err, "42P01")
	})
	t.Run("the database is gone after the test", func(t *testing.T) {
		var url string
		t.Run("inner", func(t *testing.T) { url = postgrestest.New(t) })
		_, err := pgx.Connect(t.Context(), url)
		require.ErrorContains(t, err, "3D000")
	})
}

func TestStartPair(t *testing.T) {
	t.Parallel()
	primary, standby := postgrestest.StartPair(t)
	conn := connect(t, standby.URL("postgres"))
	_, err := conn.Exec(t.Context(), "create table thing (id int)")
	require.ErrorContains(t, err, "25006", "a standby is read-only")
	require.NoError(t, primary.Stop(t.Context()))
	require.NoError(t, standby.Promote(t.Context()))
	_, err = conn.Exec(t.Context(), "create table thing (id int)")
	require.NoError(t, err)
}
