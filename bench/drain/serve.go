package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"syscall"

	"google.golang.org/grpc"

	benchv1 "github.com/slipwayhq/slipway/bench/gen/slipway/bench/v1"
	"github.com/slipwayhq/slipway/bench/internal/echo"
	"github.com/slipwayhq/slipway/bench/internal/process"
	"github.com/slipwayhq/slipway/platform/grpcserver"
	"github.com/slipwayhq/slipway/platform/health"
	"github.com/slipwayhq/slipway/platform/telemetry"
)

// Kinds of replicas.
const (
	slipway = "slipway"
	naive   = "naive"
)

// serve is what a replica does: it tells when it is ready and serves until SIGTERM, or until
// its input ends because the command is gone.
func serve(ctx context.Context, o options) error {
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGTERM)
	defer stop()
	switch o.serve {
	case slipway:
		return serveSlipway(ctx, o)
	case naive:
		return serveNaive(ctx, o)
	default:
		return fmt.Errorf("unknown kind of replica %q", o.serve)
	}
}

// announce tells the command that the replica is ready, and ends this process when the command
// is gone.
func announce(addr string) {
	go func() {
		_ = process.Serve(os.Stdin, os.Stdout, addr, func() (any, error) { return nil, errors.ErrUnsupported })
		os.Exit(1)
	}()
}

func serveSlipway(ctx context.Context, o options) error {
	signals, err := telemetry.New(ctx, telemetry.Config{Environment: telemetry.Production, ServiceName: "drain"}, io.Discard)
	if err != nil {
		return err
	}
	monitor, err := health.New(health.Config{}, nil, signals.Logger, signals.Registry)
	if err != nil {
		return err
	}
	server, err := newServer(o, monitor, signals) //nolint:contextcheck // calls have contexts of their own
	if err != nil {
		return err
	}
	go func() { _ = monitor.Run(context.WithoutCancel(ctx)) }()
	announce(o.addr)
	return server.Run(ctx)
}

// newServer returns a server that is listening.
func newServer(o options, monitor *health.Monitor, signals *telemetry.Telemetry) (*grpcserver.Server, error) {
	server, err := grpcserver.New(grpcserver.Config{Addr: o.addr, DrainDelay: o.delay}, monitor,
		grpcserver.WithLogger(signals.Logger),
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

// serveNaive is the shutdown of most templates.
func serveNaive(ctx context.Context, o options) error {
	lis, err := net.Listen("tcp", o.addr)
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	server := grpc.NewServer()
	benchv1.RegisterEchoServiceServer(server, echo.Service{})
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		<-ctx.Done()
		server.GracefulStop()
	}()
	announce(o.addr)
	err = server.Serve(lis)
	<-stopped
	return err
}
