package inboxcmd_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/slipwayhq/slipway/cmd/slipway/internal/cli"
	"github.com/slipwayhq/slipway/cmd/slipway/internal/commandtest"
	"github.com/slipwayhq/slipway/platform/inbox"
)

func TestInbox_usage(t *testing.T) {
	t.Parallel()
	commandtest.Mistakes(t, "inbox", []commandtest.Mistake{
		{[]string{"deadd"}, `did you mean "dead"?`},
		{[]string{"list"}, `unknown command "list"`},
		{[]string{"dead", "lits"}, `did you mean "list"?`},
		{[]string{"dead", "list", "now"}, `unknown argument "now"`},
		{[]string{"dead", "list", "--limit", "0"}, "--limit 0: want 1 or more"},
		{[]string{"dead", "list", "--output", "xml"}, "want table or json"},
		{[]string{"dead", "show"}, "ID is missing"},
		{[]string{"dead", "show", "x"}, `dead letter "x": want a number as slipway inbox dead list shows it`},
		{[]string{"dead", "show", "7", "8"}, "it takes one ID"},
		{[]string{"dead", "redrive"}, "name their IDs, or say --all with --consumer"},
		{[]string{"dead", "redrive", "7", "--all"}, "name their IDs, or say --all with --consumer"},
		{[]string{"dead", "redrive", "0"}, `dead letter "0": want a number`},
		{[]string{"dead", "redrive", "--all"}, "--all and --consumer go together"},
		{[]string{"dead", "redrive", "7", "--consumer", "x"}, "--all and --consumer go together"},
		{[]string{"dead", "discard", "--reason", "x"}, "ID is missing: name dead letters"},
		{[]string{"dead", "discard", "x", "--reason", "x"}, `dead letter "x": want a number`},
		{[]string{"dead", "discard", "7", "--yes"}, "--reason is missing"},
		{[]string{"dead", "discard", "7", "--reason", "x"}, "add --yes to confirm, there is no terminal"},
		{[]string{"waiting", "now"}, `unknown argument "now"`},
		{[]string{"waiting", "--limit", "-1"}, "--limit -1: want 1 or more"},
		{[]string{"skip", "shipping"}, "CONSUMER or KEY is missing"},
		{[]string{"skip", "shipping", ""}, "CONSUMER or KEY is missing"},
		{[]string{"skip", "", "order/1"}, "CONSUMER or KEY is missing"},
		{[]string{"skip", "shipping", "order/1", "2"}, `unknown argument "2": one key at a time`},
		{[]string{"skip", "shipping", "order/1", "--reason", "x"}, "--version is missing"},
		{[]string{"skip", "shipping", "order/1", "--version", "0"}, "--version 0: want 1 or more"},
		{[]string{"skip", "shipping", "order/1", "--version", "two"}, `invalid argument "two"`},
		{[]string{"skip", "shipping", "order/1", "--version", "2", "--yes"}, "--reason is missing"},
		{[]string{"skip", "shipping", "order/1", "--version", "2", "--reason", "x"}, "add --yes to confirm, there is no terminal"},
		{[]string{"journal", "now"}, `unknown argument "now"`},
		{[]string{"journal", "--limit", "0"}, "--limit 0: want 1 or more"},
	})
}

// every is each command, as it is called.
var every = [][]string{
	{"dead", "list"},
	{"dead", "list", "--consumer", "x"},
	{"dead", "show", "7"},
	{"dead", "redrive", "7"},
	{"dead", "redrive", "--all", "--consumer", "x"},
	{"dead", "discard", "7", "--reason", "x", "--yes"},
	{"waiting"},
	{"waiting", "--consumer", "x"},
	{"skip", "x", "order/1", "--version", "1", "--reason", "x", "--yes"},
	{"journal"},
}

func TestInbox_withoutTables(t *testing.T) {
	t.Parallel()
	commandtest.WithoutTables(t, "inbox", every)
}

func TestInbox_unreachable(t *testing.T) {
	t.Parallel()
	commandtest.Unreachable(t, "inbox", every)
}

func TestInbox_empty(t *testing.T) {
	t.Parallel()
	r := setup(t)
	require.Equal(t, "no dead letters\n", r.OK("dead", "list"))
	require.Equal(t, "nothing waits for a version\n", r.OK("waiting"))
	require.Equal(t, "nobody has done anything yet\n", r.OK("journal"))
	for _, args := range [][]string{{"dead", "list"}, {"waiting"}, {"journal"}} {
		require.Equal(t, "[]\n", r.OK(append(args, "--output", "json")...))
	}
	for _, args := range [][]string{{"show", "7"}, {"redrive", "7"}, {"discard", "7", "--reason", "x", "--yes"}} {
		require.Contains(t, r.Fails(cli.ExitFailed, append([]string{"dead"}, args...)...), "dead letter 7: not found")
	}
}

func TestInbox_unknownConsumer(t *testing.T) {
	t.Parallel()
	r := setup(t)
	with := func(name string) [][]string {
		return [][]string{
			{"dead", "list", "--consumer", name},
			{"dead", "redrive", "--all", "--consumer", name},
			{"waiting", "--consumer", name},
			{"skip", name, "order/1", "--version", "1", "--reason", "x", "--yes"},
		}
	}
	for _, args := range with("shipping") {
		require.Contains(t, r.Fails(cli.ExitFailed, args...), `there is no consumer "shipping", nor any other: none has run on this database yet`)
	}
	r.consume("shipping", inbox.ByVersion)
	r.consume("billing", inbox.ByID)
	r.Eventually(func() bool { // both are registered
		_, problem, _ := r.Call("waiting", "--consumer", "nobody")
		return strings.Contains(problem, "billing, shipping")
	})
	for _, args := range with("nobody") {
		require.Contains(t, r.Fails(cli.ExitFailed, args...), `there is no consumer "nobody": choose from billing, shipping`)
	}
}
