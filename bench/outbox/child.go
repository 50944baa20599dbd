package main

import (
	"context"
	"flag"
	"fmt"
)

// childOptions are the flags of the processes that the command starts of itself.
type childOptions struct {
	kind string
}

func (c *childOptions) bind(flags *flag.FlagSet) {
	flags.StringVar(&c.kind, "serve", "", "used by the command itself: the kind of process to be")
}

func (c childOptions) run(context.Context) error {
	return fmt.Errorf("there is no process of kind %q", c.kind)
}
