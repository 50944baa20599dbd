package sagacmd_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/slipwayhq/slipway/cmd/slipway/internal/cli"
	"github.com/slipwayhq/slipway/platform/saga/sagapg"
)

func TestSaga_bulk(t *testing.T) {
	t.Parallel()
	r := setup(t)
	r.serve(r.checkout(), r.approval())
	ids := []string{r.stuck(), r.stuck(), r.stuck()}
	waiting := r.waiting()
	bulk := func(args ...string) []string { return append([]string{"bulk", "--action", "retry"}, args...) }

	out, note, code := r.Call(bulk("--stuck", "--type", "checkout", "--preview")...)
	require.Equal(t, cli.ExitOK, code)
	table := `^COUNT +SAGA +FROM +TO\n3 +checkout v1 +needs_operator at release-stock +compensating at release-stock\n$`
	require.Regexp(t, table, out)
	require.Regexp(t, `^  … retry of 3 sagas\n  ✓ 3 of 3 sagas would be changed \(`, note)
	require.Equal(t, "nobody has done anything yet\n", r.OK("journal"))
	require.Equal(t, "retry 3 sagas (stuck)? At 4 a second it takes 500 ms.", r.Asks(bulk("--stuck", "--rate", "4/s", "--reason", "x")...))

	_, note, code = r.Call(bulk("--type", "approval", "--preview")...)
	require.Equal(t, cli.ExitOK, code)
	require.Contains(t, note, "! retry saga "+waiting+": invalid action: nothing has failed")
	problem := r.refused(bulk("--type", "approval", "--reason", "x", "--yes")...)
	require.Contains(t, problem, "1 saga refused: ")

	r.fault("release-stock", nil)
	out, note, code = r.Call(bulk("--stuck", "--rate", "500/s", "--reason", "mended", "--yes")...)
	require.Equal(t, cli.ExitOK, code)
	require.Regexp(t, table, out)
	require.Contains(t, note, "✓ 3 of 3 sagas changed")
	for _, id := range ids {
		r.becomes(id, "compensated")
	}
	require.Equal(t, "no saga is selected (stuck)\n", r.OK(bulk("--stuck", "--reason", "x", "--yes")...))
	entries := decoded[[]sagapg.JournalEntry](r, "journal")
	require.Equal(t, "bulk retry of 3: stuck", entries[4].Action+" "+entries[4].Detail)

	r.stuck()
	r.stuck()
	result := decoded[sagapg.BulkResult](r, "bulk", "--action", "resolve", "--why", "compensation_failed", "--limit", "1", "--reason", "x", "--yes")
	require.Equal(t, sagapg.BulkResult{
		Selected: 1, Changed: 1, Refused: []sagapg.Refusal{},
		Moves: []sagapg.Move{{Name: "checkout", Version: 1, From: "needs_operator at release-stock", To: "resolved", Count: 1}},
	}, result)
}

// refused runs a command that does what it can and fails for the rest.
func (r *rig) refused(args ...string) string {
	r.T.Helper()
	out, problem, code := r.Call(args...)
	require.Equal(r.T, cli.ExitFailed, code)
	require.Equal(r.T, "nothing was changed\n", out)
	return problem
}
