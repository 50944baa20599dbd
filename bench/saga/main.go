// Command saga measures Slipway's sagas against their peers on one PostgreSQL server that
// it starts and removes, with the same steps over loopback: how fast sagas of three steps
// run (B7), also when they are undone (B8), how soon others go on with those of a process
// that was killed (B9), what a million that wait cost and how fast a storm of them passes
// (B10), and what a saga costs in statements, log and CPU of the database (B12).
//
//	go run ./saga               # from the folder bench: all of them, about an hour
//	go run ./saga B7 B9         # some
//	go run ./saga -quick        # all of them, small, in a few minutes: for a look, not for figures
//
// Each benchmark prints one line that begins with its id to standard output, and what it
// does meanwhile to standard error. The peers are built from the folder peers, each with
// the versions that it was released with. The command exits with 1 when something could
// not run, and when Slipway loses or repeats what it must not.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:])
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "saga:", err)
		os.Exit(1)
	}
}
