package e2e_test

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	orderv1 "github.com/slipwayhq/slipway/gen/slipway/order/v1"
)

// TestOrder_leavesItsTrace follows one order: its row, its event, its log line, its metric and its
// spans, all found by one trace id.
func TestOrder_leavesItsTrace(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	order := s.startOrder(t)
	client := orderv1.NewOrderServiceClient(order.dial(t))

	const traceID = "0af7651916cd43dd8448eb211c80319c"
	ctx := metadata.AppendToOutgoingContext(t.Context(),
		"traceparent", "00-"+traceID+"-b7ad6b7169203331-01", "x-correlation-id", "cart-17")
	placed, err := client.PlaceOrder(ctx, request("key-0001"))
	require.NoError(t, err)
	id := placed.GetOrder().GetId()

	read, err := client.GetOrder(t.Context(), &orderv1.GetOrderRequest{OrderId: id})
	require.NoError(t, err)
	require.Equal(t, placed.GetOrder().String(), read.GetOrder().String())

	db, err := pgx.Connect(t.Context(), s.database)
	require.NoError(t, err)
	defer db.Close(t.Context())
	var total int64
	require.NoError(t, db.QueryRow(t.Context(), "SELECT total_minor FROM orders WHERE id = $1", id).Scan(&total))
	require.EqualValues(t, 700, total)

	var eventType, headers string
	require.NoError(t, db.QueryRow(t.Context(),
		"SELECT event_type, headers FROM slipway.outbox WHERE aggregate_id = $1", id).Scan(&eventType, &headers))
	require.Equal(t, "order.placed", eventType)
	var carried map[string]string
	require.NoError(t, json.Unmarshal([]byte(headers), &carried))
	require.Contains(t, carried["traceparent"], traceID)
	require.Equal(t, "cart-17", carried["correlation_id"])

	line := order.line(t, func(l map[string]any) bool { return l["trace_id"] == traceID })
	require.Equal(t, "PlaceOrder", line["grpc.method"])
	require.Equal(t, "cart-17", line["correlation_id"])
	require.Equal(t, "order", line["service"])
	require.Equal(t, "development", line["environment"])
	require.NotContains(t, order.log(), "TEA-1", "payloads are never logged")

	require.Eventually(t, func() bool {
		names := s.collector.trace(traceID)
		return slices.Contains(names, "slipway.order.v1.OrderService/PlaceOrder") && len(names) > 3
	}, patience, 50*time.Millisecond, "the spans of the call and of its statements do not arrive")

	metrics := order.get(t, "/metrics")
	require.Contains(t, metrics, `grpc_server_handled_total{grpc_code="OK",grpc_method="PlaceOrder",`+
		`grpc_service="slipway.order.v1.OrderService",grpc_type="unary"} 1`)
	require.Contains(t, metrics, `trace_sampling_ratio 1`)
}

// get reads a page of the admin server.
func (o *service) get(t *testing.T, path string) string {
	t.Helper()
	addr := o.line(t, said("serving admin"))["addr"].(string)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+addr+path, nil)
	require.NoError(t, err)
	resp, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	return string(body)
}

// TestOrder_drains stops a replica that has a call in flight and an open stream.
func TestOrder_drains(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	order := s.startOrder(t)
	conn := order.dial(t)
	client := orderv1.NewOrderServiceClient(conn)
	placed, err := client.PlaceOrder(t.Context(), request("key-0001"))
	require.NoError(t, err)
	watch, err := client.WatchOrder(t.Context(), &orderv1.WatchOrderRequest{OrderId: placed.GetOrder().GetId()})
	require.NoError(t, err)
	_, err = watch.Recv()
	require.NoError(t, err)

	// A lock keeps one call in flight for as long as the test wants.
	db, err := pgx.Connect(t.Context(), s.database)
	require.NoError(t, err)
	defer db.Close(t.Context())
	_, err = db.Exec(t.Context(), "BEGIN; LOCK TABLE idempotency_keys IN EXCLUSIVE MODE")
	require.NoError(t, err)
	const traceID = "11111111111111111111111111111111"
	inFlight := make(chan error, 1)
	go func() {
		ctx := metadata.AppendToOutgoingContext(t.Context(), "traceparent", "00-"+traceID+"-2222222222222222-01")
		_, err := client.PlaceOrder(ctx, request("key-0002"))
		inFlight <- err
	}()
	observer, err := pgx.Connect(t.Context(), s.database)
	require.NoError(t, err)
	defer observer.Close(t.Context())
	require.Eventually(t, func() bool {
		var waiting bool
		err := observer.QueryRow(t.Context(),
			"SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted AND relation = 'idempotency_keys'::regclass)").Scan(&waiting)
		return err == nil && waiting
	}, patience, 10*time.Millisecond)

	order.signal(t, syscall.SIGTERM)
	_, err = watch.Recv()
	require.Equal(t, codes.Unavailable, status.Code(err), "the stream is told to end: %v", err)
	_, err = db.Exec(t.Context(), "ROLLBACK")
	require.NoError(t, err)
	require.NoError(t, <-inFlight, "the call in flight is answered")
	require.Zero(t, order.exit(t), "a drain ends with exit code 0")
	require.NotEmpty(t, s.collector.trace(traceID), "the span of the last call was sent before the end")
}

// TestOrder_secondSignal does not wait for a call that never ends.
func TestOrder_secondSignal(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	order := s.startOrder(t, "DRAIN_TIMEOUT=10m", "DATABASE_STATEMENT_TIMEOUT=10m", "DATABASE_LOCK_TIMEOUT=10m")
	db, err := pgx.Connect(t.Context(), s.database)
	require.NoError(t, err)
	defer db.Close(t.Context())
	_, err = db.Exec(t.Context(), "BEGIN; LOCK TABLE idempotency_keys IN EXCLUSIVE MODE")
	require.NoError(t, err)
	client := orderv1.NewOrderServiceClient(order.dial(t))
	inFlight := make(chan error, 1)
	go func() {
		_, err := client.PlaceOrder(t.Context(), request("key-0001"))
		inFlight <- err
	}()
	observer, err := pgx.Connect(t.Context(), s.database)
	require.NoError(t, err)
	defer observer.Close(t.Context())
	require.Eventually(t, func() bool {
		var waiting bool
		err := observer.QueryRow(t.Context(),
			"SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted AND relation = 'idempotency_keys'::regclass)").Scan(&waiting)
		return err == nil && waiting
	}, patience, 10*time.Millisecond)
	order.signal(t, syscall.SIGTERM)
	order.line(t, said("shutting down"))
	order.signal(t, syscall.SIGTERM)
	require.Equal(t, 1, order.exit(t))
	require.Error(t, <-inFlight)
}

// TestOrder_withoutRedis keeps answering, and says what is degraded.
func TestOrder_withoutRedis(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	order := s.startOrder(t, "HEALTH_CRITICAL=postgres", "HEALTH_INTERVAL=100ms")
	conn := order.dial(t)
	client := orderv1.NewOrderServiceClient(conn)
	placed, err := client.PlaceOrder(t.Context(), request("key-0001"))
	require.NoError(t, err)

	s.redis.Stop()
	for range 5 {
		_, err := client.GetOrder(t.Context(), &orderv1.GetOrderRequest{OrderId: placed.GetOrder().GetId()})
		require.NoError(t, err)
	}
	health := healthpb.NewHealthClient(conn)
	require.Eventually(t, func() bool {
		resp, err := health.Check(t.Context(), &healthpb.HealthCheckRequest{Service: "dependency/redis"})
		return err == nil && resp.GetStatus() == healthpb.HealthCheckResponse_NOT_SERVING
	}, patience, 20*time.Millisecond)
	resp, err := health.Check(t.Context(), &healthpb.HealthCheckRequest{Service: "readiness"})
	require.NoError(t, err)
	require.Equal(t, healthpb.HealthCheckResponse_SERVING, resp.GetStatus())
	require.Contains(t, order.get(t, "/metrics"), `dependency_up{dependency="redis"} 0`)
}

// TestOrder_refusesBadConfiguration names everything that is wrong and exits with 1.
func TestOrder_refusesBadConfiguration(t *testing.T) {
	t.Parallel()
	var stderr bytes.Buffer
	cmd := exec.Command(filepath.Join(binaries, "order"))
	cmd.Env = []string{"ENVIRONMENT=prod", "DRAIN_TIMEOUT=15", "LOG_LEVEL=loud", "GRPC_MAX_RECV_BYTES=big"}
	cmd.Stderr = &stderr
	err := cmd.Run()
	var exit *exec.ExitError
	require.ErrorAs(t, err, &exit)
	require.Equal(t, 1, exit.ExitCode())
	for _, name := range []string{"ENVIRONMENT", "DRAIN_TIMEOUT", "GRPC_MAX_RECV_BYTES", "DATABASE_URL"} {
		require.Contains(t, stderr.String(), name)
	}

	cmd = exec.Command(filepath.Join(binaries, "order"))
	cmd.Env = []string{"ENVIRONMENT=production", "DATABASE_URL=postgres://x", "REDIS_URL=redis://x", "BROKER_URL=nats://x", "INVENTORY_TARGET=x:1", "PAYMENT_TARGET=x:2"}
	out, err := cmd.CombinedOutput()
	require.ErrorAs(t, err, &exit)
	require.Contains(t, string(out), "AUTH_MODE: none is for development only")
}

// TestOrder_showsItsConfiguration prints what is in force, without secrets.
func TestOrder_showsItsConfiguration(t *testing.T) {
	t.Parallel()
	cmd := exec.Command(filepath.Join(binaries, "order"), "-config")
	cmd.Env = []string{
		"DATABASE_URL=postgres://order:hunter2@db/order", "REDIS_URL=redis://:hunter2@cache:6379", "BROKER_URL=nats://order:hunter2@broker:4222",
		"INVENTORY_TARGET=inventory:50053", "PAYMENT_TARGET=payment:50052",
	}
	out, err := cmd.Output()
	require.NoError(t, err)
	require.NotContains(t, string(out), "hunter2")
	require.Contains(t, string(out), "postgres://order:******@db/order")
	require.Contains(t, string(out), "nats://order:******@broker:4222")
	require.Contains(t, string(out), "DRAIN_TIMEOUT")
}

// TestShopper_survivesTheDeathOfAReplica places orders while the service is killed with -9 and
// started again, and finds none lost and none twice.
func TestShopper_survivesTheDeathOfAReplica(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	first := s.startOrder(t)
	addr := first.addr(t)

	const orders = 300
	shopper := exec.Command(filepath.Join(binaries, "shopper"),
		"--addr", addr, "--orders", "300", "--rate", "60", "--wait", "1s", "--retries", "30", "--output", "json")
	var out, stderr bytes.Buffer
	shopper.Stdout, shopper.Stderr = &out, &stderr
	require.NoError(t, shopper.Start())
	done := make(chan error, 1)
	go func() { done <- shopper.Wait() }()
	t.Cleanup(func() { _ = shopper.Process.Kill() })

	db, err := pgx.Connect(t.Context(), s.database)
	require.NoError(t, err)
	defer db.Close(t.Context())
	count := func(query string) (n int) {
		require.NoError(t, db.QueryRow(t.Context(), query).Scan(&n))
		return n
	}
	replica := first
	for kill := 1; kill <= 3; kill++ {
		require.Eventually(t, func() bool { return count("SELECT count(*) FROM orders") >= kill*orders/5 },
			patience, 10*time.Millisecond, "the shopper makes no progress: %s", &stderr)
		replica.signal(t, syscall.SIGKILL)
		require.Equal(t, -1, replica.exit(t))
		replica = s.startOrder(t, "GRPC_ADDR="+addr)
	}
	select {
	case err := <-done:
		require.NoError(t, err, "%s\n%s", &out, &stderr)
	case <-time.After(2 * patience):
		require.Fail(t, "the shopper does not end")
	}
	require.Equal(t, orders, count("SELECT count(*) FROM orders"))
	require.Equal(t, orders, count("SELECT count(DISTINCT aggregate_id) FROM slipway.outbox WHERE event_type = 'order.placed'"))
	require.Equal(t, orders, count("SELECT count(*) FROM slipway.outbox WHERE event_type = 'order.placed'"))
	require.True(t, strings.HasPrefix(strings.TrimSpace(out.String()), "{"), "the summary is JSON: %s", &out)
}
