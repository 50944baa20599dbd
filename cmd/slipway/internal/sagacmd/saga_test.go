package sagacmd_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/slipwayhq/slipway/cmd/slipway/internal/cli"
	"github.com/slipwayhq/slipway/cmd/slipway/internal/commandtest"
)

func TestSaga_usage(t *testing.T) {
	t.Parallel()
	id := uuid.NewString()
	broken := filepath.Join(t.TempDir(), "broken.json")
	require.NoError(t, os.WriteFile(broken, []byte("{"), 0o644))
	commandtest.Mistakes(t, "saga", []commandtest.Mistake{
		{[]string{"lits"}, `did you mean "list"?`},
		{[]string{"list", "now"}, `unknown argument "now"`},
		{[]string{"list", "--limit", "0"}, "--limit 0: want 1 or more"},
		{[]string{"list", "--output", "xml"}, "want table or json"},
		{[]string{"list", "--why", "bored"}, "--why bored: want retrying, no_worker"},
		{[]string{"list", "--status", "done"}, `there is no status "done"`},
		{[]string{"list", "--status", "completed", "--stuck"}, "what is completed is not stuck"},
		{[]string{"list", "--since", "yesterday"}, "want a time as 2026-"},
		{[]string{"list", "--id", "xyz"}, `no saga's id begins with "xyz"`},
		{[]string{"show"}, "ID is missing"},
		{[]string{"show", "7"}, `saga "7": want a UUID as slipway saga list shows it`},
		{[]string{"show", id, id}, "it takes one ID"},
		{[]string{"retry"}, "ID is missing"},
		{[]string{"retry", id, "7"}, `saga "7": want a UUID`},
		{[]string{"compensate"}, "ID is missing"},
		{[]string{"compensate", id}, "add --yes to confirm, there is no terminal"},
		{[]string{"skip", id, id, "--reason", "x"}, "one saga at a time"},
		{[]string{"skip", id, "--yes"}, "--reason is missing"},
		{[]string{"skip", id, "--reason", "x"}, "add --yes to confirm, there is no terminal"},
		{[]string{"resolve", id, "--yes", "--reason", " "}, "--reason is missing"},
		{[]string{"resolve", id, "--reason", "x"}, "add --yes to confirm, there is no terminal"},
		{[]string{"set-data", id, "--reason", "x", "--yes"}, "--file is missing"},
		{[]string{"set-data", id, "--file", "/none", "--reason", "x", "--yes"}, "no such file"},
		{[]string{"set-data", id, "--file", "-", "--reason", "x", "--yes"}, "--file - is no JSON"},
		{[]string{"set-data", id, "--file", broken, "--reason", "x", "--yes"}, "broken.json is no JSON"},
		{[]string{"signal", id}, "ID or NAME is missing"},
		{[]string{"signal", id, "a", "b"}, "one signal at a time"},
		{[]string{"signal", "7", "a"}, `saga "7": want a UUID`},
		{[]string{"signal", id, "a", "--payload", "x", "--file", "-"}, "one of them"},
		{[]string{"bulk", "--stuck"}, "--action is missing"},
		{[]string{"bulk", "--action", "explode", "--stuck"}, `there is no bulk action "explode"`},
		{[]string{"bulk", "--action", "retry"}, "a filter that selects every saga"},
		{[]string{"bulk", "--action", "retry", "--limit", "5"}, "a filter that selects every saga"},
		{[]string{"bulk", "--action", "retry", "--stuck", "--limit", "-1"}, "--limit -1"},
		{[]string{"bulk", "--action", "retry", "--stuck", "--rate", "fast"}, "--rate fast: want a number above 0"},
		{[]string{"bulk", "--action", "retry", "--stuck", "--rate", "0/s"}, "--rate 0/s: want a number above 0"},
		{[]string{"bulk", "--action", "retry", "--stuck", "--yes"}, "--reason is missing"},
		{[]string{"bulk", "--action", "retry", "--stuck", "--reason", "x"}, "add --yes to confirm, there is no terminal"},
		{[]string{"versions", "now"}, `unknown argument "now"`},
		{[]string{"journal", "--limit", "0"}, "--limit 0: want 1 or more"},
	})
}

// every is each command, as it is called.
func every(t *testing.T) [][]string {
	t.Helper()
	id, state := uuid.NewString(), filepath.Join(t.TempDir(), "state.json")
	require.NoError(t, os.WriteFile(state, []byte("{}"), 0o644))
	return [][]string{
		{"list"},
		{"list", "--status", "resolved", "--since", "1h"},
		{"show", id},
		{"retry", id},
		{"compensate", id, "--yes"},
		{"skip", id, "--reason", "x", "--yes"},
		{"resolve", id, "--reason", "x", "--yes"},
		{"set-data", id, "--file", state, "--reason", "x", "--yes"},
		{"signal", id, "approve"},
		{"bulk", "--action", "retry", "--stuck", "--preview"},
		{"bulk", "--action", "retry", "--stuck", "--reason", "x", "--yes"},
		{"versions"},
		{"journal"},
	}
}

func TestSaga_withoutTables(t *testing.T) {
	t.Parallel()
	commandtest.WithoutTables(t, "saga", every(t))
}

func TestSaga_unreachable(t *testing.T) {
	t.Parallel()
	commandtest.Unreachable(t, "saga", every(t))
}

func TestSaga_empty(t *testing.T) {
	t.Parallel()
	r := setup(t)
	require.Equal(t, "no sagas\n", r.OK("list"))
	require.Equal(t, "no sagas\n", r.OK("list", "--status", "completed", "--since", "2h"))
	require.Equal(t, "nobody has done anything yet\n", r.OK("journal"))
	require.Equal(t, "no saga was ever defined on this database\n", r.OK("versions"))
	require.Equal(t, "no saga is selected (stuck)\n", r.OK("bulk", "--action", "retry", "--stuck", "--reason", "x", "--yes"))
	for _, command := range []string{"list", "versions"} {
		require.Equal(t, "[]\n", r.OK(command, "--output", "json"))
	}
	id := uuid.NewString()
	for _, args := range [][]string{{"show", id}, {"retry", id}, {"compensate", id, "--yes"}, {"signal", id, "x"}} {
		require.Contains(t, r.Fails(cli.ExitFailed, args...), "not found: it never was, or its retention is over")
	}
	require.Contains(t, r.Fails(cli.ExitUsage, "list", "--since", "2999-01-01T00:00:00Z"), "is in the future")
}
