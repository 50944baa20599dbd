package redistest

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	if dir, ok := strings.CutPrefix(os.Args[len(os.Args)-1], "orphan="); ok {
		orphan(dir)
	}
	goleak.VerifyTestMain(m)
}

func TestNew(t *testing.T) {
	t.Parallel()
	first, second := New(t), New(t)
	require.NoError(t, first.Set(t.Context(), "k", "v", 0).Err())
	require.ErrorIs(t, second.Get(t.Context(), "k").Err(), redis.Nil, "each test has its own")
}

func TestServer(t *testing.T) {
	t.Parallel()
	kinds := map[string]func(testing.TB) *Server{"what is installed": Start, "miniredis": StartMini}
	for name, start := range kinds {
		t.Run(name, func(t *testing.T) {
			t.Parallel()

			t.Run("a stopped server breaks connections, and comes back empty at its address", func(t *testing.T) {
				t.Parallel()
				s := start(t)
				addr, client := s.Addr(), connect(t, s)
				require.NoError(t, client.Set(t.Context(), "k", "v", 0).Err())
				hash := client.ScriptLoad(t.Context(), "return 1").Val()
				s.Stop()
				s.Stop()
				require.Error(t, client.Ping(t.Context()).Err())
				s.Restart()
				require.Equal(t, addr, s.Addr())
				require.Eventually(t, func() bool { return client.Ping(t.Context()).Err() == nil }, patience, 10*time.Millisecond)
				require.ErrorIs(t, client.Get(t.Context(), "k").Err(), redis.Nil)
				require.Equal(t, []bool{false}, client.ScriptExists(t.Context(), hash).Val())
			})

			t.Run("a paused server connects and says nothing until it is resumed", func(t *testing.T) {
				t.Parallel()
				s := start(t)
				s.Pause()
				conn, err := net.DialTimeout("tcp", s.Addr(), patience)
				require.NoError(t, err)
				defer conn.Close()
				_, err = io.WriteString(conn, pingCommand)
				require.NoError(t, err)
				require.NoError(t, conn.SetReadDeadline(time.Now().Add(100*time.Millisecond)))
				_, err = conn.Read(make([]byte, 1))
				require.ErrorIs(t, err, os.ErrDeadlineExceeded)
				s.Resume()
				require.NoError(t, conn.SetReadDeadline(time.Now().Add(patience)))
				_, err = conn.Read(make([]byte, 1))
				require.NoError(t, err)
			})

			t.Run("ends with its test", func(t *testing.T) {
				t.Parallel()
				var addr string
				t.Run("a test", func(t *testing.T) { addr = start(t).Addr() })
				require.False(t, pings(addr))
			})
		})
	}
}

// TestStart_killed shows that a test process that is killed leaves no server behind.
func TestStart_killed(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("redis-server"); err != nil || runtime.GOOS != "linux" {
		t.Skip("needs an installed redis-server and Linux")
	}
	victim := exec.Command(os.Args[0], "orphan="+t.TempDir())
	output, err := victim.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, victim.Start())
	line := make([]byte, 64)
	n, err := output.Read(line)
	require.NoError(t, err)
	fields := strings.Fields(string(line[:n]))
	require.Len(t, fields, 2)
	require.True(t, pings(fields[0]))

	require.NoError(t, victim.Process.Kill())
	_ = victim.Wait()
	server, err := strconv.Atoi(fields[1])
	require.NoError(t, err)
	require.Eventually(t, func() bool { return errors.Is(syscall.Kill(server, 0), syscall.ESRCH) || !pings(fields[0]) }, patience, 10*time.Millisecond)
}

// orphan starts a server, prints where and which process, and waits to be killed.
func orphan(dir string) {
	binary, err := exec.LookPath("redis-server")
	if err != nil {
		panic(err)
	}
	p := &process{binary: binary, dir: dir}
	if p.address, err = freeAddr(); err != nil {
		panic(err)
	}
	if err := p.start(); err != nil {
		panic(err)
	}
	_, _ = io.WriteString(os.Stdout, p.address+" "+strconv.Itoa(p.command.Process.Pid))
	<-context.Background().Done()
}

func connect(t *testing.T, s *Server) *redis.Client {
	t.Helper()
	client := redis.NewClient(&redis.Options{Addr: s.Addr(), DisableIdentity: true, MaxRetries: -1, DialerRetries: 1})
	t.Cleanup(func() { client.Close() })
	return client
}
