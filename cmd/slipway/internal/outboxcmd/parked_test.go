package outboxcmd_test

import (
	"encoding/base64"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/slipwayhq/slipway/cmd/slipway/internal/cli"
	"github.com/slipwayhq/slipway/platform/outbox"
)

// parked is a rig whose order/bad has three events that the broker has refused, and whose relay
// goes on with everything else.
func parked(t *testing.T) (*rig, *sink, outbox.ParkedAggregate) {
	t.Helper()
	r := setup(t)
	s, _ := r.relay("broker")
	s.refuse("order/bad", true)
	r.add(event("bad", 1), event("bad", 2), event("bad", 3), event("good", 1))
	var list []outbox.ParkedAggregate
	r.Eventually(func() bool {
		list = decoded[[]outbox.ParkedAggregate](r, "list")
		return len(list) == 1 && list[0].Events == 3
	})
	return r, s, list[0]
}

func TestOutbox_list(t *testing.T) {
	t.Parallel()
	r, _, p := parked(t)
	require.Equal(t, "order/bad", p.AggregateType+"/"+p.AggregateID)
	require.Nil(t, p.NextAttemptAt)
	require.Contains(t, p.Error, "is\npoison")

	require.Regexp(t, `^SINK +AGGREGATE .*\nbroker +order/bad +3 +`+p.FirstEvent.String()+` +\d.* ago +\d+ +when you redrive it +.*order/bad is poison\n$`, r.OK("list"))
	require.Equal(t, r.OK("list", "-o", "json"), r.OK("list", "--sink", "broker", "-o", "json"))
	_, note, _ := r.Call("list", "--limit", "1")
	require.Contains(t, note, "there may be more: --limit")
	require.Regexp(t, `broker +0 +- +3 events of 1 aggregate +`, r.OK("status"))
	require.Regexp(t, `parked +broker .*3 events of 1 aggregates.*\n +-> slipway outbox list --sink broker\n`, r.OK("blockers"))

	r.Exec("update slipway.outbox_parked_aggregate set next_attempt_at = now() + interval '90 minutes'")
	require.Regexp(t, `in 1 h \d+ m`, r.OK("list"))
}

func TestOutbox_show(t *testing.T) {
	t.Parallel()
	r, s, p := parked(t)

	t.Run("a parked event with a text", func(t *testing.T) {
		out := r.OK("show", p.FirstEvent.String())
		require.Regexp(t, `type +order.placed, version 1\naggregate +order/bad, version 1\nstored .*\(.* ago\), position \d+\nsink broker +parked\n`, out)
		require.Regexp(t, `(?m)^header tenant +blue$`, out)
		require.Contains(t, out, "\npayload, 12 bytes:\n{\"total\": 7}\n")
		type shown struct {
			ID      string            `json:"event_id"`
			Headers map[string]string `json:"headers"`
			Payload string            `json:"payload"`
			Text    string            `json:"payload_text"`
			Sinks   map[string]string `json:"sinks"`
		}
		require.Equal(t, shown{
			p.FirstEvent.String(),
			map[string]string{"tenant": "blue"},
			base64.StdEncoding.EncodeToString([]byte(`{"total": 7}`)),
			`{"total": 7}`,
			map[string]string{"broker": "parked"},
		}, decoded[shown](r, "show", p.FirstEvent.String()))
	})
	t.Run("a published one with bytes and a header that a terminal would obey", func(t *testing.T) {
		e := event("bin", 0)
		e.Payload, e.Headers = []byte{0, 0x1b, 'x', 255}, map[string]string{"evil": "\x1b[2Jgone"}
		r.add(e)
		r.Eventually(func() bool { return s.versions("order/bin") == "" && r.published("bin") })
		id := r.idOf("bin")
		out := r.OK("show", id)
		require.Regexp(t, `aggregate +order/bin\n`, out, "without a version")
		require.Regexp(t, `sink broker +published\nheader evil +\[2Jgone\n\npayload, 4 bytes:\n00000000  00 1b 78 ff .*\|\.\.x\.\|\n$`, out)
		shown := decoded[map[string]any](r, "show", id)
		require.Equal(t, "ABt4/w==", shown["payload"])
		require.NotContains(t, shown, "payload_text")
	})
	t.Run("one whose headers nobody can read", func(t *testing.T) {
		r.Exec("update slipway.outbox_parked set headers = '{\"a\":'")
		r.Exec("truncate slipway.outbox_0")
		require.Regexp(t, `headers +{"a":\n`, r.OK("show", p.FirstEvent.String()))
		require.Equal(t, `{"a":`, decoded[map[string]any](r, "show", p.FirstEvent.String())["headers"])
	})
}

// idOf returns the id of the last event of an order, published whether it has left.
func (r *rig) idOf(order string) (id string) {
	r.T.Helper()
	err := r.Pool.QueryRow(r.T.Context(), "select event_id::text from slipway.outbox where aggregate_id = $1 order by id desc limit 1", order).Scan(&id)
	require.NoError(r.T, err)
	return id
}

func (r *rig) published(order string) bool {
	r.T.Helper()
	type fates struct{ Sinks map[string]string }
	return decoded[fates](r, "show", r.idOf(order)).Sinks["broker"] == "published"
}

func TestOutbox_redrive(t *testing.T) {
	t.Parallel()
	r, s, _ := parked(t)
	require.Contains(t, r.Fails(cli.ExitFailed, "redrive", "order/good"), "not found: slipway outbox list shows what is parked")
	require.Contains(t, r.Fails(cli.ExitFailed, "redrive", "order/bad", "--sink", "x"), "choose from broker")
	s.refuse("order/bad", false)
	require.Equal(t, "1 aggregate will be tried again at once: slipway outbox list shows what stays parked\n", r.OK("redrive", "order/bad", "--reason", "mended"))
	r.Eventually(func() bool { return s.versions("order/bad") == "1 2 3" })
	entry := decoded[[]outbox.JournalEntry](r, "journal")[0]
	require.Equal(t, "redrive broker order/bad mended", entry.Action+" "+entry.Sink+" "+entry.Detail+" "+entry.Reason)

	odd := event("x/y", 1)
	odd.AggregateType = "a/b"
	for key, args := range map[string][]string{"a/b/x/y": {"a/b/x/y"}, "order/all": {"--all", "--sink", "broker"}} {
		s.refuse(key, true)
		r.add(odd, event("all", 1))
		r.Eventually(func() bool { return len(decoded[[]outbox.ParkedAggregate](r, "list")) == 1 })
		s.refuse(key, false)
		type done struct{ Aggregates int }
		require.Equal(t, done{1}, decoded[done](r, append([]string{"redrive"}, args...)...))
		r.Eventually(func() bool { return r.OK("list") == "nothing is parked\n" })
	}
	require.Equal(t, "1 1", s.versions("a/b/x/y"))
	require.Equal(t, "1 1", s.versions("order/all"))
}

func TestOutbox_discard(t *testing.T) {
	t.Parallel()
	r, s, p := parked(t)
	id := p.FirstEvent.String()
	with := func(args ...string) []string {
		return append(append([]string{"discard"}, args...), "--reason", "a test order", "--yes")
	}
	r.Eventually(func() bool { return r.published("good") })
	require.Contains(t, r.Fails(cli.ExitFailed, with(r.idOf("good"))...), "is not parked (broker: published)")
	require.Contains(t, r.Fails(cli.ExitFailed, with(id, "--sink", "x")...), "choose from broker")

	require.Equal(t, id, decoded[map[string]string](r, with(id)...)["event_id"])
	require.Contains(t, r.Fails(cli.ExitFailed, with(id)...), "is not parked")
	var list []outbox.ParkedAggregate
	r.Eventually(func() bool { // the second has been tried, and refused
		list = decoded[[]outbox.ParkedAggregate](r, "list")
		return list[0].NextAttemptAt == nil
	})
	require.Equal(t, int64(2), list[0].Events)
	s.refuse("order/bad", false)
	require.Contains(t, r.OK(with(list[0].FirstEvent.String(), "--sink", "broker")...), "the later ones of its aggregate are tried at once")
	r.Eventually(func() bool { return s.versions("order/bad") == "3" })
	entry := decoded[[]outbox.JournalEntry](r, "journal")[0]
	require.Equal(t, "discard a test order", entry.Action+" "+entry.Reason)
}
