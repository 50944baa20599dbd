// Package command gives the commands of slipway their common shape: groups, flags,
// what counts as a mistake of the caller, and for those that operate on a running
// system the database, the person who does it and the question before it.
package command

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/slipwayhq/slipway/cmd/slipway/internal/console"
)

// Env is what every command gets.
type Env struct {
	// Program is the command's name as the user called it.
	Program string
	// Environ is the environment of the process.
	Environ []string
	Console *console.Console
}

// Result writes the result of a command: as JSON, or what table says.
func (e Env) Result(format console.Format, value any, table func() error) error {
	if format == console.JSON {
		return console.WriteJSON(e.Console, value)
	}
	return table()
}

// Say is a table of one line.
func (e Env) Say(format string, args ...any) func() error {
	return func() error {
		e.Console.Printf(format, args...)
		return nil
	}
}

// UsageError is a mistake in how a command was called. Its exit code is 2.
type UsageError struct{ error }

// Unwrap returns the error without the mark.
func (u UsageError) Unwrap() error { return u.error }

// Usagef returns a UsageError.
func Usagef(format string, args ...any) error { return UsageError{fmt.Errorf(format, args...)} }

// FlagError marks the error of a flag.
func FlagError(_ *cobra.Command, err error) error { return UsageError{err} }

// Group makes a command of commands: alone it shows its help, and it refuses what
// it does not know.
func Group(cmd *cobra.Command, commands ...*cobra.Command) *cobra.Command {
	cmd.AddCommand(commands...)
	cmd.SuggestionsMinimumDistance = 2
	cmd.Args = cobra.ArbitraryArgs
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 {
			return cmd.Help()
		}
		return Unknown(cmd, args[0])
	}
	return cmd
}

// Unknown says that a group has no command of the name.
func Unknown(cmd *cobra.Command, name string) error {
	if like := cmd.SuggestionsFor(name); len(like) > 0 {
		return Usagef("unknown command %q, did you mean %q?", name, like[0])
	}
	return Usagef("unknown command %q", name)
}

// NoArgs refuses arguments.
func NoArgs(_ *cobra.Command, args []string) error {
	if len(args) > 0 {
		return Usagef("unknown argument %q", args[0])
	}
	return nil
}

// OneArg wants one argument, which is called what.
func OneArg(what string) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		switch {
		case len(args) == 0:
			return Usagef("%s is missing", what)
		case len(args) > 1:
			return Usagef("unknown argument %q: it takes one %s", args[1], what)
		}
		return nil
	}
}

// OutputFlag adds the flag --output.
func OutputFlag(cmd *cobra.Command) *console.Format {
	format := console.Table
	cmd.Flags().VarP(&format, "output", "o", "format of the result")
	return &format
}

// LimitFlag adds the flag --limit. It takes the PreRunE of the command.
func LimitFlag(cmd *cobra.Command) *int {
	limit := cmd.Flags().Int("limit", 100, "show so many at most")
	cmd.PreRunE = func(*cobra.Command, []string) error {
		if *limit < 1 {
			return Usagef("--limit %d: want 1 or more", *limit)
		}
		return nil
	}
	return limit
}
