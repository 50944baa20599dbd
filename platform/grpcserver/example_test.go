package grpcserver_test

import (
	"context"
	"fmt"

	orderv1 "github.com/slipwayhq/slipway/gen/slipway/order/v1"
	"github.com/slipwayhq/slipway/platform/grpcserver"
	"github.com/slipwayhq/slipway/platform/health"
)

func Example() {
	monitor, err := health.New(health.Config{}, nil, nil, nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	server, err := grpcserver.New(grpcserver.Config{Addr: "127.0.0.1:0"}, monitor)
	if err != nil {
		fmt.Println(err)
		return
	}
	orderv1.RegisterOrderServiceServer(server, &orders{})

	step := func(name string) func(context.Context) error {
		return func(context.Context) error {
			fmt.Println("stop:", name)
			return nil
		}
	}
	server.OnShutdown(grpcserver.StageClose, "postgres", step("postgres"))
	server.OnShutdown(grpcserver.StageClose, "redis", step("redis"))
	server.OnShutdown(grpcserver.StageIntake, "relay", step("relay"))
	server.OnShutdown(grpcserver.StageFlush, "telemetry", step("telemetry"))

	// Usually signal.NotifyContext makes the context that ends.
	ctx, stop := context.WithCancel(context.Background())
	stop()
	fmt.Println("run:", server.Run(ctx))
	// Output:
	// stop: relay
	// stop: redis
	// stop: postgres
	// stop: telemetry
	// run: <nil>
}
