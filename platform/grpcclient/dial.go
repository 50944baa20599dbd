package grpcclient

import (
	"context"
	"fmt"
	"time"

	"go.opentelemetry.io/contrib/instrumentation/google.golang.org/grpc/otelgrpc"
	metricnoop "go.opentelemetry.io/otel/metric/noop"
	"go.opentelemetry.io/otel/propagation"
	tracenoop "go.opentelemetry.io/otel/trace/noop"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/keepalive"
)

// connectParams let clients find a restarted server within seconds, and spread them so that
// they do not all come back at once.
var connectParams = grpc.ConnectParams{
	Backoff:           backoff.Config{BaseDelay: 100 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: 5 * time.Second},
	MinConnectTimeout: 3 * time.Second,
}

// Dial prepares a connection, which connects when it is first called and as often as it
// must. It returns an error only for settings that cannot work, a file that cannot be read
// or a service that is not linked in. The caller closes the connection.
func Dial(cfg Config, opts ...Option) (*grpc.ClientConn, error) {
	cfg.SetDefaults()
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("check gRPC client config: %w", err)
	}
	var o options
	for _, opt := range opts {
		opt(&o)
	}
	dialOptions, err := o.dialOptions(cfg)
	if err != nil {
		return nil, fmt.Errorf("dial %s: %w", cfg.Target, err)
	}
	conn, err := grpc.NewClient(cfg.Target, dialOptions...)
	if err != nil {
		return nil, fmt.Errorf("dial %s: %w", cfg.Target, err)
	}
	return conn, nil
}

func (o *options) dialOptions(cfg Config) ([]grpc.DialOption, error) {
	creds, err := cfg.credentials()
	if err != nil {
		return nil, err
	}
	attempts := cfg.MaxAttempts
	if o.noRetries {
		attempts = 1
	}
	services, err := findServices(o.services)
	if err != nil {
		return nil, err
	}
	config, err := newServiceConfig(services, attempts)
	if err != nil {
		return nil, err
	}
	m, err := newMetrics(o.registerer)
	if err != nil {
		return nil, err
	}
	m.create(services)
	g, err := newGuard(cfg, o.breakers, o.registerer)
	if err != nil {
		return nil, err
	}
	var dial []grpc.DialOption
	if cfg.TokenFile != "" {
		t, err := newToken(cfg.TokenFile, !cfg.Insecure)
		if err != nil {
			return nil, err
		}
		dial = append(dial, grpc.WithPerRPCCredentials(t))
	}
	dial = append(dial,
		grpc.WithTransportCredentials(creds),
		grpc.WithDefaultServiceConfig(config),
		// A TXT record in DNS must not replace the retry policy and its budget.
		grpc.WithDisableServiceConfig(),
		grpc.WithConnectParams(connectParams),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{
			Time: cfg.KeepaliveTime, Timeout: cfg.KeepaliveTimeout, PermitWithoutStream: true,
		}),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(cfg.MaxRecvBytes), grpc.MaxCallSendMsgSize(cfg.MaxSendBytes)),
		grpc.WithChainUnaryInterceptor(m.unary, deadline(cfg.Timeout), g.unary, correlateUnary),
		grpc.WithChainStreamInterceptor(m.stream, g.stream, correlateStream),
	)
	return append(append(dial, o.tracing()...), o.dial...), nil
}

// tracing never leaves a provider or propagator unset: otelgrpc would take the global one.
func (o *options) tracing() []grpc.DialOption {
	if o.tracers == nil && o.propagator == nil {
		return nil
	}
	tracers, propagator := o.tracers, o.propagator
	if tracers == nil {
		tracers = tracenoop.NewTracerProvider()
	}
	if propagator == nil {
		propagator = propagation.NewCompositeTextMapPropagator()
	}
	return []grpc.DialOption{grpc.WithStatsHandler(otelgrpc.NewClientHandler(
		otelgrpc.WithTracerProvider(tracers),
		otelgrpc.WithPropagators(propagator),
		otelgrpc.WithMeterProvider(metricnoop.NewMeterProvider()),
	))}
}

// deadline bounds calls whose contexts do not.
func deadline(timeout time.Duration) grpc.UnaryClientInterceptor {
	return func(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
		if _, ok := ctx.Deadline(); !ok {
			var cancel context.CancelFunc
			ctx, cancel = context.WithTimeout(ctx, timeout)
			defer cancel()
		}
		return invoke(ctx, method, req, reply, cc, opts...)
	}
}
