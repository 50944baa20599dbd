// Command outbox measures Slipway's outbox against its peers on one PostgreSQL server
// that it starts and removes: how fast a backlog drains (B1), how long an event takes
// to its consumer (B2), what it costs the producer (B3), what a long transaction does
// to it (B4), whether events get lost or out of order (B5), how fast they go into
// JetStream (B6), what an event costs in statements and log (B12), and whether an
// inbox stays as fast when it remembers much (B13).
//
//	go run ./outbox               # from the folder bench: all of them, about two hours
//	go run ./outbox B1 B5         # some
//	go run ./outbox -quick        # all of them, small, in a few minutes: for a look, not for figures
//
// Each benchmark prints one line that begins with its id to standard output, and what
// it does meanwhile to standard error. The command exits with 1 when something could
// not run; when Slipway's outbox loses an event or breaks their order in B5, and when
// none of the peers does there: then the count could not be trusted; and, unless the
// run is quick, when it is less than 3 times as fast as the fastest peer or 60 times as
// watermill-sql's default in B1, leaves dead rows or unpublished events in B4, or makes
// more than 5 statements a second for nothing in B12. The figures of the others depend
// on the disk and on what else the machine does: they are for a reader to judge.
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
		fmt.Fprintln(os.Stderr, "outbox:", err)
		os.Exit(1)
	}
}
