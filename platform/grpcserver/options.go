package grpcserver

import (
	"context"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
	"go.uber.org/zap"

	"github.com/slipwayhq/slipway/platform/fault"
)

// Option adds a collaborator to a [Server]; a nil one leaves the default.
type Option func(*options)

type options struct {
	logger        *zap.Logger
	registerer    prometheus.Registerer
	tracers       trace.TracerProvider
	propagator    propagation.TextMapPropagator
	authenticator AuthenticatorFunc
	rateLimit     RateLimitFunc
	errors        fault.Table
}

// AuthenticatorFunc tells who makes a call, from the metadata or the peer in ctx. Any error
// refuses the call: return a fault with code Unauthenticated for bad credentials; another
// error means that the credentials could not be checked.
type AuthenticatorFunc func(ctx context.Context, fullMethod string) (Principal, error)

// RateLimitFunc refuses a call by returning an error, usually a fault with code
// ResourceExhausted and the time to retry after. The principal is in ctx.
type RateLimitFunc func(ctx context.Context, fullMethod string) error

// WithLogger logs one line a call and the steps of the shutdown; default nothing.
func WithLogger(l *zap.Logger) Option {
	return func(o *options) {
		if l != nil {
			o.logger = l
		}
	}
}

// WithRegisterer registers the server's metrics; default they are kept but not exposed.
func WithRegisterer(r prometheus.Registerer) Option { return func(o *options) { o.registerer = r } }

// WithTracerProvider traces calls; default none is.
func WithTracerProvider(p trace.TracerProvider) Option { return func(o *options) { o.tracers = p } }

// WithPropagator reads trace context and baggage from the metadata; default neither is.
func WithPropagator(p propagation.TextMapPropagator) Option {
	return func(o *options) {
		if p != nil {
			o.propagator = p
		}
	}
}

// WithAuthenticator asks f about every call but those of the health service; default every
// call is admitted, without a principal.
func WithAuthenticator(f AuthenticatorFunc) Option { return func(o *options) { o.authenticator = f } }

// WithRateLimit asks f about every authenticated call but those of the health service.
func WithRateLimit(f RateLimitFunc) Option { return func(o *options) { o.rateLimit = f } }

// WithErrors classifies the errors that handlers return and that are no faults themselves;
// what the table does not name is answered with INTERNAL and a fixed text.
func WithErrors(t fault.Table) Option { return func(o *options) { o.errors = t } }
