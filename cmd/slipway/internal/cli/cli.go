// Package cli holds the commands of slipway, one file each.
//
// Every command exits with 0 when it did what it was asked to, with 1 when that
// failed, and with 2 when it was not asked properly. Results go to the output,
// progress and errors to the error output.
package cli

import (
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/slipwayhq/slipway/cmd/slipway/internal/console"
)

// The exit codes.
const (
	ExitOK     = 0
	ExitFailed = 1
	ExitUsage  = 2
)

// Streams are the standard streams of the process.
type Streams struct {
	In       io.Reader
	Out, Err io.Writer
}

// app is what the commands share.
type app struct {
	program string // as the user called it
	environ []string
	console *console.Console
}

// errReported is returned by a command that has said itself what failed.
var errReported = errors.New("reported")

// usageError is a mistake in how a command was called.
type usageError struct{ error }

func (u usageError) Unwrap() error { return u.error }

func usagef(format string, args ...any) error { return usageError{fmt.Errorf(format, args...)} }

// Main runs the command line, args with the program's name first, and returns the
// exit code.
func Main(args, environ []string, streams Streams) int {
	a := &app{
		program: args[0], environ: environ,
		console: console.New(streams.In, streams.Out, streams.Err, environ),
	}
	root := a.root()
	root.SetArgs(args[1:])
	root.SetIn(streams.In)
	root.SetOut(streams.Out)
	root.SetErr(streams.Err)
	ran, err := root.ExecuteC()
	var usage usageError
	switch {
	case err == nil:
		return ExitOK
	case errors.Is(err, errReported):
		return ExitFailed
	case errors.As(err, &usage):
		a.console.Notef("%s: %v\nsee: %s --help", root.Name(), err, ran.CommandPath())
		return ExitUsage
	default:
		a.console.Notef("%s: %v", root.Name(), err)
		return ExitFailed
	}
}

func (a *app) root() *cobra.Command {
	root := group(&cobra.Command{
		Use:   "slipway",
		Short: "Run and operate Go services that are built on Slipway",
		Example: `  slipway doctor          # is everything there?
  slipway dev             # run the project of this folder
  slipway migrate status  # what is in its databases`,
		SilenceErrors: true, SilenceUsage: true,
	}, a.dev(), a.migrate(), a.doctor(), a.version())
	root.CompletionOptions.HiddenDefaultCmd = true
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError{err} })
	return root
}

// group makes a command of commands: alone it shows its help, and it refuses what
// it does not know.
func group(cmd *cobra.Command, commands ...*cobra.Command) *cobra.Command {
	cmd.AddCommand(commands...)
	cmd.SuggestionsMinimumDistance = 2
	cmd.Args = cobra.ArbitraryArgs
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 {
			return cmd.Help()
		}
		return unknown(cmd, args[0])
	}
	return cmd
}

func unknown(cmd *cobra.Command, name string) error {
	if like := cmd.SuggestionsFor(name); len(like) > 0 {
		return usagef("unknown command %q, did you mean %q?", name, like[0])
	}
	return usagef("unknown command %q", name)
}

// noArgs refuses arguments.
func noArgs(_ *cobra.Command, args []string) error {
	if len(args) > 0 {
		return usagef("unknown argument %q", args[0])
	}
	return nil
}

// outputFlag adds the flag --output.
func outputFlag(cmd *cobra.Command) *console.Format {
	format := console.Table
	cmd.Flags().VarP(&format, "output", "o", "format of the result")
	return &format
}
