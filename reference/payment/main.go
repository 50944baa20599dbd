// Command payment is the payment service.
package main

import (
	"os"

	"github.com/slipwayhq/slipway/reference/payment/app"
)

func main() {
	os.Exit(app.Main(os.Args[1:], os.Environ(), os.Stdout, os.Stderr))
}
