package grpcclient_test

import (
	"context"
	"fmt"
	"net"

	"google.golang.org/grpc"

	orderv1 "github.com/slipwayhq/slipway/gen/slipway/order/v1"
	"github.com/slipwayhq/slipway/platform/grpcclient"
)

type shop struct {
	orderv1.UnimplementedOrderServiceServer
}

func (shop) GetOrder(_ context.Context, r *orderv1.GetOrderRequest) (*orderv1.GetOrderResponse, error) {
	return &orderv1.GetOrderResponse{Order: &orderv1.Order{Id: r.GetOrderId()}}, nil
}

func ExampleDial() {
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		fmt.Println(err)
		return
	}
	server := grpc.NewServer()
	orderv1.RegisterOrderServiceServer(server, shop{})
	go func() { _ = server.Serve(lis) }()
	defer server.Stop()

	conn, err := grpcclient.Dial(
		grpcclient.Config{Target: lis.Addr().String(), Insecure: true},
		grpcclient.WithServices(orderv1.OrderService_ServiceDesc.ServiceName),
	)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = conn.Close() }()

	answer, err := orderv1.NewOrderServiceClient(conn).GetOrder(context.Background(), &orderv1.GetOrderRequest{OrderId: "42"})
	fmt.Println(answer.GetOrder().GetId(), err)
	// Output: 42 <nil>
}
