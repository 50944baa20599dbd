package telemetry_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"

	"go.uber.org/zap"

	"github.com/slipwayhq/slipway/platform/telemetry"
)

func Example() {
	ctx := context.Background()
	tel, err := telemetry.New(ctx, telemetry.Config{
		Environment: telemetry.Production,
		ServiceName: "order",
		PublicEdge:  true,
	}, os.Stderr)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = tel.Shutdown(context.Background()) }()

	ctx, span := tel.TracerProvider.Tracer("order").Start(ctx, "place order")
	defer span.End()
	telemetry.WithContext(ctx, tel.Logger).Info("order placed", zap.String("order_id", "o-1"))

	fmt.Println(len(telemetry.Fields(ctx)), "fields tie the line to its trace")
	// Output: 3 fields tie the line to its trace
}

func ExampleNew_refusesUnknownEnvironments() {
	_, err := telemetry.New(context.Background(), telemetry.Config{Environment: "prod"}, io.Discard)
	fmt.Println(err)
	// Output: configure telemetry: ENVIRONMENT: "prod" is no environment: use development, staging or production
}

func ExampleAdmin() {
	tel, err := telemetry.New(context.Background(), telemetry.Config{}, io.Discard)
	if err != nil {
		fmt.Println(err)
		return
	}
	admin, err := telemetry.NewAdmin(telemetry.AdminConfig{Addr: "127.0.0.1:0"}, tel, nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	if err := admin.Listen(); err != nil { // so that the start fails early when the port is taken
		fmt.Println(err)
		return
	}
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	done := make(chan error)
	go func() { done <- admin.Run(ctx) }()

	show("http://" + admin.Addr().String() + "/")
	stop()
	fmt.Println(<-done)
	// Output:
	// {"endpoints":["/healthz","/loglevel","/metrics","/readyz"]}
	// <nil>
}

func show(url string) {
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := client.Get(url)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer response.Body.Close()
	_, _ = io.Copy(os.Stdout, response.Body)
}
