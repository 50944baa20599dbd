package sagacmd_test

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/slipwayhq/slipway/platform/saga/sagapg"
)

func TestSaga_list(t *testing.T) {
	t.Parallel()
	r := setup(t)
	r.serve(r.checkout(), r.approval())
	done := r.begin(r.checkout())
	r.becomes(done, "completed")
	stuck, waiting := r.stuck(), r.waiting()

	require.Regexp(t, `^ID +SAGA +STATUS +STUCK +AT +STARTED +NEXT +PROBLEM\n`+
		stuck+` +checkout v1 +needs_operator +compensation_failed +release-stock +\d.* ago +a decision +release-stock: the provider is  \[31mdown\n`+
		waiting+` +approval v2 +running +- +approve +\d.* ago +approve, in 59 m \d+ s +-\n$`, r.OK("list"))
	require.Regexp(t, `^ID.*\n`+done+` +checkout v1 +completed +- +- +\d.* ago +- +-\n$`, r.OK("list", "--status", "completed"))
	for args, want := range map[string]string{
		"--stuck": stuck, "--why compensation_failed,retrying": stuck, "--type approval --version 2": waiting,
		"--status running": waiting, "--since 2h": stuck + " " + waiting, "--since 2026-01-01T00:00:00Z --id " + waiting: waiting, "--limit 1": stuck,
	} {
		var ids []string
		for _, s := range decoded[[]sagapg.Saga](r, append([]string{"list"}, strings.Fields(args)...)...) {
			ids = append(ids, s.ID.String())
		}
		require.Equal(t, want, strings.Join(ids, " "), args)
	}
	_, note, _ := r.Call("list", "--limit", "1")
	require.Contains(t, note, "there may be more: --limit")
	first := decoded[[]sagapg.Saga](r, "list")[0]
	require.Equal(t, "release-stock: "+errDown.Error(), first.Problem, "JSON has all of it")
	require.WithinDuration(t, time.Now(), first.CreatedAt, time.Hour)
}

func TestSaga_show(t *testing.T) {
	t.Parallel()
	r := setup(t)
	r.serve(r.checkout(), r.approval())
	id := r.stuck()
	r.OK("retry", id, "--reason", "try \x1b[2Jonce more")
	r.becomes(id, "needs_operator")
	r.Eventually(func() bool { return len(r.show(id).Timeline) == 6 })
	when := `\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3}`
	out := r.OK("show", id)
	require.Regexp(t, `^FIELD +VALUE\nsaga +checkout, version 1\nid +`+id+`\nstatus +needs_operator\nstuck +compensation_failed\nat +release-stock\n`+
		`next +a decision\nundone for +confirm-order: the provider is  \[31mdown\nproblem +release-stock: .*\nstarted +\d{4}-.*\nfailing since +\d{4}-.*\n`+
		`\nSTAGE +STEP +KIND +UNDO +STATE +\n1 +- +undo +cancel-order +done +\n2 +reserve-stock +step +release-stock +undo_failed +<- 2 failed attempts\n3 +confirm-order +pivot +- +failed +\n`+
		`\nAT +WHAT +ATTEMPT +RESULT +TOOK +TRACE +DETAIL\n`+when+` +started +\n`+when+` +reserve-stock +1 +ok +\d.* +- +\n`+
		when+` +confirm-order +1 +rejected +\d.*the provider is  \[31mdown\n`+
		`(`+when+` +release-stock +[12] +unknown +\d.*\n){2}`+
		when+` +! retry +ann: try  \[2Jonce more \(needs_operator at release-stock -> compensating at release-stock\)\n`+
		`(`+when+` +release-stock +[12] +unknown +\d.*\n){2}`+
		`\nstate, 25 bytes:\n\{"amount":7,"city":"Ulm"\}\n$`, out)
	require.NotContains(t, out, "\x1b")

	r.fault("release-stock", nil)
	r.OK("retry", id)
	r.becomes(id, "compensated")
	out = r.OK("show", id)
	require.Regexp(t, `\nstatus +compensated\n(.*\n)*over +\d{4}-`, out)
	require.Regexp(t, when+` +cancel-order +1 +ok .*\n`+when+` +compensated +\n`, out)
	require.JSONEq(t, `{"amount":7,"city":"Ulm"}`, string(r.show(id).Data))

	waiting := r.waiting()
	r.stop()
	r.OK("signal", waiting, "approve", "--payload", "Bonn")
	require.Regexp(t, `\nsignal approve +\d{4}-.*, 4 bytes, not taken yet\n(.*\n)*1 +approve +wait +- +pending +<- in 59 m`, r.OK("show", waiting))
}

func TestSaga_versions(t *testing.T) {
	t.Parallel()
	r := setup(t)
	r.serve(r.checkout(), r.approval())
	r.stuck()
	r.waiting()
	require.Regexp(t, `^SAGA +VERSION +RUNNING +COMPENSATING +NEEDS OPERATOR +OLDEST +WORKERS +STEPS\n`+
		`approval +v2 +1 +0 +0 +\d.* ago +order-1 +approve -> ship\n`+
		`checkout +v1 +0 +0 +1 +\d.* ago +order-1 +cancel-order -> reserve-stock -> confirm-order\n$`, r.OK("versions"))
	r.stop()
	versions := decoded[[]sagapg.Version](r, "versions")
	require.True(t, versions[0].NoWorker)
	require.Empty(t, versions[0].Workers)
	require.Regexp(t, `approval +v2 .* ago +NO WORKER +approve`, r.OK("versions"))
	r.Exec("update slipway.saga_worker set ended_at = null, seen_at = now() - interval '1 hour'")
	require.Regexp(t, `approval +v2 .* ago +NO WORKER, order-1 \(silent for 1 h 0 m\) +approve`, r.OK("versions"))
}
