// Command shopper is a customer of the order service: it places varied orders at a constant rate, some
// with cards that are declined and with articles that are sold out, repeats some with the same idempotency
// key, cancels and watches others, and at the end reads every order back. It fails if one that was
// acknowledged is lost or not as it was placed. With the addresses of the payment and the inventory service
// it also holds money and stock against the orders, and fails if an invariant is broken.
//
//	go run ./reference/shopper --orders 500 --rate 50
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}
