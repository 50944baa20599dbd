// Command chain measures what the chain around a handler costs the server: CPU time and
// allocations of a unary echo through bare grpc-go, through the chain that is usually put
// together by hand, and through Slipway's, in one run with interleaved rounds.
//
//	go run ./chain                  # from the folder bench
//	go run ./chain -profile /tmp/p  # also writes CPU and allocation profiles of the servers
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
		fmt.Fprintln(os.Stderr, "chain:", err)
		os.Exit(1)
	}
}
