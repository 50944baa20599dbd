package main

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/slipwayhq/slipway/bench/internal/lab"
	"github.com/slipwayhq/slipway/bench/outbox/internal/audit"
	"github.com/slipwayhq/slipway/bench/outbox/internal/system"
	"github.com/slipwayhq/slipway/platform/broker"
	"github.com/slipwayhq/slipway/platform/outbox"
)

func TestParse(t *testing.T) {
	t.Parallel()
	t.Run("takes benchmarks and flags in any order", func(t *testing.T) {
		t.Parallel()
		o, err := parse([]string{"B1", "-events", "5", "b5", "-quick"})
		require.NoError(t, err)
		require.Equal(t, []string{"B1", "B5"}, o.ids)
		require.Equal(t, 5, pick(o, o.events, 300, 30), "a flag goes before all")
		require.Equal(t, 1, pick(o, o.runs, 3, 1))
		require.Equal(t, time.Minute, pick(options{}, 0, time.Minute, time.Second))
	})
	t.Run("names what it does not know", func(t *testing.T) {
		t.Parallel()
		_, err := parse([]string{"B1", "B7", "B99"})
		require.ErrorContains(t, err, "there is no benchmark B7\nthere is no benchmark B99")
		_, err = parse([]string{"B1", "-peers", "claim_1000,river,clam"})
		require.EqualError(t, err, "B1 has no peer river\nB1 has no peer clam")
		_, err = parse([]string{"-runs", "-1"})
		require.ErrorContains(t, err, "must not be negative")
	})
}

func TestAmong(t *testing.T) {
	t.Parallel()
	names := func(peers string) (all []string) {
		for _, s := range (options{peers: peers}).among(stocks(1)) {
			for _, c := range s.contenders {
				all = append(all, c.Name())
			}
		}
		return all
	}
	require.Equal(t, []string{"ours", "ours_4000", "claim_5000", "watermill_100"}, names("watermill_100,claim_5000"))
	require.Contains(t, names(""), "river")
}

func numberedMessage(number int64) broker.Message {
	payload := make([]byte, system.PayloadHead)
	system.Mark(payload, 7, 1, number)
	return broker.Message{Payload: payload}
}

func TestCounter_Publish(t *testing.T) {
	t.Parallel()
	c := newCounter(3)
	begin := time.Now()
	publish := func(numbers ...int64) {
		var messages []broker.Message
		for _, n := range numbers {
			messages = append(messages, numberedMessage(n))
		}
		require.NoError(t, c.Publish(t.Context(), messages))
	}
	publish(1, 1, 2, 99, -1)
	select {
	case <-c.done:
		t.Fatal("two different events of three are not all")
	default:
	}
	require.Equal(t, 2, c.drained(begin).events)
	publish(3)
	<-c.done
	publish(3)
	d := c.drained(begin)
	require.Equal(t, 3, d.events)
	require.Equal(t, d.each, c.last.Sub(c.first), "the first batch is not in it")
	require.Error(t, c.Publish(t.Context(), []broker.Message{{Payload: []byte("short")}}))
}

func TestDrainLine(t *testing.T) {
	t.Parallel()
	rated := func(s system.System, rates ...float64) *contender {
		return &contender{System: s, rates: rates, rows: 10}
	}
	all := []*stock{
		{rows: 10, contenders: []*contender{
			rated(system.Slipway(outbox.Config{}), 400, 200, 440), rated(system.Slipway(outbox.Config{Batch: 4000}), 600, 300, 660),
		}},
		{rows: 10, contenders: []*contender{rated(system.Claim(100), 50, 60, 70), rated(system.Claim(1000), 200, 100, 220)}},
		{rows: 10, contenders: []*contender{rated(system.WatermillDefault(system.WatermillOptions{Batch: 100}), 6, 3, 6.6)}},
		{rows: 10, reference: true, contenders: []*contender{rated(system.River(), 900, 900, 900)}},
	}
	require.Equal(t, "B1 ours=600 ours_name=ours_4000 best_peer=200 peer_name=claim_1000 ratio=3.000 spread=0.600 best_peer_spread=0.600 runs=3 events=10"+
		" ours_default=400"+
		" claim_100=60 claim_100_rows=10 claim_1000=200 claim_1000_rows=10"+
		" watermill_100=6 watermill_100_rows=10 river=900 river_rows=10 ratio_watermill_default=100.000",
		drainLine(all, compare(all), 3).String(), "the reference is no peer, and a slow run is slow for both")
	require.NoError(t, compare(all).judge(), "three times is what was promised")
	all[0].contenders = all[0].contenders[:1]
	require.EqualError(t, compare(all).judge(), "ours: 2.00 times claim_1000, at least 3 were promised")
	require.NotContains(t, drainLine(all[:2], compare(all[:2]), 3).String(), "watermill", "who was left out")
	require.EqualError(t, compare(all[:2]).judge(), "ours: 2.00 times claim_1000, at least 3 were promised")
	all[2].contenders[0].rates = []float64{10, 5, 11}
	require.ErrorContains(t, compare(all).judge(), "ours: 40.00 times watermill_100, at least 60 were promised")
}

func TestJudgePinned(t *testing.T) {
	t.Parallel()
	require.NoError(t, judgePinned([]pinned{{name: "ours", deadOther: 2}, {name: "claim_1000", deadEvents: 7, missing: 1}}))
	for _, broken := range []pinned{{name: "ours", deadEvents: 1}, {name: "ours", deadOther: 5000}, {name: "ours", missing: 1}} {
		require.ErrorContains(t, judgePinned([]pinned{broken}), "ours, idle")
	}
}

func TestJudgeCosts(t *testing.T) {
	t.Parallel()
	require.NoError(t, judgeCosts([]cost{{name: "ours", idle: 4.2, standby: 5}, {name: "river", idle: 40}}))
	require.ErrorContains(t, judgeCosts([]cost{{name: "ours", idle: 11}}), "11.0 statements")
	require.ErrorContains(t, judgeCosts([]cost{{name: "ours", standby: 6}}), "6.0 standing by")
}

func TestBench_verdict(t *testing.T) {
	t.Parallel()
	broken := errors.New("a promise")
	require.Equal(t, broken, (&bench{}).verdict(broken))
	require.NoError(t, (&bench{options: options{quick: true}}).verdict(broken))
}

func TestJudge(t *testing.T) {
	t.Parallel()
	good := func() []fuzzResult {
		return []fuzzResult{
			{name: "ours", kills: 3, Verdict: audit.Verdict{Committed: 10, Duplicates: 4}},
			{name: "watermill", Verdict: audit.Verdict{Inversions: 5}},
			{name: "after_last", Verdict: audit.Verdict{Losses: 2}},
		}
	}
	for _, c := range []struct {
		name, breach string
		change       func(r []fuzzResult)
	}{
		{"duplicates are allowed", "", func([]fuzzResult) {}},
		{"a loss", "ours: 1 losses", func(r []fuzzResult) { r[0].Losses = 1 }},
		{"an inversion", "1 inversions", func(r []fuzzResult) { r[0].Inversions = 1 }},
		{"a phantom", "1 phantoms", func(r []fuzzResult) { r[0].Phantoms = 1 }},
		{"a relay that nobody killed", "0 kills are no proof", func(r []fuzzResult) { r[0].kills = 0 }},
		{"nothing written", "0 events", func(r []fuzzResult) { r[0].Committed = 0 }},
		{"no peer that inverts", "cannot be trusted", func(r []fuzzResult) { r[1].Inversions = 0 }},
		{"no peer that loses", "cannot be trusted", func(r []fuzzResult) { r[2].Losses = 0 }},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			r := good()
			c.change(r)
			if err := judge(r); c.breach == "" {
				require.NoError(t, err)
			} else {
				require.ErrorContains(t, err, c.breach)
			}
		})
	}
}

func TestFuzzLine(t *testing.T) {
	t.Parallel()
	require.Equal(t, "B5 ours_inversions=0 ours_losses=0 ours_phantoms=0 ours_duplicates=4 ours_transactions=8 ours_events=10 ours_kills=3 ours_pauses=1",
		fuzzLine([]fuzzResult{{
			name: "ours", transactions: 8, kills: 3, pauses: 1, Verdict: audit.Verdict{Committed: 10, Duplicates: 4},
		}}).String())
}

func TestJourneys_waited(t *testing.T) {
	t.Parallel()
	j := newJourneys(4)
	at := func(ms int) time.Time { return j.begin.Add(time.Duration(ms) * time.Millisecond) }
	j.commit(0, at(10), at(15))
	j.received[0].Store(j.at(at(25)))
	j.commit(1, at(20), at(22))
	j.received[1].Store(j.at(at(21))) // seen before its committer heard of it
	j.commit(2, at(0), at(1))         // never arrives
	committed, due, missing := j.waited(0, 4)
	require.Equal(t, 1, missing, "what was not committed is not missing")
	require.Equal(t, []time.Duration{10 * time.Millisecond, 0}, committed[:2])
	require.Equal(t, []time.Duration{15 * time.Millisecond, time.Millisecond}, due[:2])
	require.Len(t, committed, 3)
	committed, _, missing = j.waited(0, 2)
	require.Len(t, committed, 2)
	require.Zero(t, missing)
}

func TestJourneys_receive(t *testing.T) {
	t.Parallel()
	j := newJourneys(2)
	require.NoError(t, j.Publish(context.Background(), []broker.Message{
		numberedMessage(1), numberedMessage(1), numberedMessage(unnumbered), numberedMessage(2),
	}))
	require.EqualValues(t, 4, j.arrivals.Load())
	require.EqualValues(t, 1, j.arrived.Load())
	first := j.received[1].Load()
	j.receive(numberedMessage(1).Payload)
	require.Equal(t, first, j.received[1].Load(), "the first arrival counts")
	j.reset()
	require.Zero(t, j.arrived.Load())
}

func TestPinnedLine(t *testing.T) {
	t.Parallel()
	p := pinned{name: "ours", holder: "writer", p99: []time.Duration{5 * time.Millisecond, 9 * time.Millisecond, 6 * time.Millisecond}, deadOther: 3}
	require.Equal(t, "B4 ours_writer_p99_first_ms=5.0 ours_writer_p99_last_ms=6.0 ours_writer_p99_worst_ms=9.0"+
		" ours_writer_dead_events=0 ours_writer_dead_bookkeeping=3 ours_writer_missing=0 rate=1000 hold=1m0s",
		pinnedLine([]pinned{p}, time.Minute).String())
}

func TestInboxLine(t *testing.T) {
	t.Parallel()
	small := &memory{rows: 10, rates: []float64{100, 50}, freshP50: []float64{1, 2}, freshP99: []float64{4, 8}, dupeP99: []float64{3, 3}}
	large := &memory{rows: 500, rates: []float64{90, 45}, freshP50: []float64{1, 2}, freshP99: []float64{5, 10}, dupeP99: []float64{3, 6}}
	d := dropped{
		partitions: 2, rows: 62, longest: 20 * time.Millisecond,
		during: []time.Duration{7 * time.Millisecond}, beside: []time.Duration{5 * time.Millisecond},
	}
	require.Equal(t, "B13 small_rows=10 small_transactions_s=75 small_new_p50_ms=1.500 small_new_p99_ms=6.000 small_known_p99_ms=3.000"+
		" large_rows=500 large_transactions_s=68 large_new_p50_ms=1.500 large_new_p99_ms=7.500 large_known_p99_ms=4.500"+
		" rate_ratio=0.900 new_p50_ratio=1.000 new_p99_ratio=1.250 known_p99_ratio=1.500"+
		" dropped=2 dropped_rows=62 dropped_longest_ms=20.0 dropped_calls=1 dropped_during_p99_ms=7.000 dropped_beside_p99_ms=5.000 runs=2",
		inboxLine(small, large, d, 2).String())
}

func TestShareOf(t *testing.T) {
	t.Parallel()
	one := shareOf(lab.Reading{Statements: 400, WAL: 70_000}, 100)
	require.Equal(t, share{1, 500}, one.minus(share{3, 200}))
}

func TestNumbered(t *testing.T) {
	t.Parallel()
	messages := numbered(publishKeys, 2)
	require.NoError(t, messages[0].Validate())
	require.Equal(t, "order/0", messages[0].Key)
	require.NotEqual(t, messages[0].ID, messages[1].ID)
	aggregate, version, number, err := system.Marked(messages[1].Payload)
	require.NoError(t, err)
	require.Equal(t, []int64{1, 2, publishKeys + 1}, []int64{aggregate, version, number})
}
