// Command inventory is the inventory service.
package main

import (
	"os"

	"github.com/slipwayhq/slipway/reference/inventory/app"
)

func main() {
	os.Exit(app.Main(os.Args[1:], os.Environ(), os.Stdout, os.Stderr))
}
