// Package echo implements the service that the benchmarks call.
package echo

import (
	"context"
	"time"

	"google.golang.org/grpc"

	benchv1 "github.com/slipwayhq/slipway/bench/gen/slipway/bench/v1"
)

// Service does what its requests ask for and nothing else.
type Service struct {
	benchv1.UnimplementedEchoServiceServer
}

// Echo implements [benchv1.EchoServiceServer].
func (Service) Echo(ctx context.Context, req *benchv1.EchoRequest) (*benchv1.EchoResponse, error) {
	if ms := req.GetWorkMs(); ms > 0 {
		select {
		case <-time.After(time.Duration(ms) * time.Millisecond):
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
	return &benchv1.EchoResponse{Payload: req.GetPayload()}, nil
}

// Tick implements [benchv1.EchoServiceServer]. It ends when its context does: what ends the
// context at the shutdown of a server is the server's affair.
func (Service) Tick(req *benchv1.TickRequest, stream grpc.ServerStreamingServer[benchv1.TickResponse]) error {
	ticker := time.NewTicker(time.Duration(req.GetIntervalMs()) * time.Millisecond)
	defer ticker.Stop()
	for n := uint64(1); ; n++ {
		if err := stream.Send(&benchv1.TickResponse{Sequence: n}); err != nil {
			return err
		}
		select {
		case <-ticker.C:
		case <-stream.Context().Done():
			return context.Cause(stream.Context())
		}
	}
}
