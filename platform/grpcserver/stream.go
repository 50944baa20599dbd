package grpcserver

import (
	"context"

	"google.golang.org/grpc"
)

// serverStream is what a streaming handler sees: its own context, and validated requests.
type serverStream struct {
	grpc.ServerStream
	ctx    context.Context //nolint:containedctx // grpc.ServerStream is made that way
	server *Server
}

// Context implements [grpc.ServerStream].
func (s *serverStream) Context() context.Context { return s.ctx }

// RecvMsg returns as soon as the context ends. grpc-go's own waits for the client whatever
// the server's wishes, so that one idle stream could hold up the whole drain. The receive
// that is left behind ends with the stream, which the handler's return ends.
func (s *serverStream) RecvMsg(v any) error {
	if s.ctx.Err() != nil {
		return context.Cause(s.ctx)
	}
	in := &inbound{msg: v}
	received := make(chan error, 1)
	go func() { received <- s.ServerStream.RecvMsg(in) }()
	select {
	case err := <-received:
		return s.server.accept(in, err)
	case <-s.ctx.Done():
		return context.Cause(s.ctx)
	}
}
