package grpcserver

import (
	"context"
	"fmt"
	"runtime/debug"
	"time"

	"go.opentelemetry.io/otel/baggage"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"

	"github.com/slipwayhq/slipway/platform/failpoint"
	"github.com/slipwayhq/slipway/platform/fault"
	"github.com/slipwayhq/slipway/platform/internal/correlation"
)

const (
	correlationHeader = "x-correlation-id"
	requestedMax      = 128
)

// call is one RPC from its first byte to its status.
type call struct {
	*method
	start     time.Time
	cancel    context.CancelFunc
	principal string
	in        inbound
	outcome
}

// unary serves a unary method. It stands in for grpc-go's own handling of one, so that
// decoding the request and sending the response belong to the call like its handler does.
func (s *Server) unary(m *method, handler grpc.MethodHandler) grpc.StreamHandler {
	return func(srv any, stream grpc.ServerStream) (err error) {
		c := m.begin()
		ctx := stream.Context()
		defer func() { err = s.end(ctx, c, err, recover()) }()
		if ctx, err = s.admit(ctx, c); err != nil {
			return err
		}
		receive := func(v any) error {
			c.in.msg = v
			return s.accept(&c.in, stream.RecvMsg(&c.in))
		}
		reply, err := handler(srv, ctx, receive, nil)
		if err != nil {
			return err
		}
		failpoint.At(failpoint.BeforeReply, m.name)
		err = stream.SendMsg(reply)
		failpoint.At(failpoint.AfterReply, m.name)
		return err
	}
}

// stream serves a streaming method. Its context ends with cause [ErrDraining] when streams
// are told to end.
func (s *Server) stream(m *method, handler grpc.StreamHandler) grpc.StreamHandler {
	return func(srv any, stream grpc.ServerStream) (err error) {
		c := m.begin()
		ctx := stream.Context()
		defer func() { err = s.end(ctx, c, err, recover()) }()
		if ctx, err = s.admit(ctx, c); err != nil {
			return err
		}
		ctx, cancel := context.WithCancelCause(ctx)
		c.cancel = func() { cancel(nil) }
		defer s.onDrain(func() { cancel(ErrDraining) })()
		return handler(srv, &serverStream{ServerStream: stream, ctx: ctx, server: s})
	}
}

func (m *method) begin() *call {
	m.started.Inc()
	m.inFlight.Add(1)
	return &call{method: m, start: time.Now()}
}

// admit decides whether a call may go on and returns the context that it goes on with.
func (s *Server) admit(ctx context.Context, c *call) (context.Context, error) {
	ctx, err := s.bound(correlate(ctx), c)
	if err != nil || c.public {
		return ctx, err
	}
	if s.opts.authenticator != nil {
		p, err := s.opts.authenticator(ctx, c.full)
		if err != nil {
			return ctx, err
		}
		c.principal = p.ID
		ctx = ContextWithPrincipal(ctx, p)
	}
	if s.opts.rateLimit != nil {
		return ctx, s.opts.rateLimit(ctx, c.full)
	}
	return ctx, nil
}

// correlate takes over the id that the caller gave, in a header or as baggage, once it is
// safe to pass on.
func correlate(ctx context.Context) context.Context {
	given := baggage.FromContext(ctx).Member(correlation.Key).Value()
	id := given
	if ids := metadata.ValueFromIncomingContext(ctx, correlationHeader); len(ids) > 0 {
		id = ids[0]
	}
	if id = correlation.Sanitize(id); id == given {
		return ctx
	}
	return correlation.With(ctx, id)
}

// bound holds the call's deadline between the floor and, for unary calls, the ceiling.
func (s *Server) bound(ctx context.Context, c *call) (context.Context, error) {
	left := s.cfg.MaxDeadline + 1
	if deadline, ok := ctx.Deadline(); ok {
		if left = deadline.Sub(c.start); left < s.cfg.MinDeadline {
			return ctx, errDeadlineTooShort
		}
	}
	if c.kind == kindUnary && left > s.cfg.MaxDeadline {
		ctx, c.cancel = context.WithTimeout(ctx, s.cfg.MaxDeadline)
	}
	return ctx, nil
}

// accept takes a request message that was received: it must be one, and valid.
func (s *Server) accept(in *inbound, received error) error {
	if received != nil {
		return received
	}
	if in.err != nil {
		return fault.Wrap(in.err, fault.InvalidArgument, "malformed request message")
	}
	if msg, ok := in.msg.(proto.Message); ok {
		return s.validate(msg)
	}
	return nil
}

// end turns what became of a call into the status that the client sees, counts it and logs
// it, all in one place and once.
func (s *Server) end(ctx context.Context, c *call, err error, panicked any) error {
	c.elapsed, c.span, c.err = time.Since(c.start), trace.SpanContextFromContext(ctx), err
	if panicked != nil {
		c.err, c.stack = fmt.Errorf("handler panicked: %v", panicked), debug.Stack()
		s.metrics.panics.Inc()
	}
	if drained(ctx, c.err) {
		c.err = ErrDraining
	}
	if c.err != nil {
		st := s.status(ctx, c.method, c.err)
		c.code, err = st.Code(), st.Err()
	}
	if c.cancel != nil {
		c.cancel()
	}
	c.inFlight.Add(-1)
	c.observe(c.code, c.elapsed, c.span)
	c.log(ctx)
	return err
}

// unknownMethod answers calls of services and methods that are not registered, and counts
// them under one pair of labels.
func (s *Server) unknownMethod(m *method) grpc.StreamHandler {
	return s.stream(m, func(any, grpc.ServerStream) error {
		return fault.New(fault.Unimplemented, "unknown service or method")
	})
}
