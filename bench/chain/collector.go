package main

import (
	"context"
	"fmt"
	"net"
	"sync/atomic"

	collectorpb "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	"google.golang.org/grpc"
)

// collector takes spans over OTLP, counts them and forgets them, so that every variant that
// traces pays for exporting too. It runs beside the client, not in a measured process.
type collector struct {
	collectorpb.UnimplementedTraceServiceServer
	listener net.Listener
	server   *grpc.Server
	// services counts spans by the service.name of their resource.
	services map[string]*atomic.Int64
}

func startCollector() (*collector, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("listen for spans: %w", err)
	}
	c := &collector{listener: listener, server: grpc.NewServer(), services: make(map[string]*atomic.Int64)}
	for _, v := range variants {
		c.services[v.name] = new(atomic.Int64)
	}
	collectorpb.RegisterTraceServiceServer(c.server, c)
	go func() { _ = c.server.Serve(listener) }() // Ends with stop.
	return c, nil
}

func (c *collector) addr() string { return "http://" + c.listener.Addr().String() }

// spans is how many spans a variant has exported.
func (c *collector) spans(variant string) int64 { return c.services[variant].Load() }

func (c *collector) stop() { c.server.Stop() }

// Export implements [collectorpb.TraceServiceServer].
func (c *collector) Export(
	_ context.Context, req *collectorpb.ExportTraceServiceRequest,
) (*collectorpb.ExportTraceServiceResponse, error) {
	for _, resource := range req.GetResourceSpans() {
		var service string
		for _, attr := range resource.GetResource().GetAttributes() {
			if attr.GetKey() == "service.name" {
				service = attr.GetValue().GetStringValue()
			}
		}
		n, ok := c.services[service]
		if !ok {
			continue
		}
		for _, scope := range resource.GetScopeSpans() {
			n.Add(int64(len(scope.GetSpans())))
		}
	}
	return &collectorpb.ExportTraceServiceResponse{}, nil
}
