package sagacmd_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/slipwayhq/slipway/cmd/slipway/internal/cli"
	"github.com/slipwayhq/slipway/platform/saga/sagapg"
)

func TestSaga_retry(t *testing.T) {
	t.Parallel()
	r := setup(t)
	r.serve(r.checkout(), r.approval())
	one, two, waiting := r.stuck(), r.stuck(), r.waiting()
	r.fault("release-stock", nil)
	out, note, code := r.Call("retry", one, waiting, two, "--reason", "mended")
	require.Equal(t, cli.ExitFailed, code)
	require.Equal(t, "checkout "+one+": needs_operator at release-stock -> compensating at release-stock\n"+
		"checkout "+two+": needs_operator at release-stock -> compensating at release-stock\n", out, "one that refuses holds up no other")
	require.Contains(t, note, "retry saga "+waiting+": invalid action: nothing has failed: it waits for approve until 20")
	r.becomes(one, "compensated")
	r.becomes(two, "compensated")
	require.Contains(t, r.Fails(cli.ExitFailed, "retry", two), "saga "+two+" is over, it was compensated: nothing was changed")

	third := r.stuck()
	changes := decoded[[]sagapg.Change](r, "retry", third)
	require.Equal(t, []sagapg.Change{{
		ID: uuid.MustParse(third), Name: "checkout", Version: 1, Action: "retry", From: "needs_operator at release-stock", To: "compensating at release-stock", Status: "compensating",
	}}, changes)

	entries := decoded[[]sagapg.JournalEntry](r, "journal")
	require.Len(t, entries, 3)
	require.Equal(t, "ann retry mended", entries[1].Who+" "+entries[1].Action+" "+entries[1].Reason)
	require.Equal(t, "by hand", entries[0].Reason)
	require.Regexp(t, `(?m)^\d{4}-\S+ \S+ +ann +retry +`+two+` +mended +needs_operator at release-stock -> compensating at release-stock$`, r.OK("journal"))
}

// A call is on its way: what comes of it is not waited for, and refused.
func TestSaga_retryOfACallOnItsWay(t *testing.T) {
	t.Parallel()
	r := setup(t)
	r.serve(r.checkout())
	release := r.gate("reserve-stock")
	defer release()
	id := r.begin(r.checkout())
	r.Eventually(func() bool { return r.count("reserve-stock") == 1 })
	require.Regexp(t, ` at work +-\n$`, r.OK("list"))
	r.gate("reserve-stock")()
	_, note, code := r.Call("retry", id)
	require.Equal(t, cli.ExitOK, code)
	require.Equal(t, "! a call of it may have been on its way at order-1: its outcome counts as unknown\n", note)
	r.becomes(id, "completed")
	require.Equal(t, 2, r.count("reserve-stock"))
}

func TestSaga_compensate(t *testing.T) {
	t.Parallel()
	r := setup(t)
	r.serve(r.checkout(), r.approval())
	waiting := r.waiting()
	require.Equal(t, "Undo approval "+waiting+"?", r.Asks("compensate", waiting))
	require.Equal(t, "approval "+waiting+": waiting at approve -> compensated\n", r.OK("compensate", waiting, "--yes"))

	r.fault("confirm-order", errDown)
	id := r.begin(r.checkout())
	r.becomes(id, "needs_operator")
	require.Equal(t, "Undo checkout "+id+"? Its pivot confirm-order may have happened: you say that it has not and never will.", r.Asks("compensate", id))
	other := r.waiting()
	require.Equal(t, "Undo 2 sagas? Where a pivot may have happened, you say that it has not and never will.", r.Asks("compensate", id, other))
	r.OK("compensate", id, "--yes")
	r.becomes(id, "compensated")
}

func TestSaga_skip(t *testing.T) {
	t.Parallel()
	r := setup(t)
	r.serve(r.checkout())
	id := r.stuck()
	require.Equal(t, "Take release-stock of checkout "+id+" for done? It is not called for it.", r.Asks("skip", id, "--reason", "x"))
	r.fault("cancel-order", errDown)
	change := decoded[sagapg.Change](r, "skip", id, "--reason", "released by hand", "--yes")
	require.Equal(t, "compensating at cancel-order", change.To)
	require.Equal(t, "released by hand", r.show(id).Actions[0].Reason)
}

func TestSaga_resolve(t *testing.T) {
	t.Parallel()
	r := setup(t)
	r.serve(r.checkout())
	id := r.stuck()
	require.Equal(t, "End checkout "+id+", which is needs_operator? Nothing more of it is done, and nothing undone.", r.Asks("resolve", id, "--reason", "x"))
	require.Equal(t, "checkout "+id+": needs_operator at release-stock -> resolved\n", r.OK("resolve", id, "--reason", "ticket 4711", "--yes"))
	require.Equal(t, "ticket 4711", r.show(id).Problem)
	require.Contains(t, r.Fails(cli.ExitFailed, "resolve", id, "--reason", "x", "--yes"), "is over, it was resolved")
}

func TestSaga_setData(t *testing.T) {
	t.Parallel()
	r := setup(t)
	r.serve(r.checkout())
	id := r.stuck()
	file := filepath.Join(t.TempDir(), "state.json")
	with := func(data string) []string {
		require.NoError(t, os.WriteFile(file, []byte(data), 0o644))
		return []string{"set-data", id, "--file", file, "--reason", "typo"}
	}
	require.Equal(t, "Replace the state of checkout "+id+" and go on with it?", r.Asks(with("{}")...))
	require.Contains(t, r.Fails(cli.ExitFailed, append(with("[]"), "--yes")...), "the state must be a JSON object")
	r.fault("release-stock", nil)
	r.OK(append(with(`{"amount": 7, "city": "Bonn"}`), "--yes")...)
	r.becomes(id, "compensated")
	require.JSONEq(t, `{"amount":7,"city":"Bonn"}`, string(r.show(id).Data))
	require.Contains(t, r.OK("journal"), `; city from "Ulm" to "Bonn"`)
}

func TestSaga_signal(t *testing.T) {
	t.Parallel()
	r := setup(t)
	r.serve(r.approval())
	one, two := r.waiting(), r.waiting()
	require.Equal(t, "approval "+one+": signal approve is there; the saga is waiting at approve\n", r.OK("signal", one, "approve", "--payload", "Bonn", "--reason", "by phone"))
	r.becomes(one, "completed")
	require.Equal(t, "Bonn", decodedCity(t, r.show(one).Data))
	require.Contains(t, r.Fails(cli.ExitFailed, "signal", two, "aprove"), `saga approval waits for no signal "aprove", but for approve`)
	file := filepath.Join(t.TempDir(), "signal")
	require.NoError(t, os.WriteFile(file, []byte("Kiel"), 0o644))
	r.OK("signal", two, "approve", "--file", file)
	r.becomes(two, "completed")
	require.Equal(t, "Kiel", decodedCity(t, r.show(two).Data))
	require.Contains(t, r.Fails(cli.ExitFailed, "signal", two, "approve"), "it is over, it was completed")
}

func decodedCity(t *testing.T, data []byte) string {
	t.Helper()
	var o order
	require.NoError(t, json.Unmarshal(data, &o))
	return o.City
}
