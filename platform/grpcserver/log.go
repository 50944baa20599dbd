package grpcserver

import (
	"context"
	"encoding/hex"
	"errors"
	"time"

	"go.opentelemetry.io/otel/trace"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/peer"

	"github.com/slipwayhq/slipway/platform/internal/correlation"
)

// outcome is how a call ended. It writes itself as the fields of the access log: never a
// payload, and the cause of an error only here.
type outcome struct {
	*call
	code    codes.Code
	err     error
	stack   []byte
	elapsed time.Duration
	span    trace.SpanContext

	correlation, peer, requested string
	hex                          [32]byte
	field                        [1]zap.Field
}

// log writes the call's one line and marks the span when the fault is ours.
func (o *outcome) log(ctx context.Context) {
	level := o.level()
	if level == zapcore.ErrorLevel {
		if span := trace.SpanFromContext(ctx); span.IsRecording() {
			span.RecordError(o.err)
		}
	}
	entry := o.logger.Check(level, "call finished")
	if entry == nil {
		return
	}
	o.correlation = correlation.ID(ctx)
	if o.code != codes.OK {
		if p, ok := peer.FromContext(ctx); ok {
			o.peer = p.Addr.String()
		}
	}
	if o.service == unknown {
		o.requested, _ = grpc.Method(ctx)
		o.requested = o.requested[:min(len(o.requested), correlationMax)]
	}
	o.field[0] = zap.Inline(o)
	entry.Write(o.field[:]...)
}

// level is error for what we did wrong, warning for what we could not do, and information
// for what is between a caller and its own mistakes.
func (o *outcome) level() zapcore.Level {
	switch o.code {
	case codes.Unknown, codes.Internal, codes.DataLoss:
		return zapcore.ErrorLevel
	case codes.DeadlineExceeded, codes.ResourceExhausted, codes.Unavailable, codes.Unimplemented:
		if !errors.Is(o.err, ErrDraining) {
			return zapcore.WarnLevel
		}
	}
	if o.public {
		return zapcore.DebugLevel
	}
	return zapcore.InfoLevel
}

// MarshalLogObject implements [zapcore.ObjectMarshaler].
func (o *outcome) MarshalLogObject(enc zapcore.ObjectEncoder) error {
	enc.AddString("grpc.code", o.code.String())
	enc.AddDuration("duration", o.elapsed)
	for _, f := range []struct{ key, value string }{
		{"principal", o.principal},
		{"peer", o.peer},
		{"grpc.requested", o.requested},
		{"correlation_id", o.correlation},
	} {
		if f.value != "" {
			enc.AddString(f.key, f.value)
		}
	}
	if o.span.IsValid() {
		traceID, spanID := o.span.TraceID(), o.span.SpanID()
		hex.Encode(o.hex[:], traceID[:])
		enc.AddByteString("trace_id", o.hex[:])
		hex.Encode(o.hex[:], spanID[:])
		enc.AddByteString("span_id", o.hex[:16])
	}
	if o.err != nil {
		enc.AddString("error", o.err.Error())
	}
	if o.stack != nil {
		enc.AddByteString("stack", o.stack)
	}
	return nil
}
