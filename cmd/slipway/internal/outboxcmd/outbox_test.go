package outboxcmd_test

import (
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/slipwayhq/slipway/cmd/slipway/internal/cli"
	"github.com/slipwayhq/slipway/cmd/slipway/internal/commandtest"
	"github.com/slipwayhq/slipway/platform/outbox"
)

func TestOutbox_usage(t *testing.T) {
	t.Parallel()
	id := uuid.NewString()
	commandtest.Mistakes(t, "outbox", []commandtest.Mistake{
		{[]string{"stauts"}, `did you mean "status"?`},
		{[]string{"status", "now"}, `unknown argument "now"`},
		{[]string{"status", "--output", "xml"}, "want table or json"},
		{[]string{"list", "--limit", "0"}, "--limit 0: want 1 or more"},
		{[]string{"journal", "--limit", "-1"}, "want 1 or more"},
		{[]string{"show"}, "EVENT-ID is missing"},
		{[]string{"show", "42"}, `event id "42": want a UUID`},
		{[]string{"show", id, id}, "it takes one EVENT-ID"},
		{[]string{"redrive"}, "name one as TYPE/ID, or say --all"},
		{[]string{"redrive", "order/1", "--all"}, "name one as TYPE/ID, or say --all"},
		{[]string{"redrive", "order/1", "order/2"}, "one aggregate at a time"},
		{[]string{"redrive", "order"}, "want TYPE/ID"},
		{[]string{"redrive", "/1"}, "want TYPE/ID"},
		{[]string{"discard", id, "--yes"}, "--reason is missing"},
		{[]string{"discard", id, "--yes", "--reason", " "}, "--reason is missing"},
		{[]string{"discard", "--reason", "x"}, "EVENT-ID is missing"},
		{[]string{"discard", id, "--reason", "x"}, "add --yes to confirm, there is no terminal"},
		{[]string{"replay"}, "--since is missing"},
		{[]string{"replay", "--since", "yesterday"}, "want a time as 2026-"},
		{[]string{"replay", "--since", "-2h"}, "want a time as 2026-"},
		{[]string{"replay", "--since", "2h"}, "add --yes to confirm, there is no terminal"},
		{[]string{"replay", "--since", "2h", "--dry-run", "--wait"}, "nothing to --wait for"},
		{[]string{"replay", "--cancel", "0", "--reason", "x", "--yes"}, "want the id of a replay"},
		{[]string{"replay", "--cancel", "3", "--yes"}, "--reason is missing"},
		{[]string{"replay", "--cancel", "3", "--reason", "x", "--since", "1h", "--yes"}, "takes no --since"},
		{[]string{"replay", "--cancel", "3", "--reason", "x"}, "add --yes to confirm, there is no terminal"},
		{[]string{"pause", "broker"}, `unknown argument "broker"`},
		{[]string{"reset", "--yes"}, "--reason is missing"},
		{[]string{"reset", "--reason", "x"}, "add --yes to confirm, there is no terminal"},
		{[]string{"remove-sink", "--reason", "x"}, "NAME is missing"},
		{[]string{"remove-sink", "", "--reason", "x"}, "NAME is missing"},
		{[]string{"remove-sink", "x", "--yes"}, "--reason is missing"},
		{[]string{"remove-sink", "x", "--reason", "x"}, "add --yes to confirm, there is no terminal"},
	})
}

// every is each command that needs a database, as it is called.
var every = [][]string{
	{"status"},
	{"list"},
	{"list", "--sink", "x"},
	{"show", uuid.NewString()},
	{"redrive", "--all"},
	{"discard", uuid.NewString(), "--reason", "x", "--yes"},
	{"replay", "--since", "1h", "--yes"},
	{"replay", "--cancel", "3", "--reason", "x", "--yes"},
	{"pause"},
	{"resume"},
	{"blockers"},
	{"journal"},
	{"reset", "--reason", "x", "--yes"},
	{"remove-sink", "x", "--reason", "x", "--yes"},
}

func TestOutbox_withoutTables(t *testing.T) {
	t.Parallel()
	commandtest.WithoutTables(t, "outbox", every)
}

func TestOutbox_unreachable(t *testing.T) {
	t.Parallel()
	commandtest.Unreachable(t, "outbox", every)
	message := commandtest.At(t, "outbox", "").Fails(cli.ExitFailed, "status", "--database-url", "postgres://127.0.0.1:nowhere/")
	require.Contains(t, message, "(from --database-url)")
}

func TestOutbox_empty(t *testing.T) {
	t.Parallel()
	r := setup(t)
	require.Regexp(t, `^no relay has run .*\n\nSLOT +STATE +SIZE .*\n0 +current +\d+\.\d kB +\d{4}-.*\n1 +empty .*- +-\n`, r.OK("status"))
	require.Equal(t, "nothing is parked\n", r.OK("list"))
	require.Equal(t, "nobody has done anything yet\n", r.OK("journal"))
	require.Equal(t, "nothing holds the outbox up\n", r.OK("blockers"))
	for _, command := range []string{"list", "journal", "blockers"} {
		require.Equal(t, "[]\n", r.OK(command, "--output", "json"))
	}
	require.Contains(t, r.Fails(cli.ExitFailed, "list", "--sink", "x"), "no relay has run")
	require.Contains(t, r.Fails(cli.ExitFailed, "pause"), "not found")
	require.Contains(t, r.Fails(cli.ExitFailed, "replay", "--since", "1h", "--yes"), "no relay has run")
	require.Contains(t, r.Fails(cli.ExitFailed, "redrive", "--all"), "slipway outbox list shows")
	require.Contains(t, r.Fails(cli.ExitFailed, "show", uuid.NewString()), "never stored, or its retention is over")
}

func TestOutbox_pause(t *testing.T) {
	t.Parallel()
	r := setup(t)
	s, _ := r.relay("broker")
	type sinks struct{ Sinks []string }
	require.Equal(t, sinks{[]string{"broker"}}, decoded[sinks](r, "pause", "--reason", "it moves"))
	r.Eventually(func() bool { // it has heard of it
		r.add(event("a", 1))
		return decoded[outbox.Status](r, "status").Sinks[0].Unsent > 0
	})

	status := decoded[outbox.Status](r, "status")
	require.Equal(t, "replica-1", status.Sinks[0].Holder)
	require.NotNil(t, status.Sinks[0].PausedAt)
	require.Positive(t, status.Sinks[0].OldestUnsent)
	require.Len(t, status.Children, 3)
	r.Eventually(func() bool { return decoded[outbox.Status](r, "status").Sinks[0].Alive })
	require.Regexp(t, `^SINK +UNSENT .*\nbroker +[1-9]\d* +\d[^-]* -  +(alive|none alive) +replica-1 +for \d.* +0 +`, r.OK("status"))

	blockers := decoded[[]outbox.Blocker](r, "blockers")
	require.Equal(t, "paused", blockers[0].Kind)
	require.Positive(t, blockers[0].Age)
	require.Regexp(t, `paused +broker +\d.*\n +-> slipway outbox resume --sink broker\n`, r.OK("blockers"))

	require.Equal(t, "resumed broker\n", r.OK("resume", "--sink", "broker"))
	r.Eventually(func() bool { return s.versions("order/a") != "" })
	require.Equal(t, "paused broker: events wait until slipway outbox resume\n", r.OK("pause"))
	require.Equal(t, sinks{[]string{"broker"}}, decoded[sinks](r, "resume"))
	require.Contains(t, r.Fails(cli.ExitFailed, "pause", "--sink", "x"), `there is no sink "x": choose from broker`)
	require.Contains(t, r.Fails(cli.ExitFailed, "resume", "--sink", "x"), `choose from broker`)

	entries := decoded[[]outbox.JournalEntry](r, "journal")
	require.Len(t, entries, 4)
	require.Equal(t, outbox.JournalEntry{At: entries[3].At, Who: "ann", Action: "pause", Sink: "broker", Reason: "it moves"}, entries[3])
	require.Equal(t, "by hand", entries[0].Reason)
	require.Regexp(t, `(?m)^\d{4}-\S+ \S+ +ann +pause +broker +it moves`, r.OK("journal"))
	require.Len(t, decoded[[]outbox.JournalEntry](r, "journal", "--limit", "1"), 1)
}

func TestOutbox_blockers(t *testing.T) {
	t.Parallel()
	r := setup(t)
	tx, err := r.Pool.Begin(t.Context())
	require.NoError(t, err)
	defer tx.Rollback(t.Context())
	_, err = tx.Exec(t.Context(), "select pg_current_xact_id(),\n\t'\x1b[31m'")
	require.NoError(t, err)
	r.Eventually(func() bool { return len(decoded[[]outbox.Blocker](r, "blockers")) == 1 })
	out := r.OK("blockers")
	require.Regexp(t, `open_writer +slipway \(pid \d+\) +\d.* select pg_current_xact_id\(\).*\n.*-> .*pg_terminate_backend\(\d+\)\n$`, out)
	require.NotContains(t, out, "\x1b", "a terminal would obey it")
}

// A restored database carries positions of another cluster. The relay refuses it until the reset.
func TestOutbox_reset(t *testing.T) {
	t.Parallel()
	r := setup(t)
	s, stop := r.relay("broker")
	r.add(event("a", 1))
	r.Eventually(func() bool { return s.versions("order/a") == "1" })
	stop()
	r.add(event("a", 2), event("a", 3))
	r.Exec("update slipway.outbox_sink set system_identifier = 1")
	refused, err := outbox.NewRelay(r.Pool, &sink{}, outbox.Config{}, nil, nil)
	require.NoError(t, err)
	require.ErrorIs(t, refused.Run(t.Context()), outbox.ErrUnsafe)

	require.Equal(t, "reset; 2 events to publish. A relay that has refused to start must be started again\n", r.OK("reset", "--reason", "restored", "--yes"))
	type done struct{ Unsent int64 }
	require.Equal(t, done{2}, decoded[done](r, "reset", "--reason", "once more", "-y"))
	s, _ = r.relay("broker")
	r.Eventually(func() bool { return s.versions("order/a") == "2 3" })
	require.Equal(t, "2 events to publish", decoded[[]outbox.JournalEntry](r, "journal")[0].Detail)
}

// Whoever adds events holds a lock that a reset must wait for. It gives up and says what to do.
func TestOutbox_resetBesideAWriter(t *testing.T) {
	t.Parallel()
	r := setup(t)
	tx, err := r.Pool.Begin(t.Context())
	require.NoError(t, err)
	defer tx.Rollback(t.Context())
	require.NoError(t, outbox.Add(t.Context(), tx, event("a", 1)))
	require.Contains(t, r.Fails(cli.ExitFailed, "reset", "--reason", "x", "--yes"), "slipway outbox blockers shows open transactions")
}

func TestOutbox_removeSink(t *testing.T) {
	t.Parallel()
	r := setup(t)
	_, stop := r.relay("kafka")
	_, stopOther := r.relay("other")
	r.Eventually(func() bool { return decoded[outbox.Status](r, "status").Sinks[0].Alive })
	require.Contains(t, r.Fails(cli.ExitFailed, "remove-sink", "kafka", "--reason", "old", "--yes"), "stop it first")
	require.Contains(t, r.Fails(cli.ExitFailed, "remove-sink", "kafak", "--reason", "old", "--yes"), `there is no sink "kafak": choose from kafka, other`)
	stop()
	stopOther()
	require.Equal(t, "removed the sink kafka: the outbox keeps no event for it any more\n", r.OK("remove-sink", "kafka", "--reason", "old", "--yes"))
	require.Equal(t, "other", decoded[map[string]string](r, "remove-sink", "other", "--reason", "old", "--yes")["sink"])
	require.Empty(t, decoded[outbox.Status](r, "status").Sinks)
	require.WithinDuration(t, time.Now(), decoded[[]outbox.JournalEntry](r, "journal")[0].At, time.Hour)
}
