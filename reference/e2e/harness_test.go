package e2e_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	coltracepb "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	orderv1 "github.com/slipwayhq/slipway/gen/slipway/order/v1"
	"github.com/slipwayhq/slipway/platform/postgres/postgrestest"
	"github.com/slipwayhq/slipway/platform/redisdb/redistest"
)

// patience bounds every wait for something that must happen.
const patience = time.Minute

var binaries string

func TestMain(m *testing.M) {
	if dir := os.Getenv(brokerDir); dir != "" {
		os.Exit(serveBroker(dir, os.Getenv(brokerPort)))
	}
	flag.Parse()
	if cpus := runtime.GOMAXPROCS(0); flag.Lookup("test.parallel").Value.String() == strconv.Itoa(cpus) {
		_ = flag.Set("test.parallel", strconv.Itoa(2*cpus)) // tests wait for processes most of the time
	}
	os.Exit(run(m))
}

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "slipway-e2e-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	binaries = dir
	for _, pkg := range []string{"order", "payment", "payment/cmd/providersim", "inventory", "shopper"} {
		build := exec.Command("go", "build", "-ldflags", "-s -w", "-o", filepath.Join(dir, filepath.Base(pkg)), "../"+pkg)
		if out, err := build.CombinedOutput(); err != nil {
			fmt.Fprintf(os.Stderr, "build %s: %v\n%s", pkg, err, out)
			return 1
		}
	}
	return postgrestest.Closing(m).Run()
}

// system is what the services of one test share.
type system struct {
	database  string
	redis     *redistest.Server
	broker    *brokerProcess
	collector *collector
}

func newSystem(t *testing.T) *system {
	t.Helper()
	return &system{database: postgrestest.New(t), redis: redistest.Start(t), broker: startBroker(t), collector: newCollector(t)}
}

// service is a running service.
type service struct {
	cmd    *exec.Cmd
	exited chan struct{} // closed when the process has ended

	mu    sync.Mutex
	lines []map[string]any
	text  bytes.Buffer // what is no JSON
}

// startOrder starts a replica and waits until it is ready. env overrides the defaults.
func (s *system) startOrder(t *testing.T, env ...string) *service {
	t.Helper()
	o := s.launchOrder(t, env...)
	o.ready(t)
	return o
}

// ready waits until the service serves.
func (o *service) ready(t *testing.T) {
	t.Helper()
	o.readyAt(t, o.addr(t))
}

func (o *service) readyAt(t *testing.T, addr string) {
	t.Helper()
	conn := dial(t, addr)
	require.Eventually(t, func() bool {
		resp, err := healthpb.NewHealthClient(conn).Check(t.Context(), &healthpb.HealthCheckRequest{Service: "readiness"})
		return err == nil && resp.GetStatus() == healthpb.HealthCheckResponse_SERVING
	}, patience, 20*time.Millisecond, "the service does not become ready")
}

// launchOrder starts a replica without waiting for it.
func (s *system) launchOrder(t *testing.T, env ...string) *service {
	t.Helper()
	return launch(t, "order", append([]string{
		"ENVIRONMENT=development",
		"GRPC_ADDR=127.0.0.1:0",
		"ADMIN_ADDR=127.0.0.1:0",
		"DATABASE_URL=" + s.database,
		"REDIS_URL=redis://" + s.redis.Addr(),
		"BROKER_URL=" + s.broker.url(),
		"INVENTORY_TARGET=127.0.0.1:1", // nobody
		"PAYMENT_TARGET=127.0.0.1:1",
		"OTEL_EXPORTER_OTLP_ENDPOINT=http://" + s.collector.addr,
	}, env...)...)
}

// launch starts a program and reads its log.
func launch(t *testing.T, program string, env ...string) *service {
	t.Helper()
	return launchFile(t, filepath.Join(binaries, program), env...)
}

func launchFile(t *testing.T, program string, env ...string) *service {
	t.Helper()
	cmd := exec.Command(program)
	cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + os.Getenv("HOME")}, env...)
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	o := &service{cmd: cmd, exited: make(chan struct{})}
	cmd.Stderr = &lockedWriter{o: o}
	require.NoError(t, cmd.Start())
	go o.read(bufio.NewReader(out))
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-o.exited
		if t.Failed() {
			t.Logf("log of %s:\n%s", filepath.Base(program), o.log())
		}
	})
	return o
}

func (o *service) read(out *bufio.Reader) {
	defer close(o.exited)
	defer func() { _ = o.cmd.Wait() }()
	for {
		line, err := out.ReadBytes('\n')
		var fields map[string]any
		o.mu.Lock()
		if json.Unmarshal(line, &fields) == nil {
			o.lines = append(o.lines, fields)
		} else {
			o.text.Write(line)
		}
		o.mu.Unlock()
		if err != nil {
			return
		}
	}
}

// line waits for the first log line that match accepts.
func (o *service) line(t *testing.T, match func(map[string]any) bool) (found map[string]any) {
	t.Helper()
	require.Eventually(t, func() bool {
		o.mu.Lock()
		defer o.mu.Unlock()
		for _, l := range o.lines {
			if match(l) {
				found = l
				return true
			}
		}
		return false
	}, patience, 10*time.Millisecond, "no such log line")
	return found
}

func (o *service) log() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	var b strings.Builder
	for _, l := range o.lines {
		text, _ := json.Marshal(l)
		b.Write(append(text, '\n'))
	}
	return b.String() + o.text.String()
}

func said(msg string) func(map[string]any) bool {
	return func(l map[string]any) bool { return l["msg"] == msg }
}

// addr is where the service says that it serves gRPC.
func (o *service) addr(t *testing.T) string {
	t.Helper()
	return o.line(t, said("serving gRPC"))["addr"].(string)
}

func (o *service) dial(t *testing.T) *grpc.ClientConn {
	t.Helper()
	return dial(t, o.addr(t))
}

func dial(t *testing.T, target string) *grpc.ClientConn {
	t.Helper()
	conn, err := grpc.NewClient(target, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithDisableRetry())
	require.NoError(t, err)
	t.Cleanup(func() { conn.Close() })
	return conn
}

func (o *service) signal(t *testing.T, s syscall.Signal) {
	t.Helper()
	require.NoError(t, o.cmd.Process.Signal(s))
}

// exit waits for the end of the process and returns its exit code, -1 if a signal ended it.
func (o *service) exit(t *testing.T) int {
	t.Helper()
	select {
	case <-o.exited:
	case <-time.After(patience):
		require.Fail(t, "the service does not end")
	}
	return o.cmd.ProcessState.ExitCode()
}

type lockedWriter struct{ o *service }

func (w *lockedWriter) Write(p []byte) (int, error) {
	w.o.mu.Lock()
	defer w.o.mu.Unlock()
	return w.o.text.Write(p)
}

// collector receives traces, as an OpenTelemetry collector does.
type collector struct {
	coltracepb.UnimplementedTraceServiceServer
	addr string

	mu    sync.Mutex
	spans []*tracepb.Span
}

func newCollector(t *testing.T) *collector {
	t.Helper()
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	c := &collector{addr: lis.Addr().String()}
	server := grpc.NewServer()
	coltracepb.RegisterTraceServiceServer(server, c)
	go func() { _ = server.Serve(lis) }()
	t.Cleanup(server.Stop)
	return c
}

// Export implements coltracepb.TraceServiceServer.
func (c *collector) Export(_ context.Context, req *coltracepb.ExportTraceServiceRequest) (*coltracepb.ExportTraceServiceResponse, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, rs := range req.GetResourceSpans() {
		for _, ss := range rs.GetScopeSpans() {
			c.spans = append(c.spans, ss.GetSpans()...)
		}
	}
	return &coltracepb.ExportTraceServiceResponse{}, nil
}

// trace returns the names of the spans of a trace that have arrived.
func (c *collector) trace(id string) (names []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, s := range c.spans {
		if fmt.Sprintf("%x", s.GetTraceId()) == id {
			names = append(names, s.GetName())
		}
	}
	return names
}

func request(key string) *orderv1.PlaceOrderRequest {
	return &orderv1.PlaceOrderRequest{
		IdempotencyKey: key,
		CustomerId:     "c-1",
		CardToken:      "tok_ok",
		Items: []*orderv1.OrderItem{{
			Sku: "TEA-1", Quantity: 2, UnitPrice: &orderv1.Money{CurrencyCode: "EUR", MinorUnits: 350},
		}},
	}
}
