// Package cli holds the commands of slipway, one file each.
//
// Every command exits with 0 when it did what it was asked to, with 1 when that
// failed, and with 2 when it was not asked properly. Results go to the output,
// progress and errors to the error output.
package cli

import (
	"errors"
	"io"

	"github.com/spf13/cobra"

	"github.com/slipwayhq/slipway/cmd/slipway/internal/command"
	"github.com/slipwayhq/slipway/cmd/slipway/internal/console"
	"github.com/slipwayhq/slipway/cmd/slipway/internal/drill"
	"github.com/slipwayhq/slipway/cmd/slipway/internal/inboxcmd"
	"github.com/slipwayhq/slipway/cmd/slipway/internal/outboxcmd"
	"github.com/slipwayhq/slipway/cmd/slipway/internal/sagacmd"
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
	var usage command.UsageError
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

// env is what the commands of other packages get.
func (a *app) env() command.Env {
	return command.Env{Program: a.program, Environ: a.environ, Console: a.console}
}

func (a *app) root() *cobra.Command {
	root := command.Group(&cobra.Command{
		Use:   "slipway",
		Short: "Run and operate Go services that are built on Slipway",
		Example: `  slipway doctor          # is everything there?
  slipway dev             # run the project of this folder
  slipway migrate status  # what is in its databases`,
		SilenceErrors: true, SilenceUsage: true,
	}, a.dev(), a.migrate(), outboxcmd.New(a.env()), inboxcmd.New(a.env()), sagacmd.New(a.env()), drill.New(a.env()), a.doctor(), a.version())
	root.CompletionOptions.HiddenDefaultCmd = true
	root.SetFlagErrorFunc(command.FlagError)
	return root
}
