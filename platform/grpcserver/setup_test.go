package grpcserver_test

import (
	"context"
	"net"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/propagation"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.uber.org/goleak"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	orderv1 "github.com/slipwayhq/slipway/gen/slipway/order/v1"
	"github.com/slipwayhq/slipway/platform/grpcserver"
	"github.com/slipwayhq/slipway/platform/health"
)

const (
	patience = 30 * time.Second
	orderID  = "0190a5c2-7e1b-7c3a-9d2e-3f4a5b6c7d8e"
)

func TestMain(m *testing.M) {
	if err := registerBroken(); err != nil {
		panic(err)
	}
	goleak.VerifyTestMain(m)
}

// orders is an order service whose methods a test replaces.
type orders struct {
	orderv1.UnimplementedOrderServiceServer
	get   func(context.Context, *orderv1.GetOrderRequest) (*orderv1.GetOrderResponse, error)
	place func(context.Context, *orderv1.PlaceOrderRequest) (*orderv1.PlaceOrderResponse, error)
	watch func(*orderv1.WatchOrderRequest, grpc.ServerStreamingServer[orderv1.WatchOrderResponse]) error
}

func (o *orders) GetOrder(ctx context.Context, r *orderv1.GetOrderRequest) (*orderv1.GetOrderResponse, error) {
	if o.get == nil {
		return &orderv1.GetOrderResponse{Order: &orderv1.Order{Id: r.GetOrderId()}}, nil
	}
	return o.get(ctx, r)
}

func (o *orders) PlaceOrder(ctx context.Context, r *orderv1.PlaceOrderRequest) (*orderv1.PlaceOrderResponse, error) {
	if o.place == nil {
		return &orderv1.PlaceOrderResponse{}, nil
	}
	return o.place(ctx, r)
}

func (o *orders) WatchOrder(r *orderv1.WatchOrderRequest, s grpc.ServerStreamingServer[orderv1.WatchOrderResponse]) error {
	if o.watch == nil {
		<-s.Context().Done()
		return s.Context().Err()
	}
	return o.watch(r, s)
}

// bundle is a running server and what can be seen of it.
type bundle struct {
	*grpcserver.Server
	orders   *orders
	monitor  *health.Monitor
	conn     *grpc.ClientConn
	client   orderv1.OrderServiceClient
	logs     *observer.ObservedLogs
	registry *prometheus.Registry
	spans    *tracetest.InMemoryExporter
	ran      chan error
}

// setup serves orders on a free port until the test ends.
func setup(t *testing.T, cfg grpcserver.Config, opts ...grpcserver.Option) *bundle {
	t.Helper()
	b := newBundle(t, cfg, opts...)
	b.start(t)
	b.conn = dial(t, b.Addr())
	b.client = orderv1.NewOrderServiceClient(b.conn)
	return b
}

func newBundle(t *testing.T, cfg grpcserver.Config, opts ...grpcserver.Option) *bundle {
	t.Helper()
	b := &bundle{orders: &orders{}, registry: prometheus.NewRegistry(), spans: tracetest.NewInMemoryExporter(), ran: make(chan error, 1)}
	core, logs := observer.New(zapcore.DebugLevel)
	b.logs = logs
	tracers := sdktrace.NewTracerProvider(sdktrace.WithSyncer(b.spans))
	var err error
	b.monitor, err = health.New(health.Config{}, nil, nil, b.registry)
	require.NoError(t, err)
	if cfg.Addr == "" {
		cfg.Addr = "127.0.0.1:0"
	}
	b.Server, err = grpcserver.New(cfg, b.monitor, append([]grpcserver.Option{
		grpcserver.WithLogger(zap.New(core)),
		grpcserver.WithRegisterer(b.registry),
		grpcserver.WithTracerProvider(tracers),
		grpcserver.WithPropagator(propagation.NewCompositeTextMapPropagator(propagation.TraceContext{}, propagation.Baggage{})),
	}, opts...)...)
	require.NoError(t, err)
	t.Cleanup(func() { _ = b.Shutdown(context.Background()) })
	orderv1.RegisterOrderServiceServer(b, b.orders)
	return b
}

// start runs the server and its monitor, and waits until it is ready.
func (b *bundle) start(t *testing.T) {
	t.Helper()
	require.NoError(t, b.Listen())
	ctx, cancel := context.WithCancel(context.Background())
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		_ = b.monitor.Run(ctx)
	}()
	go func() { b.ran <- b.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		<-watched
	})
	require.Eventually(t, func() bool { return b.monitor.Ready() == nil }, patience, time.Millisecond)
}

func dial(t *testing.T, addr net.Addr, opts ...grpc.DialOption) *grpc.ClientConn {
	t.Helper()
	opts = append([]grpc.DialOption{grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithDisableRetry()}, opts...)
	conn, err := grpc.NewClient(addr.String(), opts...)
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// within is a context that outlives no test.
func within(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}
