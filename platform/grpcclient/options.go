package grpcclient

import (
	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc"

	"github.com/slipwayhq/slipway/platform/breaker"
)

// Option adds a collaborator to a connection, or changes what it does with calls.
type Option func(*options)

type options struct {
	registerer prometheus.Registerer
	tracers    trace.TracerProvider
	propagator propagation.TextMapPropagator
	services   []string
	noRetries  bool
	breakers   map[string]breaker.Config
	dial       []grpc.DialOption
}

// WithTracerProvider traces calls; default none is.
func WithTracerProvider(p trace.TracerProvider) Option { return func(o *options) { o.tracers = p } }

// WithPropagator writes trace context and baggage, the correlation id with it, to the
// metadata; default neither is.
func WithPropagator(p propagation.TextMapPropagator) Option {
	return func(o *options) { o.propagator = p }
}

// WithRegisterer registers the metrics of calls; default they are kept but not exposed.
// Connections with the same registerer share their series.
func WithRegisterer(r prometheus.Registerer) Option { return func(o *options) { o.registerer = r } }

// WithServices names the services that are called, in full, as in
// orderv1.OrderService_ServiceDesc.ServiceName: the methods of theirs that may be repeated are
// retried, and all their series exist from the start. Their generated code must be linked
// in. Default nothing is retried.
func WithServices(names ...string) Option {
	return func(o *options) { o.services = append(o.services, names...) }
}

// WithoutRetries leaves every retry to the caller, for one that has a loop of its own:
// nested retries multiply.
func WithoutRetries() Option { return func(o *options) { o.noRetries = true } }

// WithoutRetry is for one call whose request must leave this process at most once, though its
// method may be repeated.
func WithoutRetry() grpc.CallOption {
	// A request that fits into no buffer cannot be sent again.
	return grpc.MaxRetryRPCBufferSize(0)
}

// WithMethodBreaker gives a method a circuit breaker of its own instead of the one of the
// connection: neither hears of the calls of the other. The method is named in full, as in
// orderv1.OrderService_GetOrder_FullMethodName. What is zero in cfg is as in [Config].Breaker; the
// name is that breaker's and the method's by default.
func WithMethodBreaker(method string, cfg breaker.Config) Option {
	return func(o *options) {
		if o.breakers == nil {
			o.breakers = map[string]breaker.Config{}
		}
		o.breakers[method] = cfg
	}
}

// WithDialOptions appends options of gRPC; they win over those made from [Config].
// Interceptors run after the deadline was set and the circuit breaker was asked.
func WithDialOptions(opts ...grpc.DialOption) Option {
	return func(o *options) { o.dial = append(o.dial, opts...) }
}
