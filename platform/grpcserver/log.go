package grpcserver

import (
	"context"
	"encoding/hex"
	"errors"
	"strings"
	"time"

	"go.opentelemetry.io/otel/trace"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/peer"

	"github.com/slipwayhq/slipway/platform/fault"
	"github.com/slipwayhq/slipway/platform/internal/correlation"
)

// outcome is how a call ended. It writes itself as the fields of the access log: never a
// payload, and the cause of an error only here.
type outcome struct {
	code    codes.Code
	err     error
	stack   []byte
	elapsed time.Duration
	span    trace.SpanContext

	correlation, peer, requested string

	hex   [32]byte
	field [1]zap.Field
}

// log writes the call's one line and marks the span when the fault is ours.
func (c *call) log(ctx context.Context) {
	level := c.level()
	if level == zapcore.ErrorLevel {
		if span := trace.SpanFromContext(ctx); span.IsRecording() {
			span.RecordError(c.err)
		}
	}
	entry := c.logger.Check(level, "call finished")
	if entry == nil {
		return
	}
	c.correlation = correlation.ID(ctx)
	if c.code != codes.OK {
		if p, ok := peer.FromContext(ctx); ok {
			c.peer = p.Addr.String()
		}
	}
	if c.service == unknown {
		c.requested, _ = grpc.Method(ctx)
		c.requested = c.requested[:min(len(c.requested), requestedMax)]
	}
	c.field[0] = zap.Inline(c)
	entry.Write(c.field[:]...)
}

// level is error for what we did wrong, warning for what we could not do, and information
// for what is between a caller and its own mistakes.
func (c *call) level() zapcore.Level {
	switch c.code {
	case codes.Unknown, codes.Internal, codes.DataLoss:
		return zapcore.ErrorLevel
	case codes.DeadlineExceeded, codes.ResourceExhausted, codes.Unavailable, codes.Unimplemented:
		if !errors.Is(c.err, ErrDraining) {
			return zapcore.WarnLevel
		}
	default:
	}
	if c.public {
		return zapcore.DebugLevel
	}
	return zapcore.InfoLevel
}

// MarshalLogObject implements [zapcore.ObjectMarshaler].
func (c *call) MarshalLogObject(enc zapcore.ObjectEncoder) error {
	enc.AddString("grpc.code", c.code.String())
	enc.AddDuration("duration", c.elapsed)
	for _, f := range []struct{ key, value string }{
		{"principal", c.principal},
		{"peer", c.peer},
		{"grpc.requested", c.requested},
		{"correlation_id", c.correlation},
	} {
		if f.value != "" {
			enc.AddString(f.key, f.value)
		}
	}
	if c.span.IsValid() {
		traceID, spanID := c.span.TraceID(), c.span.SpanID()
		hex.Encode(c.hex[:], traceID[:])
		enc.AddByteString("trace_id", c.hex[:])
		hex.Encode(c.hex[:], spanID[:])
		enc.AddByteString("span_id", c.hex[:16])
	}
	if c.err != nil {
		enc.AddString("error", c.err.Error())
		if fields := violated(c.err); fields != "" {
			enc.AddString("violations", fields)
		}
	}
	if c.stack != nil {
		enc.AddByteString("stack", c.stack)
	}
	return nil
}

// violated names the fields that a request was refused for.
func violated(err error) string {
	f, ok := fault.From(err)
	if !ok {
		return ""
	}
	fields := make([]string, len(f.Violations))
	for i, v := range f.Violations {
		fields[i] = v.Field
	}
	return strings.Join(fields, ", ")
}
