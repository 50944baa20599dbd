package platformfx_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/fx"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/slipwayhq/slipway/platform/breaker"
	"github.com/slipwayhq/slipway/platform/grpcclient"
	"github.com/slipwayhq/slipway/platform/grpcserver"
	"github.com/slipwayhq/slipway/platform/health"
	"github.com/slipwayhq/slipway/platform/platformfx"
	"github.com/slipwayhq/slipway/platform/telemetry"
)

// The test binary runs itself as the program under test: Run ends with signals and exit codes.
const programEnv = "PLATFORMFX_TEST_PROGRAM"

func TestMain(m *testing.M) {
	if name := os.Getenv(programEnv); name != "" {
		os.Exit(program(name))
	}
	os.Exit(m.Run())
}

// mortal is a loop that ends by itself when it is told to.
type mortal struct{ die bool }

func (m mortal) Run(ctx context.Context) error {
	if m.die {
		return errors.New("out of luck")
	}
	<-ctx.Done()
	return nil
}

// program is a service with a loop; its name says what goes wrong.
func program(name string) int {
	hang := func(s *grpcserver.Server, logger *zap.Logger) {
		s.OnShutdown(grpcserver.StageFinish, "slow work", func(ctx context.Context) error {
			logger.Info("working")
			if name == "slow" {
				<-ctx.Done()
			}
			return nil
		})
	}
	return platformfx.Run(
		platformfx.Telemetry(telemetry.Config{ServiceName: name}, os.Stdout),
		platformfx.Admin(telemetry.AdminConfig{Addr: "127.0.0.1:0"}),
		platformfx.Health(health.Config{Critical: []string{"nothing"}}),
		fx.Provide(func() mortal { return mortal{die: name == "dying"} }),
		fx.Invoke(hang),
		platformfx.Loop[mortal]("mortal", grpcserver.StageIntake),
		platformfx.GRPCServer(grpcserver.Config{Addr: os.Getenv("ADDR"), HookTimeout: time.Hour}),
		calling(name == "calling"),
	)
}

// caller stands for a client of generated code.
type caller grpc.ClientConnInterface

// calling calls a service that is not there.
func calling(yes bool) fx.Option {
	if !yes {
		return fx.Options()
	}
	cfg := grpcclient.Config{Target: "passthrough:///127.0.0.1:1", Insecure: true, Breaker: breaker.Config{Name: "callee", Failures: 1}}
	return fx.Options(
		platformfx.Client(cfg, func(conn grpc.ClientConnInterface) caller { return conn }, grpcclient.WithoutRetries()),
		fx.Invoke(func(conn caller) error {
			if conn.Invoke(context.Background(), "/shop.v1.Shop/Buy", &emptypb.Empty{}, &emptypb.Empty{}) == nil {
				return errors.New("somebody answered")
			}
			return nil
		}),
	)
}

type process struct {
	*exec.Cmd
	lines  *bufio.Scanner
	stderr *bytes.Buffer
}

func start(t *testing.T, name, addr string) process {
	t.Helper()
	exe, err := os.Executable()
	require.NoError(t, err)
	p := process{Cmd: exec.Command(exe), stderr: &bytes.Buffer{}}
	p.Env = append(os.Environ(), programEnv+"="+name, "ADDR="+addr)
	p.Stderr = p.stderr
	out, err := p.StdoutPipe()
	require.NoError(t, err)
	p.lines = bufio.NewScanner(out)
	require.NoError(t, p.Start())
	timer := time.AfterFunc(time.Minute, func() { _ = p.Process.Kill() }) // ends every wait below
	t.Cleanup(func() { timer.Stop(); _ = p.Process.Kill(); _ = p.Wait() })
	return p
}

// await reads the log up to a message and returns the messages before it.
func (p process) await(t *testing.T, msg string) (before []string) {
	t.Helper()
	for p.lines.Scan() {
		var line struct{ Msg, Name string }
		require.NoError(t, json.Unmarshal(p.lines.Bytes(), &line), p.lines.Text())
		if line.Msg == msg {
			return before
		}
		before = append(before, line.Msg+" "+line.Name)
	}
	require.Fail(t, "the program ended without saying "+msg, "%v\n%s", before, p.stderr)
	return nil
}

// exit reads what is left and returns the exit code.
func (p process) exit() int {
	for p.lines.Scan() {
		continue
	}
	_ = p.Wait()
	return p.ProcessState.ExitCode()
}

func TestRun(t *testing.T) {
	t.Parallel()

	t.Run("a circuit breaker that opens is in the log", func(t *testing.T) {
		t.Parallel()
		p := start(t, "calling", "127.0.0.1:0")
		p.await(t, "circuit breaker is open")
	})
	t.Run("a signal drains in the order of the stages and ends with 0", func(t *testing.T) {
		t.Parallel()
		p := start(t, "well", "127.0.0.1:0")
		p.await(t, "serving gRPC")
		require.NoError(t, p.Process.Signal(syscall.SIGTERM))
		p.await(t, "shutting down")
		steps := p.await(t, "shut down")
		require.Equal(t, []string{
			"readiness is NOT_SERVING from now on ", "shutdown step mortal", "working ", "shutdown step slow work",
			"shutdown step health monitor",
		}, steps[:5])
		require.ElementsMatch(t, []string{"shutdown step telemetry", "shutdown step admin server"}, steps[5:])
		require.Equal(t, platformfx.ExitOK, p.exit())
	})

	t.Run("a second signal ends the drain at once with 1", func(t *testing.T) {
		t.Parallel()
		p := start(t, "slow", "127.0.0.1:0")
		p.await(t, "serving gRPC")
		require.NoError(t, p.Process.Signal(syscall.SIGTERM))
		p.await(t, "working")
		require.NoError(t, p.Process.Signal(syscall.SIGINT))
		require.Equal(t, platformfx.ExitFailed, p.exit())
		require.Contains(t, p.stderr.String(), "stopped at once")
	})

	t.Run("a loop that ends by itself takes the program down with 1", func(t *testing.T) {
		t.Parallel()
		p := start(t, "dying", "127.0.0.1:0")
		p.await(t, "loop ended by itself")
		p.await(t, "shut down")
		require.Equal(t, platformfx.ExitFailed, p.exit())
	})

	t.Run("a port that is taken is told, and nothing runs", func(t *testing.T) {
		t.Parallel()
		lis, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		defer lis.Close()
		p := start(t, "well", lis.Addr().String())
		require.Equal(t, platformfx.ExitFailed, p.exit())
		require.Contains(t, p.stderr.String(), "address already in use")
	})
}
