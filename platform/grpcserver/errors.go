package grpcserver

import (
	"context"
	"errors"

	"buf.build/go/protovalidate"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/protoadapt"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/slipwayhq/slipway/platform/fault"
)

// ErrDraining is the cause with which the contexts of streaming handlers end when the
// server shuts down. A handler that returns it, or the context's error, ends its stream
// with UNAVAILABLE "server is draining".
var ErrDraining = errors.New("server is draining")

var errDeadlineTooShort = fault.New(fault.DeadlineExceeded, "the deadline is too short to begin")

// faultCodes maps a fault's code to the one on the wire. Unknown is not sent: it tells a
// client no more than INTERNAL and clients treat it worse.
var faultCodes = map[fault.Code]codes.Code{
	fault.Unknown:            codes.Internal,
	fault.Canceled:           codes.Canceled,
	fault.InvalidArgument:    codes.InvalidArgument,
	fault.DeadlineExceeded:   codes.DeadlineExceeded,
	fault.NotFound:           codes.NotFound,
	fault.AlreadyExists:      codes.AlreadyExists,
	fault.PermissionDenied:   codes.PermissionDenied,
	fault.ResourceExhausted:  codes.ResourceExhausted,
	fault.FailedPrecondition: codes.FailedPrecondition,
	fault.Aborted:            codes.Aborted,
	fault.Unimplemented:      codes.Unimplemented,
	fault.Internal:           codes.Internal,
	fault.Unavailable:        codes.Unavailable,
	fault.Unauthenticated:    codes.Unauthenticated,
}

// status is what the client is told of err, in this order: the drain, a fault in the chain,
// a status that the handler made itself, the end of the call's own context, the error
// table. What nothing of these explains is INTERNAL with a fixed text.
func (s *Server) status(ctx context.Context, m *method, err error) *status.Status {
	if errors.Is(err, ErrDraining) {
		return status.New(codes.Unavailable, ErrDraining.Error())
	}
	f, ok := fault.From(err)
	if !ok {
		if st := deliberate(err); st != nil {
			if st.Code() == codes.Unavailable && errors.Is(ctx.Err(), context.Canceled) {
				// What grpc-go says when the client's connection is gone; that is no outage.
				return status.New(codes.Canceled, "call canceled")
			}
			return st
		}
		f = s.classify(ctx, err)
	}
	return render(ctx, m, f)
}

// drained reports whether err is a stream's answer to being told to end.
func drained(ctx context.Context, err error) bool {
	return errors.Is(err, ErrDraining) ||
		errors.Is(context.Cause(ctx), ErrDraining) && canceled(err)
}

func canceled(err error) bool {
	return errors.Is(err, context.Canceled) || status.Code(err) == codes.Canceled
}

// deliberate returns what may be passed on of a status that a handler returned as it is,
// or nil. Codes of the caller's making keep their text. A status of any other code may come
// from a server behind this one, with addresses and causes in it: it keeps the code or, if
// even that says nothing, neither.
func deliberate(err error) *status.Status {
	// Not errors.As: a status that is wrapped is a cause, not an answer.
	own, ok := err.(interface{ GRPCStatus() *status.Status })
	if !ok {
		return nil
	}
	st := own.GRPCStatus()
	switch st.Code() {
	case codes.InvalidArgument, codes.NotFound, codes.AlreadyExists, codes.PermissionDenied,
		codes.FailedPrecondition, codes.Aborted, codes.OutOfRange, codes.Unimplemented, codes.ResourceExhausted:
		return st
	case codes.Canceled:
		return status.New(codes.Canceled, "call canceled")
	case codes.DeadlineExceeded:
		return status.New(codes.DeadlineExceeded, "deadline exceeded")
	case codes.Unavailable:
		return status.New(codes.Unavailable, "unavailable")
	case codes.Unauthenticated:
		return status.New(codes.Unauthenticated, "unauthenticated")
	default:
		return nil
	}
}

// classify finds the fault for an error that is none. A cancelled context counts as the
// caller's cancellation only if the call's own context ended: one that was cancelled inside
// the service is a failure of the service.
func (s *Server) classify(ctx context.Context, err error) *fault.Error {
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		switch {
		case errors.Is(ctx.Err(), context.DeadlineExceeded):
			return fault.Wrap(err, fault.DeadlineExceeded, "deadline exceeded")
		case ctx.Err() != nil:
			return fault.Wrap(err, fault.Canceled, "call canceled")
		}
	}
	f := s.opts.errors.Classify(err)
	if f.Code == fault.Canceled {
		return fault.Wrap(err, fault.Internal, "internal error")
	}
	return f
}

// render writes a fault as a status with the details that a client can act on.
func render(ctx context.Context, m *method, f *fault.Error) *status.Status {
	code, ok := faultCodes[f.Code]
	if !ok {
		code = codes.Internal
	}
	st := status.New(code, f.Message)
	var details []protoadapt.MessageV1
	if len(f.Violations) > 0 {
		bad := &errdetails.BadRequest{}
		for _, v := range f.Violations {
			bad.FieldViolations = append(bad.FieldViolations,
				&errdetails.BadRequest_FieldViolation{Field: v.Field, Description: v.Description})
		}
		details = append(details, bad)
	}
	if f.Reason != "" {
		details = append(details, &errdetails.ErrorInfo{Reason: f.Reason, Domain: m.service})
	}
	if f.RetryAfter > 0 {
		details = append(details, &errdetails.RetryInfo{RetryDelay: durationpb.New(f.RetryAfter)})
	}
	if span := trace.SpanContextFromContext(ctx); code == codes.Internal && span.HasTraceID() {
		details = append(details, &errdetails.RequestInfo{RequestId: span.TraceID().String()})
	}
	if len(details) == 0 {
		return st
	}
	detailed, err := st.WithDetails(details...)
	if err != nil {
		return st
	}
	return detailed
}

// validate applies the rules in msg's definition.
func (s *Server) validate(msg proto.Message) error {
	err := s.validator.Validate(msg)
	if err == nil {
		return nil
	}
	var invalid *protovalidate.ValidationError
	if !errors.As(err, &invalid) {
		return err
	}
	violations := make([]fault.Violation, len(invalid.Violations))
	for i, v := range invalid.Violations {
		violations[i] = fault.Violation{
			Field:       protovalidate.FieldPathString(v.Proto.GetField()),
			Description: describe(v),
		}
	}
	return fault.Invalid(violations...)
}

// describe names the rule when it has no text of its own.
func describe(v *protovalidate.Violation) string {
	if text := v.Proto.GetMessage(); text != "" {
		return text
	}
	return "violates " + v.Proto.GetRuleId()
}
