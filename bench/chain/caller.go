package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	benchv1 "github.com/slipwayhq/slipway/bench/gen/slipway/bench/v1"
)

// callTimeout is the deadline that every call carries, as calls in production do.
const callTimeout = 10 * time.Second

// caller makes calls over several connections, a fixed number of them at once.
type caller struct {
	connections []*grpc.ClientConn
	clients     []benchv1.EchoServiceClient
	concurrent  int
	request     *benchv1.EchoRequest
}

func newCaller(addr string, o options) (*caller, error) {
	c := &caller{concurrent: o.concurrent, request: &benchv1.EchoRequest{Payload: make([]byte, o.payload)}}
	for range o.connections {
		conn, err := grpc.NewClient(addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
		if err != nil {
			return nil, fmt.Errorf("dial %s: %w", addr, err)
		}
		c.connections = append(c.connections, conn)
		c.clients = append(c.clients, benchv1.NewEchoServiceClient(conn))
	}
	return c, nil
}

// run makes so many calls and returns how long all of them took together. One that fails
// ends the run.
func (c *caller) run(ctx context.Context, calls int) (time.Duration, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var left atomic.Int64
	left.Store(int64(calls))
	start := time.Now()
	var wg sync.WaitGroup
	for i := range c.concurrent {
		client := c.clients[i%len(c.clients)]
		wg.Go(func() {
			for left.Add(-1) >= 0 && ctx.Err() == nil {
				if err := c.call(ctx, client); err != nil {
					cancel(err)
				}
			}
		})
	}
	wg.Wait()
	return time.Since(start), context.Cause(ctx)
}

func (c *caller) call(ctx context.Context, client benchv1.EchoServiceClient) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	response, err := client.Echo(ctx, c.request)
	if err != nil {
		return fmt.Errorf("call echo: %w", err)
	}
	if len(response.GetPayload()) != len(c.request.GetPayload()) {
		return errors.New("the echo differs from the call")
	}
	return nil
}

func (c *caller) close() {
	for _, conn := range c.connections {
		_ = conn.Close()
	}
}
