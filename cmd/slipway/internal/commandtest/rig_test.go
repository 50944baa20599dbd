package commandtest_test

import (
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/slipwayhq/slipway/cmd/slipway/internal/cli"
	"github.com/slipwayhq/slipway/cmd/slipway/internal/commandtest"
	"github.com/slipwayhq/slipway/platform/inbox"
	"github.com/slipwayhq/slipway/platform/postgres/postgrestest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(postgrestest.Closing(m)) }

func TestRig(t *testing.T) {
	t.Parallel()
	r := commandtest.New(t, "inbox", inbox.Migrations())
	r.Exec(`insert into slipway.inbox_dead (consumer, message_id, key, subject, headers, payload, class, error, attempts, first_at)
		values ('shipping', 'm', 'order/1', $1, '{}', '', 'permanent', 'no', 1, now())`, "order.changed")
	require.Contains(t, r.OK("dead", "list"), "order.changed")
	require.Contains(t, r.Fails(cli.ExitFailed, "dead", "show", "9"), "not found")
	require.Equal(t, "Give up order.changed of order/1? shipping will never apply it.", r.Asks("dead", "discard", "1", "--reason", "x"))
	said, ended := r.Start("dead", "redrive", "9")
	r.EndsWith(cli.ExitFailed, ended)
	require.Contains(t, said.String(), "not found")
	r.OK("dead", "discard", "1", "--reason", "x", "--yes")
	entries := commandtest.Decoded[[]inbox.JournalEntry](r, "journal")
	require.Equal(t, commandtest.Operator, entries[0].Who)
	n := 0
	r.Eventually(func() bool { n++; return n == 2 })
}

func TestMistakes(t *testing.T) {
	t.Parallel()
	commandtest.Mistakes(t, "inbox", []commandtest.Mistake{{Args: []string{"deadd"}, Want: `did you mean "dead"?`}})
	commandtest.WithoutTables(t, "inbox", [][]string{{"dead", "list"}})
	commandtest.Unreachable(t, "inbox", [][]string{{"dead", "list"}})
}
