package inboxcmd_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/slipwayhq/slipway/cmd/slipway/internal/cli"
	"github.com/slipwayhq/slipway/platform/inbox"
)

func TestWaiting(t *testing.T) {
	t.Parallel()
	r, s, _ := stuck(t) // order/bad waits for an operator
	evil := message("order/\x1b[2J", 2)
	s.deliver(message("order/gap", 1), message("order/gap", 5), message("order/gap", 6), evil)
	keys := decoded[[]inbox.WaitingKey](r, "waiting", "--consumer", "shipping")
	require.Len(t, keys, 2)
	require.WithinDuration(t, time.Now(), keys[0].Since, time.Hour)
	require.Equal(t, inbox.WaitingKey{Consumer: "shipping", Key: "order/gap", Next: 2, First: 5, Waiting: 2, Since: keys[0].Since}, keys[0])
	out, note, _ := r.Call("waiting")
	require.Regexp(t, `^CONSUMER +KEY +WAITS FOR +WAITING +SINCE\nshipping +order/gap +versions 2 to 4 +2 +\d.* ago\nshipping +order/ \[2J +version 1 +1 +\d.* ago\n$`, out)
	require.Empty(t, note)
	require.NotContains(t, r.Asks("skip", "shipping", evil.Key, "--version", "1", "--reason", "x"), "\x1b")
	_, note, _ = r.Call("waiting", "--limit", "1")
	require.Contains(t, note, "there may be more: --limit")
	require.Len(t, decoded[[]inbox.WaitingKey](r, "waiting", "--limit", "1"), 1)
	require.NotContains(t, r.OK("skip", "shipping", evil.Key, "--version", "1", "--reason", "x", "--yes")+r.OK("journal"), "\x1b")
	r.Exec("insert into slipway.inbox_consumer (consumer, mode, retention) values ('other', 'by_id', '1 day')")
	require.Equal(t, "nothing waits for a version\n", r.OK("waiting", "--consumer", "other"))
}

func TestSkip(t *testing.T) {
	t.Parallel()
	r, s, id := stuck(t)
	s.deliver(message("order/gap", 1), message("order/gap", 5), message("order/gap", 6), message("order/one", 2))
	with := func(key, version string) []string {
		return []string{"skip", "shipping", key, "--version", version, "--reason", "lost in the restore", "--yes"}
	}
	for key, want := range map[string]string{
		"order/bad":  "order/bad waits for version 2, which is dead letter " + id + ": slipway inbox dead redrive or discard",
		"order/none": "nothing waits for a version of order/none: slipway inbox waiting shows what does",
		"order/gap":  "order/gap waits for versions 2 to 4: only that can be skipped, not up to version 5",
	} {
		require.Contains(t, r.Fails(cli.ExitFailed, with(key, "5")...), want)
	}
	require.Contains(t, r.Fails(cli.ExitFailed, with("order/gap", "1")...), "not up to version 1")
	require.Equal(t, "Give up versions 2 to 3 of order/gap? shipping will never apply it.",
		r.Asks("skip", "shipping", "order/gap", "--version", "3", "--reason", "x"))
	require.Equal(t, "[]\n", r.OK("journal", "-o", "json"))

	require.Equal(t, "skipped versions 2 to 3 of order/gap; it waits for version 4\n", r.OK(with("order/gap", "3")...))
	require.Equal(t, "v1", r.effects("order/gap"))
	require.Equal(t, inbox.Skipped{Consumer: "shipping", Key: "order/gap", From: 4, To: 4, Waiting: 2, Ready: true},
		decoded[inbox.Skipped](r, with("order/gap", "4")...))
	r.becomes("order/gap", "v1 v5 v6")
	s.deliver(message("order/gap", 3), message("order/gap", 7))
	require.Equal(t, "v1 v5 v6 v7", r.effects("order/gap"))
	require.Equal(t, "skipped version 1 of order/one; it goes on with version 2\n", r.OK(with("order/one", "1")...))
	r.becomes("order/one", "v2")
	entry := decoded[[]inbox.JournalEntry](r, "journal")[1]
	require.Equal(t, inbox.JournalEntry{
		At: entry.At, Who: "ann", Action: "skip", Reason: "lost in the restore", Detail: "skipped versions 4 to 4 of order/gap for shipping",
	}, entry)
}
