package health_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/slipwayhq/slipway/platform/health"
)

func Example() {
	monitor, err := health.New(
		health.Config{Critical: []string{"postgres"}},
		[]health.Dependency{
			{Name: "postgres", Check: func(context.Context) error { return nil }},
			{Name: "redis", Check: func(context.Context) error { return errors.New("connection refused") }},
		},
		nil, nil, // no logger, no metrics
	)
	if err != nil {
		fmt.Println(err)
		return
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- monitor.Run(ctx) }()
	for monitor.Ready() != nil || monitor.Status()[1].Checked.IsZero() {
		time.Sleep(time.Millisecond)
	}

	for _, d := range monitor.Status() {
		fmt.Println(d.Name, "up:", d.Up, "critical:", d.Critical, d.Err)
	}
	fmt.Println("ready:", monitor.Ready())
	monitor.Drain()
	fmt.Println("ready:", monitor.Ready())
	stop()
	fmt.Println("run:", <-done)
	// Output:
	// postgres up: true critical: true <nil>
	// redis up: false critical: false connection refused
	// ready: <nil>
	// ready: draining
	// run: <nil>
}
