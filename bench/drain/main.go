// Command drain restarts two replicas in turn, under load and with streams open, and counts the
// calls that failed. The client never retries, so that it hides nothing.
//
//	go run ./drain         # from the folder bench; less than six minutes
//	go run ./drain -short  # three restarts each
//
// It exits with 1 when Slipway's server loses a call, exits late or with an error, or holds a
// stream up, and also when the control, which kills replicas, loses nothing: then the count
// could not be trusted.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := run(ctx, os.Args[1:])
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "drain:", err)
		os.Exit(1)
	}
}
