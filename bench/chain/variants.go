package main

import (
	"context"
	"fmt"
	"io"
	"net"

	"go.uber.org/zap"
	"google.golang.org/grpc"

	benchv1 "github.com/slipwayhq/slipway/bench/gen/slipway/bench/v1"
	"github.com/slipwayhq/slipway/bench/internal/echo"
	"github.com/slipwayhq/slipway/platform/grpcserver"
	"github.com/slipwayhq/slipway/platform/health"
	"github.com/slipwayhq/slipway/platform/telemetry"
)

const (
	bare    = "bare"
	usual   = "usual"
	lean    = "usual-lean"
	slipway = "slipway"
	thinned = "slipway-thinned"

	sampleRatio = 0.15
)

// variant is a way to serve the echo.
type variant struct {
	name, about string
	traced      bool
	start       startFunc
}

// startFunc serves on a free port of loopback until stop is called.
type startFunc func(ctx context.Context, name, collector string) (addr string, stop func() error, err error)

var variants = []variant{
	{bare, "grpc-go with nothing around the handler", false, startBare},
	{usual, "otelgrpc 15 %, provider metrics with histogram, zap access log, recovery", true, startUsual(middlewareLog)},
	{lean, "the same with an access log written by hand, four fields a line", true, startUsual(leanLog)},
	{slipway, "grpcserver's full chain, a log line for every call", true, startSlipway},
	{thinned, "the same with the logger of production, which thins repeated lines", true, startThinned},
}

func variantNamed(name string) (variant, error) {
	for _, v := range variants {
		if v.name == name {
			return v, nil
		}
	}
	return variant{}, fmt.Errorf("unknown variant %q", name)
}

func startBare(context.Context, string, string) (string, func() error, error) {
	return serveGRPC(grpc.NewServer())
}

// startSlipway logs every call, as the usual chain does: production would leave most of these
// lines out, and the comparison with them.
func startSlipway(ctx context.Context, name, collector string) (string, func() error, error) {
	every, err := telemetry.New(ctx, telemetry.Config{Environment: telemetry.Staging, ServiceName: name}, io.Discard)
	if err != nil {
		return "", nil, err
	}
	return servePlatform(ctx, name, collector, every.Logger)
}

func startThinned(ctx context.Context, name, collector string) (string, func() error, error) {
	return servePlatform(ctx, name, collector, nil)
}

// servePlatform serves as a service in production does; logger replaces its logger.
func servePlatform(ctx context.Context, name, collector string, logger *zap.Logger) (string, func() error, error) {
	signals, err := telemetry.New(ctx, telemetry.Config{
		Environment: telemetry.Production, ServiceName: name, TracesEndpoint: collector, SampleRatio: sampleRatio,
	}, io.Discard)
	if err != nil {
		return "", nil, err
	}
	if logger == nil {
		logger = signals.Logger
	}
	monitor, err := health.New(health.Config{}, nil, logger, signals.Registry)
	if err != nil {
		return "", nil, err
	}
	server, err := newServer(monitor, logger, signals) //nolint:contextcheck // calls have contexts of their own
	if err != nil {
		return "", nil, err
	}
	go func() { _ = monitor.Run(ctx) }()
	go func() { _ = server.Run(ctx) }() // Ends with Shutdown, which reports.
	return server.Addr().String(), func() error { return server.Shutdown(context.WithoutCancel(ctx)) }, nil
}

// newServer returns a server that is listening.
func newServer(monitor *health.Monitor, logger *zap.Logger, signals *telemetry.Telemetry) (*grpcserver.Server, error) {
	server, err := grpcserver.New(grpcserver.Config{Addr: "127.0.0.1:0"}, monitor,
		grpcserver.WithLogger(logger),
		grpcserver.WithRegisterer(signals.Registry),
		grpcserver.WithTracerProvider(signals.TracerProvider),
		grpcserver.WithPropagator(signals.Propagator),
	)
	if err != nil {
		return nil, err
	}
	benchv1.RegisterEchoServiceServer(server, echo.Service{})
	server.OnShutdown(grpcserver.StageFlush, "telemetry", signals.Shutdown)
	return server, server.Listen()
}

func serveGRPC(server *grpc.Server) (string, func() error, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", nil, fmt.Errorf("listen: %w", err)
	}
	benchv1.RegisterEchoServiceServer(server, echo.Service{})
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	return listener.Addr().String(), func() error { server.Stop(); return <-served }, nil
}
