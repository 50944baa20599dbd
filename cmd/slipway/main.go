// Command slipway runs and operates services that are built on the platform
// packages. Its commands live in internal/cli, one file each.
package main

import (
	"os"

	"github.com/slipwayhq/slipway/cmd/slipway/internal/cli"
)

func main() {
	os.Exit(cli.Main(os.Args, os.Environ(), cli.Streams{In: os.Stdin, Out: os.Stdout, Err: os.Stderr}))
}
