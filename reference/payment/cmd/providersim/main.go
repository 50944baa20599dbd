// Command providersim is a payment provider for development and tests: see package providersim.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/slipwayhq/slipway/reference/payment/providersim"
)

func main() {
	addr := flag.String("addr", "127.0.0.1:8089", "where to serve; port 0 picks a free one")
	ledger := flag.String("ledger", "provider.jsonl", "file of everything that has happened; it is continued")
	flag.Parse()
	if err := run(*addr, *ledger); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(addr, ledger string) error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	server, err := providersim.Listen(addr, ledger)
	if err != nil {
		return err
	}
	fmt.Println("payment provider on", server.URL(), "with ledger", ledger)
	return server.Run(ctx)
}
