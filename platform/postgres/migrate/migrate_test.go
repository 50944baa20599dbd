package migrate_test

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	atlas "ariga.io/atlas/sql/migrate"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/slipwayhq/slipway/platform/postgres/migrate"
	"github.com/slipwayhq/slipway/platform/postgres/postgrestest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(postgrestest.Closing(m)) }

const wait = 30 * time.Second

// files are migrations by name; the hash file is made from them.
type files map[string]string

func component(t *testing.T, name string, sql files) migrate.Component {
	t.Helper()
	dir := t.TempDir()
	for file, body := range sql {
		require.NoError(t, os.WriteFile(filepath.Join(dir, file), []byte(body), 0o600))
	}
	require.NoError(t, migrate.Hash(dir))
	return migrate.Component{Name: name, FS: os.DirFS(dir)}
}

func connect(t *testing.T, url string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

// scan returns the only value of a query.
func scan[T any](t *testing.T, conn *pgx.Conn, sql string, args ...any) T {
	t.Helper()
	var v T
	require.NoError(t, conn.QueryRow(t.Context(), sql, args...).Scan(&v))
	return v
}

// versions are "component version condition" of each migration.
func versions(t *testing.T, url string, comps ...migrate.Component) []string {
	t.Helper()
	states, err := migrate.Status(t.Context(), url, comps...)
	require.NoError(t, err)
	var all []string
	for _, s := range states {
		all = append(all, fmt.Sprintf("%s %s %s", s.Component, s.Version, s.Condition))
	}
	return all
}

func TestUp(t *testing.T) {
	t.Parallel()
	url := postgrestest.New(t)
	conn := connect(t, url)
	platform := component(t, "platform", files{"1_init.sql": "create table a (id int);"})
	service := files{"1_init.sql": "create table b (id int);\ncreate table c (id int);"}

	t.Run("applies every component in order and says what it did", func(t *testing.T) {
		require.Equal(t, []string{"platform 1 pending", "shop 1 pending"},
			versions(t, url, platform, component(t, "shop", service)))
		applied, err := migrate.Up(t.Context(), url, platform, component(t, "shop", service))
		require.NoError(t, err)
		require.Len(t, applied, 2)
		require.Equal(t, "platform", applied[0].Component)
		require.Equal(t, 2, applied[1].Statements)
		require.Equal(t, "init", applied[1].Description)
	})
	t.Run("applies only what is new", func(t *testing.T) {
		service["2_more.sql"] = "create table d (id int);"
		applied, err := migrate.Up(t.Context(), url, platform, component(t, "shop", service))
		require.NoError(t, err)
		require.Len(t, applied, 1)
		require.Equal(t, "2", applied[0].Version)
	})
	t.Run("records who, when and how long", func(t *testing.T) {
		states, err := migrate.Status(t.Context(), url, component(t, "shop", service))
		require.NoError(t, err)
		require.Len(t, states, 2)
		require.Equal(t, migrate.ConditionApplied, states[1].Condition)
		require.Equal(t, "postgres", states[1].AppliedBy)
		require.WithinDuration(t, time.Now(), states[1].AppliedAt, time.Minute)
		require.Equal(t, 3, scan[int](t, conn, "select count(*) from slipway.schema_migrations where error = ''"))
	})
	t.Run("undoes a file that fails and keeps those before it", func(t *testing.T) {
		service["3_good.sql"] = "create table e (id int);"
		service["4_bad.sql"] = "create table f (id int);\n\ncreate table f (id int);"
		applied, err := migrate.Up(t.Context(), url, component(t, "shop", service))
		require.ErrorContains(t, err, "shop/4_bad.sql, statement 2 (line 3)")
		require.Len(t, applied, 1)
		require.True(t, scan[bool](t, conn, "select to_regclass('e') is not null and to_regclass('f') is null"))
	})
	t.Run("refuses a file that ends its own transaction", func(t *testing.T) {
		c := component(t, "sneaky", files{"1_x.sql": "create table s (id int);\ncommit;\ncreate table s2 (id int);"})
		_, err := migrate.Up(t.Context(), url, c)
		require.ErrorContains(t, err, "ends the transaction of its file")
	})
	t.Run("does not carry settings of one file over to the next", func(t *testing.T) {
		c := component(t, "settings", files{
			"1_set.sql":  "set search_path = nowhere;",
			"2_look.sql": "create table seen as select current_setting('search_path') as path;",
		})
		_, err := migrate.Up(t.Context(), url, c)
		require.NoError(t, err)
		require.Equal(t, `"$user", public`, scan[string](t, conn, "select path from public.seen"))
	})
}

func TestUp_concurrent(t *testing.T) {
	t.Parallel()
	url := postgrestest.New(t)
	comp := component(t, "shop", files{"1_init.sql": "create table once (id int);", "2_more.sql": "create table twice (id int);"})
	var wg sync.WaitGroup
	counts := make(chan int, 8)
	errs := make(chan error, 8)
	for range 8 {
		wg.Go(func() {
			applied, err := migrate.Up(t.Context(), url, comp)
			counts <- len(applied)
			errs <- err
		})
	}
	wg.Wait()
	total := 0
	for range 8 {
		require.NoError(t, <-errs)
		total += <-counts
	}
	require.Equal(t, 2, total, "each file was applied once")
}

func TestUp_refuses(t *testing.T) {
	t.Parallel()
	url := postgrestest.New(t)
	base := files{"1_init.sql": "create table a (id int);", "3_more.sql": "create table b (id int);"}
	_, err := migrate.Up(t.Context(), url, component(t, "shop", base))
	require.NoError(t, err)

	rows := []struct {
		name, condition, message string
		files                    files
	}{
		{
			"an applied file that was edited", "shop 1 changed", "shop 1: the file was changed after it was applied",
			files{"1_init.sql": "create table other (id int);", "3_more.sql": base["3_more.sql"]},
		},
		{
			"an applied file that is gone", "shop 1 missing", "shop 1: applied to the database, but its file is gone",
			files{"3_more.sql": base["3_more.sql"]},
		},
		{
			"a file that comes too late", "shop 2 out of order", "shop 2: a newer migration is applied already",
			files{"1_init.sql": base["1_init.sql"], "2_late.sql": "select 1;", "3_more.sql": base["3_more.sql"]},
		},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			comp := component(t, "shop", row.files)
			require.Contains(t, versions(t, url, comp), row.condition)
			_, err := migrate.Up(t.Context(), url, comp)
			require.ErrorContains(t, err, row.message)
		})
	}
}

func TestUp_newerSchema(t *testing.T) {
	t.Parallel()
	url := postgrestest.New(t)
	old := files{"1_init.sql": "create table a (id int);"}
	_, err := migrate.Up(t.Context(), url, component(t, "shop", files{"1_init.sql": old["1_init.sql"], "2_new.sql": "create table b (id int);"}))
	require.NoError(t, err)
	older := component(t, "shop", old)

	require.Equal(t, []string{"shop 1 applied", "shop 2 newer"}, versions(t, url, older))
	var said []string
	applied, err := migrate.Config{Notice: func(m string) { said = append(said, m) }}.Up(t.Context(), url, older)
	require.NoError(t, err, "an older program beside a newer schema is normal in a rollout")
	require.Empty(t, applied)
	require.Len(t, said, 1)
	require.Contains(t, said[0], "shop 2 (new)")
	_, err = migrate.Config{RefuseNewer: true}.Up(t.Context(), url, older)
	require.ErrorContains(t, err, "shop 2")
}

func TestUp_brokenFolder(t *testing.T) {
	t.Parallel()
	load := func(edit func(dir fstest.MapFS)) error {
		dir := fstest.MapFS{}
		source := component(t, "shop", files{"1_init.sql": "select 1;", "2_more.sql": "select 2;"}).FS
		for _, name := range []string{"1_init.sql", "2_more.sql", atlas.HashFileName} {
			body, err := fs.ReadFile(source, name)
			require.NoError(t, err)
			dir[name] = &fstest.MapFile{Data: body}
		}
		edit(dir)
		_, err := migrate.Status(t.Context(), "postgres://nowhere", migrate.Component{Name: "shop", FS: dir})
		return err
	}
	rows := []struct {
		name, message string
		edit          func(dir fstest.MapFS)
	}{
		{"an edited file is named", "2_more.sql was edited", func(d fstest.MapFS) { d["2_more.sql"].Data = []byte("select 3;") }},
		{"an added file is named", "3_x.sql was added", func(d fstest.MapFS) { d["3_x.sql"] = &fstest.MapFile{Data: []byte("select 3;")} }},
		{"a removed file is named", "2_more.sql was removed", func(d fstest.MapFS) { delete(d, "2_more.sql") }},
		{"a folder without hashes is refused", "atlas.sum does not vouch", func(d fstest.MapFS) { delete(d, atlas.HashFileName) }},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			err := load(row.edit)
			require.ErrorContains(t, err, row.message)
			require.ErrorContains(t, err, "slipway migrate hash")
		})
	}
	t.Run("wrong components are all named", func(t *testing.T) {
		good := component(t, "shop", files{})
		checkpoint := component(t, "ck", files{"1_c.sql": "-- atlas:checkpoint\n\nselect 1;"})
		mode := component(t, "mode", files{"1_c.sql": "-- atlas:txmode sometimes\n\nselect 1;"})
		twice := component(t, "twice", files{"1_a.sql": "select 1;", "1_b.sql": "select 1;"})
		_, err := migrate.Status(t.Context(), "", good, good, checkpoint, mode, twice, migrate.Component{Name: "Not valid"})
		for _, message := range []string{"shop: named twice", "checkpoint", `txmode "sometimes"`, "1_b.sql: version 1", `"Not valid"`} {
			require.ErrorContains(t, err, message)
		}
	})
}

func TestUp_withoutTransaction(t *testing.T) {
	t.Parallel()
	url := postgrestest.New(t)
	conn := connect(t, url)
	head := "-- atlas:txmode none\n\ncreate table t (id int);\ncreate index concurrently t_id on t (id);\n"

	_, err := migrate.Up(t.Context(), url, component(t, "shop", files{"1_x.sql": head + "create index concurrently t_no on t (no);"}))
	require.ErrorContains(t, err, "statement 3 (line 5)")
	states, err := migrate.Status(t.Context(), url, component(t, "shop", files{"1_x.sql": head + "create index concurrently t_no on t (no);"}))
	require.NoError(t, err)
	require.Equal(t, migrate.ConditionPartial, states[0].Condition)
	require.Equal(t, [2]int{2, 3}, [2]int{states[0].Done, states[0].Total})
	require.Contains(t, states[0].Error, "42703")

	t.Run("a change to what was done is refused", func(t *testing.T) {
		_, err := migrate.Up(t.Context(), url, component(t, "shop", files{"1_x.sql": strings.Replace(head, "int", "text", 1)}))
		require.ErrorContains(t, err, "was changed after it was applied")
	})
	t.Run("the mended rest is applied", func(t *testing.T) {
		mended := component(t, "shop", files{"1_x.sql": head + "create index concurrently t_mended on t (id);"})
		_, err := migrate.Up(t.Context(), url, mended)
		require.NoError(t, err)
		require.Equal(t, []string{"shop 1 applied"}, versions(t, url, mended))
		require.True(t, scan[bool](t, conn, "select to_regclass('t_mended') is not null"))
	})
}

func TestUp_delimiter(t *testing.T) {
	t.Parallel()
	url := postgrestest.New(t)
	comp := component(t, "shop", files{
		"1_function.sql": "create function one() returns int language plpgsql as $$ begin return 1; end $$;",
		"2_do.sql":       "-- atlas:delimiter \\n\\n\n\ncreate table a (id int);\ncreate table b (id int);\n\ncreate table c (id int);",
	})
	applied, err := migrate.Up(t.Context(), url, comp)
	require.NoError(t, err)
	require.Equal(t, 2, applied[1].Statements)
	require.Equal(t, 1, scan[int](t, connect(t, url), "select one() from pg_class where oid = to_regclass('c')"))
}

func TestUp_lockTimeout(t *testing.T) {
	t.Parallel()
	url := postgrestest.New(t)
	conn := connect(t, url)
	comp := component(t, "shop", files{"1_init.sql": "create table busy (id int);"})
	_, err := migrate.Up(t.Context(), url, comp)
	require.NoError(t, err)
	next := component(t, "shop", files{"1_init.sql": "create table busy (id int);", "2_add.sql": "alter table busy add column no int;"})

	tx, err := conn.Begin(t.Context())
	require.NoError(t, err)
	_, err = tx.Exec(t.Context(), "select * from busy")
	require.NoError(t, err)

	t.Run("gives up after its attempts", func(t *testing.T) {
		_, err := migrate.Config{LockTimeout: 20 * time.Millisecond, Attempts: 2}.Up(t.Context(), url, next)
		require.ErrorContains(t, err, "gave up after 2 attempts")
		require.ErrorContains(t, err, "55P03")
	})
	t.Run("gets through as soon as the lock is free", func(t *testing.T) {
		notice := func(m string) {
			if strings.Contains(m, "attempt 2") {
				_ = tx.Rollback(context.Background())
			}
		}
		_, err := migrate.Config{LockTimeout: 20 * time.Millisecond, Notice: notice}.Up(t.Context(), url, next)
		require.NoError(t, err)
	})
}

func TestUp_runLock(t *testing.T) {
	t.Parallel()
	url := postgrestest.New(t)
	comp := component(t, "shop", files{"1_init.sql": "create table a (id int);"})
	holder := connect(t, url+"&application_name=holder")
	// What another run does first.
	_, err := holder.Exec(t.Context(), "select pg_advisory_lock($1)", migrate.LockKey)
	require.NoError(t, err)

	t.Run("is waited for with a bound, and its holder is named", func(t *testing.T) {
		_, err := migrate.Config{LockWait: time.Millisecond}.Up(t.Context(), url, comp)
		require.ErrorContains(t, err, "another run still holds it")
		require.ErrorContains(t, err, "application holder")
	})
	t.Run("is taken when the holder ends", func(t *testing.T) {
		notice := func(m string) {
			if strings.Contains(m, "waiting for another migration run") {
				_ = holder.Close(context.Background())
			}
		}
		applied, err := migrate.Config{Notice: notice, LockWait: wait}.Up(t.Context(), url, comp)
		require.NoError(t, err)
		require.Len(t, applied, 1)
	})
}

func TestPrint(t *testing.T) {
	t.Parallel()
	url := postgrestest.New(t)
	comp := component(t, "shop", files{
		"1_it's.sql":  "create table a (id int);",
		"2_index.sql": "-- atlas:txmode none\n\ncreate index concurrently a_id on a (id);",
	})
	script := func(url string) string {
		var text strings.Builder
		require.NoError(t, migrate.Print(t.Context(), &text, url, comp))
		return text.String()
	}
	all := script(url)
	require.Equal(t, all, script(""), "everything is pending")
	require.Equal(t, []string{"shop 1 pending", "shop 2 pending"}, versions(t, url, comp), "printing changes nothing")

	t.Run("by hand it does the same as Up", func(t *testing.T) {
		runByHand(t, url, all)
		require.Equal(t, []string{"shop 1 applied", "shop 2 applied"}, versions(t, url, comp))
		applied, err := migrate.Up(t.Context(), url, comp)
		require.NoError(t, err)
		require.Empty(t, applied)
		require.Contains(t, script(url), "Nothing to apply")
	})
}

// runByHand executes a script as psql does, one statement at a time.
func runByHand(t *testing.T, url, script string) {
	t.Helper()
	_, sql, ok := strings.Cut(script, "\n")
	require.True(t, ok)
	stmts, err := atlas.Stmts(sql)
	require.NoError(t, err)
	conn := connect(t, url)
	for _, s := range stmts {
		_, err := conn.PgConn().Exec(t.Context(), s.Text).ReadAll()
		require.NoError(t, err, s.Text)
	}
}
