package grpcclient_test

import (
	"context"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	orderv1 "github.com/slipwayhq/slipway/gen/slipway/order/v1"
	"github.com/slipwayhq/slipway/platform/grpcclient"
)

const patience = 30 * time.Second

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// orders is a replica of an order service that counts its calls.
type orders struct {
	orderv1.UnimplementedOrderServiceServer
	health *health.Server
	addr   string
	calls  atomic.Int64
	// fail is how many calls are answered with code before any succeeds.
	fail atomic.Int64
	code codes.Code
	get  func(context.Context) (*orderv1.GetOrderResponse, error)
	// watch is called when a stream begins.
	watch func(context.Context)
}

func (o *orders) answer() error {
	o.calls.Add(1)
	if o.fail.Add(-1) >= 0 {
		return status.Error(o.code, "told to fail")
	}
	return nil
}

func (o *orders) GetOrder(ctx context.Context, _ *orderv1.GetOrderRequest) (*orderv1.GetOrderResponse, error) {
	if err := o.answer(); err != nil {
		return nil, err
	}
	if o.get != nil {
		return o.get(ctx)
	}
	return &orderv1.GetOrderResponse{}, nil
}

func (o *orders) PlaceOrder(context.Context, *orderv1.PlaceOrderRequest) (*orderv1.PlaceOrderResponse, error) {
	return &orderv1.PlaceOrderResponse{}, o.answer()
}

func (o *orders) WatchOrder(_ *orderv1.WatchOrderRequest, s grpc.ServerStreamingServer[orderv1.WatchOrderResponse]) error {
	if err := o.answer(); err != nil {
		return err
	}
	if o.watch != nil {
		o.watch(s.Context())
	}
	if err := s.Send(&orderv1.WatchOrderResponse{}); err != nil {
		return err
	}
	<-s.Context().Done()
	return s.Context().Err()
}

// serve runs a replica that is ready, on a free port, until the test ends.
func serve(t *testing.T, opts ...grpc.ServerOption) *orders {
	t.Helper()
	o := &orders{health: health.NewServer(), code: codes.Unavailable}
	o.health.SetServingStatus("readiness", healthpb.HealthCheckResponse_SERVING)
	server := grpc.NewServer(opts...)
	orderv1.RegisterOrderServiceServer(server, o)
	healthpb.RegisterHealthServer(server, o.health)
	o.addr = listen(t, server)
	return o
}

func listen(t *testing.T, server *grpc.Server) string {
	t.Helper()
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	served := make(chan error, 1)
	go func() { served <- server.Serve(lis) }()
	t.Cleanup(func() {
		server.Stop()
		require.NoError(t, <-served)
	})
	return lis.Addr().String()
}

// dial connects in plaintext, and retries what the order service allows.
func dial(t *testing.T, cfg grpcclient.Config, opts ...grpcclient.Option) *grpc.ClientConn {
	t.Helper()
	cfg.Insecure = cfg.TLS == grpcclient.TLS{}
	opts = append([]grpcclient.Option{grpcclient.WithServices(orderv1.OrderService_ServiceDesc.ServiceName)}, opts...)
	conn, err := grpcclient.Dial(cfg, opts...)
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

func get(ctx context.Context, conn *grpc.ClientConn) error {
	_, err := orderv1.NewOrderServiceClient(conn).GetOrder(ctx, &orderv1.GetOrderRequest{})
	return err
}

// within is a context that outlives no test.
func within(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}
