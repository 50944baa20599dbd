package grpcclient

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/slipwayhq/slipway/platform/breaker"
)

// guard asks circuit breakers whether calls are made. It stands before gRPC's retries, so that
// a call is one call to it, whatever its attempts.
type guard struct {
	breakers *breaker.Group // nil if they are disabled
	// silence is how long a stream is waited for.
	silence time.Duration
}

var fullMethod = regexp.MustCompile(`^/[^/]+/[^/]+$`)

func newGuard(cfg Config, methods map[string]breaker.Config, reg prometheus.Registerer) (*guard, error) {
	g := &guard{silence: cfg.Timeout}
	if cfg.BreakerDisabled {
		return g, nil
	}
	for method := range methods {
		if !fullMethod.MatchString(method) {
			return nil, fmt.Errorf("make circuit breaker of %q: not the full name of a method", method)
		}
	}
	if cfg.Breaker.Classify == nil {
		cfg.Breaker.Classify = classify
	}
	var err error
	if g.breakers, err = breaker.NewGroup(cfg.Breaker, methods, reg); err != nil {
		return nil, err
	}
	return g, nil
}

// of returns the breaker of a method, or nil for none.
func (g *guard) of(method string) *breaker.Breaker {
	if g.breakers == nil {
		return nil
	}
	// These are how somebody finds out whether a server is well.
	probes := strings.HasPrefix(method, "/grpc.health.") || strings.HasPrefix(method, "/grpc.reflection.")
	if probes && !g.breakers.Has(method) {
		return nil
	}
	return g.breakers.Of(method)
}

func (g *guard) unary(
	ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption,
) error {
	b := g.of(method)
	if b == nil {
		return invoke(ctx, method, req, reply, cc, opts...)
	}
	return statusOf(b.Do(ctx, func(ctx context.Context) error {
		return invoke(ctx, method, req, reply, cc, opts...)
	}))
}

// stream judges a stream by what comes first: an error, at its opening or later, a message, its
// end, or a silence.
func (g *guard) stream(
	ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string, open grpc.Streamer, opts ...grpc.CallOption,
) (grpc.ClientStream, error) {
	b := g.of(method)
	if b == nil {
		return open(ctx, desc, cc, method, opts...)
	}
	done, err := b.Begin(ctx)
	if err != nil {
		return nil, statusOf(err)
	}
	silence := time.AfterFunc(g.silence, func() { done(silent(b)) })
	first := func(err error) {
		silence.Stop()
		done(err)
	}
	stream, err := open(ctx, desc, cc, method, append(opts, grpc.OnFinish(first))...)
	if err != nil {
		first(err)
		return nil, err
	}
	return &guardedStream{ClientStream: stream, first: first}, nil
}

// silent is what a stream counts as that says nothing for long: usually nothing, because it may
// wait for news, or for a server that hangs. Half open it is a success, since a target with
// no other streams would never leave that state.
func silent(b *breaker.Breaker) error {
	if b.State() == breaker.HalfOpen {
		return nil
	}
	return context.Canceled
}

type guardedStream struct {
	grpc.ClientStream
	first func(error)
}

// RecvMsg reports a message. An error is reported by the end of the stream.
func (s *guardedStream) RecvMsg(m any) error {
	err := s.ClientStream.RecvMsg(m)
	if err == nil {
		s.first(nil)
	}
	return err
}

// classify counts what a server that is not well answers, or what stands for no answer. A server that
// finds fault with a request is well.
func classify(err error) breaker.Outcome {
	switch codeOf(err) {
	case codes.Unavailable, codes.DeadlineExceeded, codes.Internal, codes.Unknown, codes.DataLoss:
		return breaker.Failure
	// Taken back; not sent for want of a credential, or for its size; or refused to one caller that
	// asks too often, which is no reason to keep the others away.
	case codes.Canceled, codes.Unauthenticated, codes.ResourceExhausted:
		return breaker.Ignored
	default:
		return breaker.Success
	}
}

// codeOf knows the errors of contexts as well, with which streams end.
func codeOf(err error) codes.Code {
	if s, ok := status.FromError(err); ok {
		return s.Code()
	}
	return status.FromContextError(err).Code()
}

// statusOf turns what a breaker returns without a call into what a call returns.
func statusOf(err error) error {
	if err == nil {
		return nil
	}
	if no := (*breaker.RejectedError)(nil); errors.As(err, &no) {
		return reject(no)
	}
	if _, ok := status.FromError(err); !ok {
		if ended := status.FromContextError(err); ended.Code() != codes.Unknown {
			return ended.Err()
		}
	}
	return err
}

// rejected is a call that was not made: UNAVAILABLE to whoever looks at codes, a
// [breaker.RejectedError] to errors.As.
type rejected struct {
	cause  *breaker.RejectedError
	status *status.Status
}

func reject(cause *breaker.RejectedError) error {
	s := status.New(codes.Unavailable, "call not made: "+cause.Error())
	if detailed, err := s.WithDetails(&errdetails.RetryInfo{RetryDelay: durationpb.New(cause.RetryAfter)}); err == nil {
		s = detailed
	}
	return &rejected{cause: cause, status: s}
}

func (r *rejected) Error() string              { return r.status.Err().Error() }
func (r *rejected) Unwrap() error              { return r.cause }
func (r *rejected) GRPCStatus() *status.Status { return r.status }
