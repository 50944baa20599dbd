package devenv

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"
)

func TestEnv_startRedis(t *testing.T) {
	t.Parallel()

	t.Run("keeps the data of redis-server", func(t *testing.T) {
		t.Parallel()
		if _, err := exec.LookPath("redis-server"); err != nil {
			t.Skip("redis-server is not installed")
		}
		e := setup(t)
		require.NoError(t, e.startRedis(t.Context()))
		require.Equal(t, "redis://"+loopback(RedisPort+e.cfg.PortOffset)+"/0", e.servers.redis)
		require.Equal(t, "+OK", redisCommand(t, e, "SET key value"))
		require.NoError(t, e.redis.Stop(t.Context()))

		again := New(e.cfg)
		require.NoError(t, again.startRedis(t.Context()))
		require.Equal(t, "$5", redisCommand(t, again, "GET key"))
		require.NoError(t, again.redis.Stop(t.Context()))
	})

	t.Run("says why redis-server does not start", func(t *testing.T) {
		t.Parallel()
		program, err := exec.LookPath("redis-server")
		if err != nil {
			t.Skip("redis-server is not installed")
		}
		e := setup(t)
		addr := loopback(RedisPort + e.cfg.PortOffset)
		l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", addr) // and answers nothing
		require.NoError(t, err)
		require.NoError(t, os.MkdirAll(e.at.redis(), 0o755))
		err = e.runRedis(t.Context(), program, addr)
		require.ErrorContains(t, err, "start Redis: it ended; its log "+e.at.redis())
		require.ErrorContains(t, err, "Failed listening on port")
		require.NoError(t, l.Close())
		require.Error(t, e.redis.Stop(t.Context()), "it had exit code 1")
	})

	t.Run("falls back to the built-in one", func(t *testing.T) {
		t.Parallel()
		e := setup(t)
		addr := loopback(RedisPort + e.cfg.PortOffset)
		require.NoError(t, e.runMiniredis(addr))
		require.True(t, pings(t.Context(), addr))
		require.Contains(t, e.State().Servers[0].Source, "keeps nothing")
		require.NoError(t, e.redis.Stop(t.Context()))
		require.False(t, pings(t.Context(), addr))
	})

	t.Run("uses the server of REDIS_URL", func(t *testing.T) {
		t.Parallel()
		e := setup(t, "REDIS_URL=redis://elsewhere:1/2")
		require.NoError(t, e.startRedis(t.Context()))
		require.Nil(t, e.redis)
		require.Equal(t, "redis://elsewhere:1/2", e.servers.redis)
		require.Equal(t, "elsewhere:1", e.State().Servers[0].Addr)
	})
}

// redisCommand returns the first line of the answer.
func redisCommand(t *testing.T, e *Env, command string) string {
	t.Helper()
	conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", loopback(RedisPort+e.cfg.PortOffset))
	require.NoError(t, err)
	defer conn.Close()
	fmt.Fprintf(conn, "%s\r\n", command)
	line, err := bufio.NewReader(conn).ReadString('\n')
	require.NoError(t, err)
	return line[:len(line)-2]
}

func TestEnv_startNATS(t *testing.T) {
	t.Parallel()

	t.Run("keeps acknowledged messages", func(t *testing.T) {
		t.Parallel()
		e := setup(t)
		require.NoError(t, e.startNATS(t.Context()))
		publish(t, e.servers.broker, "one", "two")
		require.NoError(t, e.nats.Stop(t.Context()))

		again := New(e.cfg)
		require.NoError(t, again.startNATS(t.Context()))
		require.Equal(t, uint64(3), publish(t, again.servers.broker, "three"))
		require.NoError(t, again.nats.Stop(t.Context()))
	})

	t.Run("says why JetStream does not start, and ends nothing", func(t *testing.T) {
		t.Parallel()
		e := setup(t)
		require.NoError(t, os.MkdirAll(e.at.nats(), 0o755))
		require.NoError(t, os.WriteFile(e.at.nats()+"/jetstream", nil, 0o644))
		err := e.startNATS(t.Context())
		require.ErrorContains(t, err, "start NATS: Can't start JetStream")
		require.NoError(t, e.nats.Stop(context.Background()))
	})
}

// publish stores messages and returns how many the stream has.
func publish(t *testing.T, address string, messages ...string) uint64 {
	t.Helper()
	conn, err := nats.Connect(address)
	require.NoError(t, err)
	defer conn.Close()
	js, err := jetstream.New(conn)
	require.NoError(t, err)
	stream, err := js.CreateOrUpdateStream(t.Context(), jetstream.StreamConfig{Name: "orders", Subjects: []string{"order.>"}})
	require.NoError(t, err)
	for _, m := range messages {
		_, err := js.Publish(t.Context(), "order.placed", []byte(m))
		require.NoError(t, err)
	}
	info, err := stream.Info(t.Context())
	require.NoError(t, err)
	return info.State.Msgs
}
