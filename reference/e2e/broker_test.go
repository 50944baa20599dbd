package e2e_test

import (
	"bufio"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/stretchr/testify/require"
)

// The test binary runs itself as the broker, so that the broker can be killed.
const (
	brokerDir  = "SLIPWAY_E2E_BROKER_DIR"
	brokerPort = "SLIPWAY_E2E_BROKER_PORT"
)

// serveBroker is that process. It says where it serves, and ends when its input does.
func serveBroker(dir, port string) int {
	opts := &server.Options{Host: "127.0.0.1", Port: server.RANDOM_PORT, JetStream: true, StoreDir: dir, NoSigs: true, NoLog: true}
	if n, err := strconv.Atoi(port); err == nil {
		opts.Port = n
	}
	s, err := server.NewServer(opts)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	go s.Start()
	if !s.ReadyForConnections(patience) {
		fmt.Fprintln(os.Stderr, "the broker does not start")
		return 1
	}
	fmt.Println(s.ClientURL())
	_, _ = bufio.NewReader(os.Stdin).ReadByte()
	s.Shutdown()
	return 0
}

// brokerProcess is a NATS server with JetStream on disk.
type brokerProcess struct {
	t    *testing.T
	dir  string
	addr *url.URL
	cmd  *exec.Cmd
}

func startBroker(t *testing.T) *brokerProcess {
	t.Helper()
	b := &brokerProcess{t: t, dir: filepath.Join(t.TempDir(), "jetstream")}
	b.start()
	t.Cleanup(b.kill)
	return b
}

func (b *brokerProcess) url() string { return b.addr.String() }

// start starts it, on the port that it had before.
func (b *brokerProcess) start() {
	b.t.Helper()
	self, err := os.Executable()
	require.NoError(b.t, err)
	b.cmd = exec.Command(self)
	b.cmd.Env = append(os.Environ(), brokerDir+"="+b.dir)
	if b.addr != nil {
		b.cmd.Env = append(b.cmd.Env, brokerPort+"="+b.addr.Port())
	}
	b.cmd.Stderr = os.Stderr
	_, err = b.cmd.StdinPipe()
	require.NoError(b.t, err)
	out, err := b.cmd.StdoutPipe()
	require.NoError(b.t, err)
	require.NoError(b.t, b.cmd.Start())
	line, err := bufio.NewReader(out).ReadString('\n')
	require.NoError(b.t, err)
	b.addr, err = url.Parse(line[:len(line)-1])
	require.NoError(b.t, err)
}

// kill ends it with -9.
func (b *brokerProcess) kill() {
	if b.cmd.ProcessState == nil {
		_ = b.cmd.Process.Kill()
		_ = b.cmd.Wait()
	}
}

// lose kills it and deletes everything that it has stored.
func (b *brokerProcess) lose() {
	b.t.Helper()
	b.kill()
	require.NoError(b.t, os.RemoveAll(b.dir))
}

// outage is for how long the tests leave the broker away.
func outage(t *testing.T) time.Duration {
	t.Helper()
	if text := os.Getenv("SLIPWAY_E2E_OUTAGE"); text != "" {
		d, err := time.ParseDuration(text)
		require.NoError(t, err)
		return d
	}
	return 3 * time.Second
}
