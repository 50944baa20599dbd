package main

import (
	"google.golang.org/grpc"

	inventoryv1 "github.com/slipwayhq/slipway/gen/slipway/inventory/v1"
	orderv1 "github.com/slipwayhq/slipway/gen/slipway/order/v1"
	paymentv1 "github.com/slipwayhq/slipway/gen/slipway/payment/v1"
	"github.com/slipwayhq/slipway/platform/grpcclient"
)

// services are the clients of a run.
type services struct {
	orders    orderv1.OrderServiceClient         // for calls
	streams   orderv1.OrderServiceClient         // for watching, over a connection of its own
	payments  paymentv1.PaymentServiceClient     // nil if payments are not checked
	inventory inventoryv1.InventoryServiceClient // nil if stock is neither filled nor checked
	conns     []*grpc.ClientConn
}

// dial opens one connection for calls of each service and one for streams, so that many watched orders cannot
// use up the streams that a server allows on a connection. The client does not retry: the
// shopper repeats calls itself and counts them. It has no circuit breaker either: what it reports is what
// the service answered.
func dial(opts options) (*services, error) {
	s := &services{}
	for _, to := range []struct {
		target string
		use    func(grpc.ClientConnInterface)
	}{
		{opts.addr, func(c grpc.ClientConnInterface) { s.orders = orderv1.NewOrderServiceClient(c) }},
		{opts.addr, func(c grpc.ClientConnInterface) { s.streams = orderv1.NewOrderServiceClient(c) }},
		{opts.payment, func(c grpc.ClientConnInterface) { s.payments = paymentv1.NewPaymentServiceClient(c) }},
		{opts.inventory, func(c grpc.ClientConnInterface) { s.inventory = inventoryv1.NewInventoryServiceClient(c) }},
	} {
		if to.target == "" {
			continue
		}
		conn, err := grpcclient.Dial(opts.client(to.target), grpcclient.WithoutRetries())
		if err != nil {
			s.close()
			return nil, err
		}
		s.conns = append(s.conns, conn)
		to.use(conn)
	}
	return s, nil
}

func (s *services) close() {
	for _, conn := range s.conns {
		conn.Close()
	}
}

// client is how the shopper speaks with a service.
func (o options) client(target string) grpcclient.Config {
	return grpcclient.Config{
		Target: target, Insecure: !o.tls, TLS: grpcclient.TLS{CAFile: o.caFile}, BreakerDisabled: true,
	}
}
