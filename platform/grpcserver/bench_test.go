package grpcserver_test

import (
	"context"
	"io"
	"net"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/propagation"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	orderv1 "github.com/slipwayhq/slipway/gen/slipway/order/v1"
	"github.com/slipwayhq/slipway/platform/grpcserver"
	"github.com/slipwayhq/slipway/platform/health"
)

// BenchmarkChain measures a unary call over loopback, client and server in one process, so
// that the difference between its cases is what the chain costs.
func BenchmarkChain(b *testing.B) {
	b.Run("bare", func(b *testing.B) {
		server := grpc.NewServer()
		orderv1.RegisterOrderServiceServer(server, &orders{})
		lis, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(b, err)
		go func() { _ = server.Serve(lis) }()
		b.Cleanup(server.Stop)
		call(b, lis.Addr())
	})
	b.Run("quiet", func(b *testing.B) { benchmarkServer(b) })
	logger := zap.New(zapcore.NewCore(zapcore.NewJSONEncoder(zap.NewProductionEncoderConfig()), zapcore.AddSync(io.Discard), zap.InfoLevel))
	propagator := grpcserver.WithPropagator(propagation.NewCompositeTextMapPropagator(propagation.TraceContext{}, propagation.Baggage{}))
	b.Run("logged", func(b *testing.B) { benchmarkServer(b, grpcserver.WithLogger(logger)) })
	for name, ratio := range map[string]float64{"full,unsampled": 0, "full": .15, "full,sampled": 1} {
		b.Run(name, func(b *testing.B) {
			tracers := sdktrace.NewTracerProvider(sdktrace.WithSampler(sdktrace.TraceIDRatioBased(ratio)),
				sdktrace.WithSpanProcessor(discard{}))
			benchmarkServer(b, grpcserver.WithLogger(logger), propagator, grpcserver.WithTracerProvider(tracers))
		})
	}
}

func benchmarkServer(b *testing.B, opts ...grpcserver.Option) {
	b.Helper()
	monitor, err := health.New(health.Config{}, nil, nil, nil)
	require.NoError(b, err)
	opts = append(opts, grpcserver.WithRegisterer(prometheus.NewRegistry()))
	server, err := grpcserver.New(grpcserver.Config{Addr: "127.0.0.1:0"}, monitor, opts...)
	require.NoError(b, err)
	orderv1.RegisterOrderServiceServer(server, &orders{})
	require.NoError(b, server.Listen())
	go func() { _ = server.Run(context.Background()) }()
	b.Cleanup(func() { _ = server.Shutdown(context.Background()) })
	call(b, server.Addr())
}

func call(b *testing.B, addr net.Addr) {
	b.Helper()
	conn, err := grpc.NewClient(addr.String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	require.NoError(b, err)
	b.Cleanup(func() { _ = conn.Close() })
	client := orderv1.NewOrderServiceClient(conn)
	request := &orderv1.GetOrderRequest{OrderId: orderID}
	b.ReportAllocs()
	for b.Loop() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		if _, err := client.GetOrder(ctx, request); err != nil {
			b.Fatal(err)
		}
		cancel()
	}
}

// discard ends spans as an exporter's queue does, without the export.
type discard struct{}

func (discard) OnStart(context.Context, sdktrace.ReadWriteSpan) {}
func (discard) OnEnd(sdktrace.ReadOnlySpan)                     {}
func (discard) Shutdown(context.Context) error                  { return nil }
func (discard) ForceFlush(context.Context) error                { return nil }
