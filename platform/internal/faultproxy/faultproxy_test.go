package faultproxy_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/slipwayhq/slipway/platform/internal/faultproxy"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const patience = 30 * time.Second

func TestProxy_SetFault(t *testing.T) {
	t.Parallel()

	t.Run("without a fault every byte passes, also the end of the stream", func(t *testing.T) {
		t.Parallel()
		conn := dial(t, faultproxy.Start(t, echoServer(t)))
		_, err := io.WriteString(conn, "hello")
		require.NoError(t, err)
		require.NoError(t, conn.CloseWrite())
		answer, err := io.ReadAll(conn)
		require.NoError(t, err)
		require.Equal(t, "hello", string(answer))
	})

	t.Run("a delay holds what passes", func(t *testing.T) {
		t.Parallel()
		proxy := faultproxy.Start(t, echoServer(t))
		conn := dial(t, proxy)
		proxy.SetFault(faultproxy.Fault{Delay: 30 * time.Millisecond})
		begin := time.Now()
		requireEcho(t, conn, "slow")
		require.GreaterOrEqual(t, time.Since(begin), 60*time.Millisecond, "once there, once back")
	})

	t.Run("a bandwidth takes its time", func(t *testing.T) {
		t.Parallel()
		proxy := faultproxy.Start(t, echoServer(t))
		conn := dial(t, proxy)
		proxy.SetFault(faultproxy.Fault{BytesPerSecond: 1000})
		begin := time.Now()
		requireEcho(t, conn, "twenty-five bytes of text")
		require.GreaterOrEqual(t, time.Since(begin), 50*time.Millisecond)
	})

	t.Run("a stall holds bytes and loses none", func(t *testing.T) {
		t.Parallel()
		proxy := faultproxy.Start(t, echoServer(t))
		conn := dial(t, proxy)
		proxy.SetFault(faultproxy.Fault{Stall: true})
		fmt.Fprintln(conn, "held")
		requireSilence(t, conn)
		proxy.SetFault(faultproxy.Fault{})
		requireLine(t, conn, "held")
	})

	t.Run("dropped bytes never arrive", func(t *testing.T) {
		t.Parallel()
		proxy := faultproxy.Start(t, echoServer(t))
		conn := dial(t, proxy)
		proxy.SetFault(faultproxy.Fault{Drop: true})
		fmt.Fprintln(conn, "lost")
		requireSilence(t, conn)
		proxy.SetFault(faultproxy.Fault{})
		requireEcho(t, conn, "kept")
	})

	t.Run("refusing resets new connections and keeps open ones", func(t *testing.T) {
		t.Parallel()
		proxy := faultproxy.Start(t, echoServer(t))
		conn := dial(t, proxy)
		requireEcho(t, conn, "before")
		proxy.SetFault(faultproxy.Fault{Refuse: true})
		refused, err := net.Dial("tcp", proxy.Addr())
		if err == nil { // the reset may come during or after the handshake
			defer refused.Close()
			requireClosed(t, refused)
		}
		requireEcho(t, conn, "after")
	})
}

func TestProxy_Cut(t *testing.T) {
	t.Parallel()
	proxy := faultproxy.Start(t, echoServer(t))
	conn := dial(t, proxy)
	requireEcho(t, conn, "before")
	proxy.Cut()
	requireClosed(t, conn)
	requireEcho(t, dial(t, proxy), "a new connection works")
}

func TestProxy_Close(t *testing.T) {
	t.Parallel()

	t.Run("ends connections that are stalled", func(t *testing.T) {
		t.Parallel()
		proxy := faultproxy.Start(t, echoServer(t))
		conn := dial(t, proxy)
		proxy.SetFault(faultproxy.Fault{Stall: true})
		fmt.Fprintln(conn, "held")
		proxy.Close()
		proxy.Close()
		requireClosed(t, conn)
	})

	t.Run("a target that is not there closes the connection", func(t *testing.T) {
		t.Parallel()
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		require.NoError(t, listener.Close())
		requireClosed(t, dial(t, faultproxy.Start(t, listener.Addr().String())))
	})
}

// echoServer sends back what it gets and stops with the test.
func echoServer(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				_, _ = io.Copy(conn, conn)
			}()
		}
	}()
	return listener.Addr().String()
}

func dial(t *testing.T, proxy *faultproxy.Proxy) *net.TCPConn {
	t.Helper()
	conn, err := net.DialTimeout("tcp", proxy.Addr(), patience)
	require.NoError(t, err)
	t.Cleanup(func() { conn.Close() })
	require.NoError(t, conn.SetDeadline(time.Now().Add(patience)))
	return conn.(*net.TCPConn)
}

func requireEcho(t *testing.T, conn net.Conn, text string) {
	t.Helper()
	fmt.Fprintln(conn, text)
	requireLine(t, conn, text)
}

func requireLine(t *testing.T, conn net.Conn, want string) {
	t.Helper()
	line, err := bufio.NewReader(conn).ReadString('\n')
	require.NoError(t, err)
	require.Equal(t, want+"\n", line)
}

// requireSilence shows that nothing is read within a while.
func requireSilence(t *testing.T, conn net.Conn) {
	t.Helper()
	require.NoError(t, conn.SetReadDeadline(time.Now().Add(100*time.Millisecond)))
	_, err := conn.Read(make([]byte, 1))
	var timeout net.Error
	require.ErrorAs(t, err, &timeout)
	require.True(t, timeout.Timeout(), err)
	require.NoError(t, conn.SetReadDeadline(time.Now().Add(patience)))
}

// requireClosed shows that the connection ends, by reset or by the end of the stream.
func requireClosed(t *testing.T, conn net.Conn) {
	t.Helper()
	_, err := conn.Read(make([]byte, 1))
	require.Error(t, err)
	var timeout net.Error
	if errors.As(err, &timeout) {
		require.False(t, timeout.Timeout(), "the connection is still open")
	}
}
