package outboxcmd_test

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/slipwayhq/slipway/cmd/slipway/internal/cli"
	"github.com/slipwayhq/slipway/platform/outbox"
)

// replayed is the JSON of slipway outbox replay.
type replayed struct {
	outbox.ReplayPlan
	Published  int64      `json:"published"`
	FinishedAt *time.Time `json:"finished_at"`
}

func TestOutbox_replay(t *testing.T) {
	t.Parallel()
	r := setup(t)
	s, _ := r.relay("broker")
	paid := event("a", 3)
	paid.Type = "order.paid"
	r.add(event("a", 1), event("a", 2), paid)
	r.Eventually(func() bool { return s.versions("order/a") == "1 2 3" && r.published("a") })

	t.Run("counts", func(t *testing.T) {
		plan := decoded[outbox.ReplayPlan](r, "replay", "--since", "2h", "--dry-run")
		require.Equal(t, map[string]int64{"order.placed": 2, "order.paid": 1}, plan.Types)
		require.Zero(t, plan.Replay)
		require.WithinDuration(t, time.Now().Add(-2*time.Hour), plan.Since, time.Hour)
		require.False(t, plan.Complete)
		out, note, code := r.Call("replay", "--since", "2h", "--dry-run")
		require.Equal(t, cli.ExitOK, code)
		require.Regexp(t, `^TYPE +EVENTS\norder.paid +1\norder.placed +2\nall to broker since .* +3\n$`, out)
		require.Contains(t, note, "events may be missing")
		require.Contains(t, r.OK("replay", "--since", "1ns", "--dry-run"), "nothing that is kept was published to broker since")
	})
	t.Run("publishes again and waits for it", func(t *testing.T) {
		out := r.OK("replay", "--since", time.Now().Add(-time.Hour).Format(time.RFC3339), "--yes", "--wait", "--sink", "broker")
		require.Equal(t, "replay 1: published 3 events again\n", out)
		require.Equal(t, "1 2 3 1 2 3", s.versions("order/a"))
		done := decoded[replayed](r, "replay", "--since", "1h", "--yes", "--wait", "--reason", "lost")
		require.Equal(t, int64(3), done.Published)
		require.NotNil(t, done.FinishedAt)
		require.Equal(t, "lost", decoded[[]outbox.JournalEntry](r, "journal")[0].Reason)
	})
	t.Run("does not wait", func(t *testing.T) {
		require.Contains(t, r.OK("replay", "--since", "1h", "--yes"), "replay 3: 3 events will be published again")
		require.Equal(t, int64(4), decoded[replayed](r, "replay", "--since", "1h", "--yes").Replay)
		r.Eventually(func() bool { return s.versions("order/a") == "1 2 3 1 2 3 1 2 3 1 2 3 1 2 3" })
	})
	t.Run("says why it does not move", func(t *testing.T) {
		r.OK("pause")
		r.Eventually(func() bool { // it has heard of it
			r.add(event("b", 1))
			return decoded[outbox.Status](r, "status").Sinks[0].Unsent > 0
		})
		said, ended := r.Start("replay", "--since", "1h", "--yes", "--wait")
		r.Eventually(func() bool {
			return strings.Contains(said.String(), "an operator has paused it: slipway outbox resume --sink broker")
		})
		r.OK("resume")
		r.EndsWith(cli.ExitOK, ended)
		require.Regexp(t, `✓ published \d+ events again`, said.String())
	})
	t.Run("refuses the future and a sink that is not there", func(t *testing.T) {
		require.Contains(t, r.Fails(cli.ExitUsage, "replay", "--since", "2999-01-01T00:00:00Z", "--yes"), "is in the future")
		require.Contains(t, r.Fails(cli.ExitFailed, "replay", "--since", "1h", "--yes", "--sink", "x"), "choose from broker")
	})
	t.Run("wants to know the sink when there are several", func(t *testing.T) {
		_, _ = r.relay("kafka")
		require.Contains(t, r.Fails(cli.ExitUsage, "replay", "--since", "1h", "--yes"), "choose with --sink: broker, kafka")
	})
}

// Without a relay nothing moves, and who waits is told so. With its sink a replay is gone.
func TestOutbox_replayWithoutARelay(t *testing.T) {
	t.Parallel()
	r := setup(t)
	s, stop := r.relay("broker")
	r.add(event("a", 1))
	r.Eventually(func() bool { return s.versions("order/a") == "1" && r.published("a") })
	stop()
	said, ended := r.Start("replay", "--since", "1h", "--yes", "--wait")
	r.Eventually(func() bool {
		return strings.Contains(said.String(), "nothing is published now: no replica gives a sign of life")
	})
	require.Regexp(t, `replay +broker +- +emptying of old events`, r.OK("blockers"))
	require.Equal(t, int64(1), decoded[outbox.Status](r, "status").Sinks[0].OpenReplays)
	r.OK("remove-sink", "broker", "--reason", "x", "--yes")
	r.EndsWith(cli.ExitFailed, ended)
	require.Contains(t, said.String(), "replay 1 is gone, and its sink with it")
}

// A replay that waits for a relay is given up, and who waits for it is told so.
func TestOutbox_cancelReplay(t *testing.T) {
	t.Parallel()
	r := setup(t)
	s, stop := r.relay("broker")
	r.add(event("a", 1))
	r.Eventually(func() bool { return s.versions("order/a") == "1" && r.published("a") })
	stop()
	said, ended := r.Start("replay", "--since", "1h", "--yes", "--wait")
	r.Eventually(func() bool { return strings.Contains(said.String(), "nothing is published now") })
	require.Contains(t, r.OK("blockers"), "slipway outbox replay --cancel 1")

	require.Equal(t, "replay 1 is given up: 0 events stay published\n", r.OK("replay", "--cancel", "1", "--reason", "the wrong day", "--yes"))
	r.EndsWith(cli.ExitFailed, ended)
	require.Contains(t, said.String(), "replay 1 was given up: slipway outbox journal says by whom")
	entry := decoded[[]outbox.JournalEntry](r, "journal")[0]
	require.Equal(t, outbox.JournalEntry{At: entry.At, Who: "ann", Action: "cancel-replay", Sink: "broker", Reason: "the wrong day", Detail: "replay 1: 0 events published"}, entry)
	require.Contains(t, r.Fails(cli.ExitFailed, "replay", "--cancel", "1", "--reason", "x", "--yes"), "replay 1 has ended already")
	require.Contains(t, r.Fails(cli.ExitFailed, "replay", "--cancel", "7", "--reason", "x", "--yes"), "there is no replay 7")
	require.Zero(t, decoded[outbox.Status](r, "status").Sinks[0].OpenReplays)

	r.OK("replay", "--since", "1h", "--yes")
	gone := decoded[map[string]any](r, "replay", "--cancel", "2", "--reason", "x", "--yes")
	require.InDelta(t, 2, gone["replay"], 0)
	require.Equal(t, true, gone["cancelled"])
}
