package grpcclient

import (
	"context"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"github.com/slipwayhq/slipway/platform/internal/correlation"
)

// correlationHeader is for servers that read no baggage. An id that was not given but is the
// trace's own is not sent: it travels in the trace context.
const correlationHeader = "x-correlation-id"

func correlateUnary(
	ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption,
) error {
	return invoke(correlate(ctx), method, req, reply, cc, opts...)
}

func correlateStream(
	ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string, open grpc.Streamer, opts ...grpc.CallOption,
) (grpc.ClientStream, error) {
	return open(correlate(ctx), desc, cc, method, opts...)
}

// correlate writes the correlation id to the metadata, unless the caller did.
func correlate(ctx context.Context) context.Context {
	id := correlation.Given(ctx)
	if id == "" || strings.ContainsFunc(id, unprintable) {
		return ctx
	}
	if md, ok := metadata.FromOutgoingContext(ctx); ok && len(md.Get(correlationHeader)) > 0 {
		return ctx
	}
	return metadata.AppendToOutgoingContext(ctx, correlationHeader, id)
}

// unprintable runes in metadata would fail the call; baggage can carry them.
func unprintable(r rune) bool { return r < ' ' || r > '~' }
