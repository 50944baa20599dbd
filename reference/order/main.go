// Command order is the order service.
package main

import (
	"os"

	"github.com/slipwayhq/slipway/reference/order/app"
)

func main() {
	os.Exit(app.Main(os.Args[1:], os.Environ(), os.Stdout, os.Stderr))
}
