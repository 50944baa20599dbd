package pgserver_test

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/slipwayhq/slipway/platform/postgres/pgserver"
)

const (
	wait = 30 * time.Second
	tick = 20 * time.Millisecond
)

// TestMain lets the tests start this binary again as an owner that can be
// killed.
func TestMain(m *testing.M) {
	if dir, ok := os.LookupEnv("PGSERVER_TEST_OWNER"); ok {
		own(dir)
		return
	}
	goleak.VerifyTestMain(m)
}

// own runs a server, prints its address and waits to be killed.
func own(dir string) {
	s, err := pgserver.Start(context.Background(), pgserver.Config{Dir: dir, Fast: true})
	if err != nil {
		fmt.Println("error:", err)
		return
	}
	fmt.Println(s.URL("postgres"))
	<-s.Done()
}

// setup returns the configuration of a server that can be thrown away.
func setup(t *testing.T) pgserver.Config {
	t.Helper()
	if _, err := pgserver.FindBinaries(t.Context(), "", 0); err != nil {
		t.Skip(err)
	}
	dir, err := os.MkdirTemp("", "pgserver-test-")
	require.NoError(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	require.NoError(t, os.Chmod(dir, 0o755))
	return pgserver.Config{Dir: filepath.Join(dir, "server"), Fast: true}
}

func start(t *testing.T, cfg pgserver.Config) *pgserver.Server {
	t.Helper()
	s, err := pgserver.Start(t.Context(), cfg)
	require.NoError(t, err)
	t.Cleanup(func() { _ = s.Stop(context.Background()) })
	return s
}

// query runs one statement on a connection of its own.
func query(t *testing.T, url, sql string) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return "", err
	}
	defer func() { _ = conn.Close(context.Background()) }()
	var text string
	err = conn.QueryRow(ctx, sql).Scan(&text)
	return text, err
}

// execute runs statements without a result.
func execute(t *testing.T, url, sql string) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(context.Background()) }()
	_, err = conn.Exec(ctx, sql)
	return err
}

const makeTable = "create table kept as select 'kept'"

func TestServer_Start(t *testing.T) {
	t.Parallel()
	cfg := setup(t)
	cfg.Settings = map[string]string{"max_connections": "23"}
	s := start(t, cfg)

	t.Run("takes connections by password on loopback only", func(t *testing.T) {
		got, err := query(t, s.URL("postgres"), "select current_setting('listen_addresses') || current_setting('max_connections')")
		require.NoError(t, err)
		require.Equal(t, "127.0.0.123", got)

		_, err = query(t, strings.Replace(s.URL("postgres"), ":", ":wrong", 2), "select 'x'")
		require.Error(t, err)
	})
	t.Run("takes connections on a socket that only its account reaches", func(t *testing.T) {
		info, err := os.Stat(s.SocketDir())
		require.NoError(t, err)
		require.Equal(t, os.FileMode(0o700), info.Mode().Perm())
	})
	t.Run("refuses a folder that is in use and names the process", func(t *testing.T) {
		_, err := pgserver.Start(t.Context(), cfg)
		require.ErrorIs(t, err, pgserver.ErrInUse)
		require.ErrorContains(t, err, strconv.Itoa(os.Getpid()))
		require.ErrorIs(t, pgserver.Remove(t.Context(), cfg.Dir), pgserver.ErrInUse)
	})
	t.Run("says that a port is taken", func(t *testing.T) {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		defer func() { _ = l.Close() }()
		other := setup(t)
		other.Port = l.Addr().(*net.TCPAddr).Port
		_, err = pgserver.Start(t.Context(), other)
		require.ErrorIs(t, err, pgserver.ErrPortTaken)
		require.ErrorContains(t, err, strconv.Itoa(other.Port))
	})
}

func TestServer_Restart(t *testing.T) {
	t.Parallel()
	cfg := setup(t)
	cfg.Fast = false // a crash may cost a fast server its last commits
	s := start(t, cfg)
	addr := s.Addr()
	require.NoError(t, execute(t, s.URL("postgres"), makeTable))

	for name, stop := range map[string]func() error{
		"after Stop": func() error { return s.Stop(t.Context()) },
		"after Kill": s.Kill,
	} {
		t.Run("keeps data and port "+name, func(t *testing.T) {
			require.ErrorContains(t, s.Restart(t.Context()), "is running")
			require.NoError(t, stop())
			<-s.Done()
			require.NoError(t, s.Restart(t.Context()))
			require.Equal(t, addr, s.Addr())
			got, err := query(t, s.URL("postgres"), "table kept")
			require.NoError(t, err)
			require.Equal(t, "kept", got)
		})
	}
}

func TestServer_Pause(t *testing.T) {
	t.Parallel()
	s := start(t, setup(t))
	conn, err := pgx.Connect(t.Context(), s.URL("postgres"))
	require.NoError(t, err)
	defer func() { _ = conn.Close(context.Background()) }()

	require.NoError(t, s.Pause())
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	_, err = pgx.Connect(ctx, s.URL("postgres"))
	require.ErrorIs(t, err, context.DeadlineExceeded, "a paused server answers nothing")
	require.NoError(t, s.Resume())
	require.NoError(t, conn.Ping(t.Context()), "its connections outlive the pause")

	require.NoError(t, s.Pause())
	require.NoError(t, s.Stop(t.Context()), "a paused server can be stopped")
	require.ErrorContains(t, s.Pause(), "not running")
}

func TestServer_Stop(t *testing.T) {
	t.Parallel()
	s := start(t, setup(t))
	conn, err := pgx.Connect(t.Context(), s.URL("postgres"))
	require.NoError(t, err)
	defer func() { _ = conn.Close(context.Background()) }()

	t.Run("cuts open sessions", func(t *testing.T) {
		require.NoError(t, s.Stop(t.Context()))
		<-s.Done()
		require.NoError(t, s.Err())
		require.Error(t, conn.Ping(t.Context()))
		require.NoError(t, s.Stop(t.Context()), "a second Stop has nothing to do")
	})
	t.Run("ends the server at once when its context is over", func(t *testing.T) {
		require.NoError(t, s.Restart(t.Context()))
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		require.ErrorContains(t, s.Stop(ctx), "the next start recovers")
		<-s.Done()
		require.NoError(t, s.Err(), "it was wanted")
		require.NoError(t, s.Restart(t.Context()))
	})
}

func TestServer_ownerKilled(t *testing.T) {
	t.Parallel()
	cfg := setup(t)
	owner, url := startOwner(t, cfg.Dir)
	require.NoError(t, execute(t, url, makeTable))

	t.Run("the server ends with its owner", func(t *testing.T) {
		require.NoError(t, owner.Process.Kill())
		_ = owner.Wait()
		require.Eventually(t, func() bool {
			_, err := query(t, url, "select 'x'")
			return err != nil
		}, wait, tick)
	})
	t.Run("the next start keeps the data", func(t *testing.T) {
		s := start(t, cfg)
		got, err := query(t, s.URL("postgres"), "table kept")
		require.NoError(t, err)
		require.Equal(t, "kept", got)
	})
}

func TestServer_orphan(t *testing.T) {
	t.Parallel()
	cfg := setup(t)
	owner, url := startOwner(t, cfg.Dir)
	pid := postmaster(t, cfg.Dir)
	// A frozen server cannot hear that its owner is gone.
	require.NoError(t, syscall.Kill(pid, syscall.SIGSTOP))
	require.NoError(t, owner.Process.Kill())
	_ = owner.Wait()

	s := start(t, cfg)
	require.NotEqual(t, pid, postmaster(t, cfg.Dir))
	_, err := query(t, s.URL("postgres"), "select 'x'")
	require.NoError(t, err)
	_, err = query(t, url, "select 'x'")
	require.Error(t, err, "the orphan is gone")
}

func TestServer_stalePIDFile(t *testing.T) {
	t.Parallel()
	cfg := setup(t)
	require.NoError(t, start(t, cfg).Stop(t.Context()))
	pidFile := filepath.Join(cfg.Dir, "data", "postmaster.pid")

	t.Run("of a process that is no PostgreSQL is removed", func(t *testing.T) {
		stale := strconv.Itoa(os.Getpid()) + "\n" + filepath.Join(cfg.Dir, "data") + "\n"
		require.NoError(t, os.WriteFile(pidFile, []byte(stale), 0o644))
		require.NoError(t, start(t, cfg).Stop(t.Context()))
	})
	t.Run("of another server is left alone", func(t *testing.T) {
		other := setup(t)
		start(t, other)
		text, err := os.ReadFile(filepath.Join(other.Dir, "data", "postmaster.pid"))
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(pidFile, text, 0o644))
		_, err = pgserver.Start(t.Context(), cfg)
		require.ErrorIs(t, err, pgserver.ErrInUse)
	})
}

func TestServer_version(t *testing.T) {
	t.Parallel()
	cfg := setup(t)
	require.NoError(t, start(t, cfg).Stop(t.Context()))
	require.NoError(t, os.WriteFile(filepath.Join(cfg.Dir, "data", "PG_VERSION"), []byte("9\n"), 0o600))
	_, err := pgserver.Start(t.Context(), cfg)
	require.ErrorIs(t, err, pgserver.ErrVersion)
	require.ErrorContains(t, err, "was made by PostgreSQL 9")
}

func TestRemove(t *testing.T) {
	t.Parallel()
	cfg := setup(t)
	require.NoError(t, pgserver.Remove(t.Context(), cfg.Dir), "nothing to remove")
	require.NoError(t, start(t, cfg).Stop(t.Context()))
	require.NoError(t, pgserver.Remove(t.Context(), cfg.Dir))
	require.NoDirExists(t, cfg.Dir)
}

func TestServer_longPath(t *testing.T) {
	t.Parallel()
	cfg := setup(t)
	cfg.Dir = filepath.Join(cfg.Dir, strings.Repeat("long/", 25))
	s := start(t, cfg)
	socket := s.SocketDir()
	require.Less(t, len(socket), 60)
	require.NoError(t, s.Stop(t.Context()))
	require.NoDirExists(t, socket)
}

func TestStartStandby(t *testing.T) {
	t.Parallel()
	primary := start(t, setup(t))
	standby, err := pgserver.StartStandby(t.Context(), primary, setup(t))
	require.NoError(t, err)
	t.Cleanup(func() { _ = standby.Stop(context.Background()) })
	require.NoError(t, execute(t, primary.URL("postgres"), makeTable))

	require.Eventually(t, func() bool {
		got, err := query(t, standby.URL("postgres"), "table kept")
		return err == nil && got == "kept"
	}, wait, tick, "the standby follows")
	require.ErrorContains(t, execute(t, standby.URL("postgres"), "create table more ()"), "25006")

	require.NoError(t, primary.Kill())
	require.NoError(t, standby.Promote(t.Context()))
	require.NoError(t, execute(t, standby.URL("postgres"), "create table more ()"))
}

// startOwner starts this test binary as the owner of a server.
func startOwner(t *testing.T, dir string) (*exec.Cmd, string) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "PGSERVER_TEST_OWNER="+dir)
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	line := make([]byte, 4096)
	n, err := out.Read(line)
	require.NoError(t, err)
	url := string(bytes.TrimSpace(line[:n]))
	require.True(t, strings.HasPrefix(url, "postgres://"), url)
	return cmd, url
}

// postmaster returns the process id that the data folder names.
func postmaster(t *testing.T, dir string) int {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(dir, "data", "postmaster.pid"))
	require.NoError(t, err)
	line, _, _ := strings.Cut(string(text), "\n")
	pid, err := strconv.Atoi(line)
	require.NoError(t, err)
	return pid
}

func TestStart_unreachable(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("only root hands over to another account")
	}
	closed := filepath.Join(t.TempDir(), "closed")
	require.NoError(t, os.Mkdir(closed, 0o700))
	dir := filepath.Join(closed, "server")

	_, err := pgserver.Start(t.Context(), pgserver.Config{Dir: dir})
	require.ErrorIs(t, err, pgserver.ErrUnreachable)
	require.ErrorContains(t, err, closed)

	place, err := pgserver.Place(dir)
	require.NoError(t, err)
	require.True(t, strings.HasPrefix(place, "/var/lib/slipway/"), place)
	open := setup(t).Dir
	place, err = pgserver.Place(open)
	require.NoError(t, err)
	require.Equal(t, open, place)
}

func TestConfig_Validate(t *testing.T) {
	t.Parallel()
	_, err := pgserver.Start(t.Context(), pgserver.Config{
		Port: -1, StartTimeout: -1, Settings: map[string]string{"port": "1"},
	})
	for _, field := range []string{"dir:", "port:", "start timeout:", "settings: port"} {
		require.ErrorContains(t, err, field)
	}
}

func TestFindBinaries(t *testing.T) {
	t.Parallel()
	_, err := pgserver.FindBinaries(t.Context(), t.TempDir(), 0)
	require.ErrorIs(t, err, pgserver.ErrNoBinaries)
	require.ErrorContains(t, err, "apt install postgresql")
}
