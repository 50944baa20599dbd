package inboxcmd_test

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/slipwayhq/slipway/cmd/slipway/internal/cli"
	"github.com/slipwayhq/slipway/platform/inbox"
)

// stuck is a rig whose order/bad has a dead letter, version 2, with two events behind it.
func stuck(t *testing.T) (*rig, *service, string) {
	t.Helper()
	r := setup(t)
	s := r.consume("shipping", inbox.ByVersion)
	s.refuse("order/bad", "v2", errRefused)
	s.deliver(message("order/bad", 1), message("order/bad", 2), message("order/bad", 3), message("order/bad", 4))
	letters := decoded[[]inbox.DeadLetter](r, "dead", "list")
	require.Len(t, letters, 1)
	return r, s, strconv.FormatInt(letters[0].ID, 10)
}

type changed struct {
	IDs []int64 `json:"dead_letters"`
}

func TestDead_list(t *testing.T) {
	t.Parallel()
	r, s, id := stuck(t)
	d := decoded[[]inbox.DeadLetter](r, "dead", "list", "--consumer", "shipping")[0]
	require.Equal(t, "order/bad 2 permanent 1 2", fmt.Sprint(d.Key, " ", d.Version, " ", d.Class, " ", d.Attempts, " ", d.Waiting))
	require.Equal(t, errRefused.Error(), d.Error, "JSON has all of it")

	out := r.OK("dead", "list")
	require.Regexp(t, `^ID +CONSUMER +SUBJECT +KEY +CLASS +ATTEMPTS +SINCE +WAITING +ERROR\n`+
		id+` +shipping +order.changed +order/bad +permanent +1 +\d.* ago +2 +the currency is  \[31munknown\n$`, out)
	_, note, _ := r.Call("dead", "list", "--limit", "1")
	require.Contains(t, note, "there may be more: --limit")

	s.refuse("order/worse", "v1", errors.New("no"))
	s.deliver(message("order/worse", 1))
	require.Len(t, decoded[[]inbox.DeadLetter](r, "dead", "list"), 2)
	require.Len(t, decoded[[]inbox.DeadLetter](r, "dead", "list", "--limit", "1"), 1)
	r.Exec("insert into slipway.inbox_consumer (consumer, mode, retention) values ('other', 'by_id', '1 day')")
	require.Equal(t, "no dead letters\n", r.OK("dead", "list", "--consumer", "other"))
	r.Exec("update slipway.inbox_dead set redrive_requested_at = now(), consumer = 'other' where key = 'order/worse'")
	require.Regexp(t, `permanent, to be redriven`, r.OK("dead", "list", "--consumer", "other"))
}

func TestDead_show(t *testing.T) {
	t.Parallel()
	r, s, id := stuck(t)
	t.Run("one with a text", func(t *testing.T) {
		out := r.OK("dead", "show", id)
		require.Regexp(t, `^FIELD +VALUE\ndead letter +`+id+` of shipping\nmessage +[0-9a-f-]{36}\nsubject +order.changed\nkey +order/bad, version 2\n`+
			`class +permanent\nattempts +1, first \d{4}-.*ago\), last \d{4}-.*\nwaiting +2 later events of its key\nheader aggregate_version +2\nheader tenant +blue\n`, out)
		require.Contains(t, out, "\npayload, 2 bytes:\nv2\n")
		type shown struct {
			Version    int64             `json:"version"`
			Headers    map[string]string `json:"headers"`
			Payload    string            `json:"payload"`
			Text       string            `json:"payload_text"`
			Error      string            `json:"error"`
			Resolution string            `json:"resolution"`
		}
		require.Equal(t, shown{2, map[string]string{"aggregate_version": "2", "tenant": "blue"}, "djI=", "v2", errRefused.Error(), ""},
			decoded[shown](r, "dead", "show", id))
	})
	t.Run("one that a terminal would obey", func(t *testing.T) {
		m := message("order/\x1b[2J", 1)
		m.Subject, m.Payload = "order.\x1b[2J", []byte{0, 0x1b, 'x', 255}
		m.Headers["evil\x1b"] = "\x1b[2Jgone"
		s.refuse(m.Key, string(m.Payload), errRefused)
		s.deliver(m)
		letters := decoded[[]inbox.DeadLetter](r, "dead", "list")
		evil := strconv.FormatInt(letters[1].ID, 10)
		out := r.OK("dead", "show", evil)
		require.Regexp(t, `header evil +\[2Jgone\n`, out)
		require.Regexp(t, `\nerror:\n00000000  74 68 65 .*\n(.*\n)+\npayload, 4 bytes:\n00000000  00 1b 78 ff .*\|\.\.x\.\|\n$`, out)
		question := r.Asks("dead", "discard", evil, "--reason", "x")
		r.OK("dead", "redrive", evil, "--reason", "\x1b[2J")
		for _, text := range []string{out, question, r.OK("dead", "list"), r.OK("journal")} {
			require.NotContains(t, text, "\x1b")
		}
		shown := decoded[map[string]any](r, "dead", "show", evil)
		require.Equal(t, "ABt4/w==", shown["payload"])
		require.NotContains(t, shown, "payload_text")
	})
	t.Run("one that is resolved", func(t *testing.T) {
		r.OK("dead", "discard", id, "--reason", "x", "--yes")
		require.Regexp(t, `\nresolved +discarded \d{4}-`, r.OK("dead", "show", id))
	})
}

func TestDead_redrive(t *testing.T) {
	t.Parallel()
	r, s, id := stuck(t)
	require.Equal(t, "dead letter "+id+": to be tried once more; slipway inbox dead list shows what fails again\n", r.OK("dead", "redrive", id))
	r.Eventually(func() bool { return decoded[inbox.DeadLetter](r, "dead", "show", id).Attempts == 2 })
	require.Equal(t, "v1", r.effects("order/bad"))

	s.refuse("order/bad", "v2", nil)
	n, err := strconv.ParseInt(id, 10, 64)
	require.NoError(t, err)
	require.Equal(t, changed{[]int64{n}}, decoded[changed](r, "dead", "redrive", "--all", "--consumer", "shipping", "--reason", "mended"))
	r.becomes("order/bad", "v1 v2 v3 v4")
	r.Eventually(func() bool { return r.OK("dead", "list") == "no dead letters\n" })
	require.Contains(t, r.Fails(cli.ExitFailed, "dead", "redrive", id), "dead letter "+id+" is redriven already: nothing was changed")
	require.Contains(t, r.Fails(cli.ExitFailed, "dead", "redrive", "--all", "--consumer", "shipping"), "shipping has no dead letters: slipway inbox dead list shows")

	entries := decoded[[]inbox.JournalEntry](r, "journal")
	require.Len(t, entries, 2)
	require.Equal(t, inbox.JournalEntry{At: entries[0].At, Who: "ann", Action: "redrive", Reason: "mended", Detail: "asked for dead letters [" + id + "]"}, entries[0])
	require.Equal(t, "by hand", entries[1].Reason)
	require.Regexp(t, `(?m)^\d{4}-\S+ \S+ +ann +redrive +mended +asked for dead letters \[`+id+`\]$`, r.OK("journal"))
	require.Len(t, decoded[[]inbox.JournalEntry](r, "journal", "--limit", "1"), 1)
}

// Whether it was applied before nobody can say.
func TestDead_redriveTooOld(t *testing.T) {
	t.Parallel()
	r := setup(t)
	s := r.consume("billing", inbox.ByID)
	old := message("order/old", 1)
	id := uuid.Must(uuid.Parse(old.ID))
	id[0], id[1] = 0, 1 // a day of 1970, after which the horizon has moved
	old.ID = id.String()
	s.deliver(old)
	letter := decoded[[]inbox.DeadLetter](r, "dead", "list")[0]
	require.Equal(t, "too_old", letter.Class)
	name := strconv.FormatInt(letter.ID, 10)
	_, note, code := r.Call("dead", "redrive", "--all", "--consumer", "billing")
	require.Equal(t, cli.ExitOK, code)
	require.Equal(t, "! nobody can say whether it was applied before, its mark is gone: dead letter "+name+"\n", note)
	r.becomes("order/old", "v1")
}

// The consumer does not run: what was asked for stays asked for.
func TestDead_redriveTwice(t *testing.T) {
	t.Parallel()
	r := setup(t)
	r.Exec(`insert into slipway.inbox_dead (consumer, message_id, key, subject, headers, payload, class, error, attempts, first_at)
		select 'shipping', 'm' || n, 'order/1', 'order.changed', '{}', '', 'permanent', 'no', 1, now() from generate_series(1, 2) n`)
	r.OK("dead", "redrive", "1")
	require.Equal(t, "nothing was changed: it was asked for already\n", r.OK("dead", "redrive", "1"))
	require.Equal(t, changed{[]int64{}}, decoded[changed](r, "dead", "redrive", "1"))
	require.Equal(t, "dead letter 2: to be tried once more; slipway inbox dead list shows what fails again\n", r.OK("dead", "redrive", "1", "2"))
	require.Equal(t, "discarded dead letters 1, 2\n", r.OK("dead", "discard", "1", "2", "--reason", "x", "--yes"))
}

func TestDead_discard(t *testing.T) {
	t.Parallel()
	r, s, id := stuck(t)
	with := func(args ...string) []string {
		return append(append([]string{"dead", "discard"}, args...), "--reason", "a test order", "--yes")
	}
	require.Equal(t, "Give up order.changed of order/bad? shipping will never apply it.", r.Asks("dead", "discard", id, "--reason", "x"))
	s.refuse("order/worse", "v1", errRefused)
	s.deliver(message("order/worse", 1))
	worse := decoded[[]inbox.DeadLetter](r, "dead", "list")[1].ID
	require.Equal(t, "Give up 2 dead letters? They will never be applied.", r.Asks("dead", "discard", id, fmt.Sprint(worse), "--reason", "x"))
	require.Contains(t, r.Fails(cli.ExitFailed, with(id, "999")...), "dead letter 999: not found")
	require.Len(t, decoded[[]inbox.DeadLetter](r, "dead", "list"), 2, "nothing has happened yet")

	require.Equal(t, "discarded dead letter "+id+"\n", r.OK(with(id)...))
	r.becomes("order/bad", "v1 v3 v4")
	require.Contains(t, r.Fails(cli.ExitFailed, with(id)...), "dead letter "+id+" is discarded already: nothing was changed")
	require.Equal(t, changed{[]int64{worse}}, decoded[changed](r, with(fmt.Sprint(worse))...))
	require.Equal(t, "no dead letters\n", r.OK("dead", "list"))
	entry := decoded[[]inbox.JournalEntry](r, "journal")[0]
	require.Equal(t, "ann discard a test order", strings.Join([]string{entry.Who, entry.Action, entry.Reason}, " "))
	require.WithinDuration(t, time.Now(), entry.At, time.Hour)
}
