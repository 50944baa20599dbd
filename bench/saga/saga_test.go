package main

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/slipwayhq/slipway/bench/internal/figure"
	"github.com/slipwayhq/slipway/bench/internal/lab"
	"github.com/slipwayhq/slipway/bench/peers/rig"
)

func TestParse(t *testing.T) {
	t.Parallel()
	t.Run("takes benchmarks and flags in any order", func(t *testing.T) {
		t.Parallel()
		o, err := parse([]string{"B7", "-runs", "5", "b9", "-quick", "-systems", "ours,dtm"})
		require.NoError(t, err)
		require.Equal(t, []string{"B7", "B9"}, o.ids)
		require.Equal(t, 5, pick(o, o.runs, 3, 1), "a flag goes before all")
		require.Equal(t, 1, pick(o, 0, 3, 1))
		all := o.among(everyone())
		require.Len(t, all, 2)
		require.Equal(t, "dtm", all[1].name)
	})
	t.Run("names what it does not know", func(t *testing.T) {
		t.Parallel()
		_, err := parse([]string{"B7", "B1", "-systems", "ours,theirs"})
		require.ErrorContains(t, err, "there is no benchmark B1\nthere is no system theirs")
		_, err = parse([]string{"-waiting", "-1"})
		require.ErrorContains(t, err, "must not be negative")
	})
}

func TestLapOf(t *testing.T) {
	t.Parallel()
	good := func() rig.Report {
		return rig.Report{Sagas: 4, Took: 2 * time.Second, Micros: []int64{1000, 4000, 2000, 3000}, Calls: 13, Repeated: 1}
	}
	t.Run("takes sagas that did what they should", func(t *testing.T) {
		t.Parallel()
		l, err := lapOf(good(), race{})
		require.NoError(t, err)
		require.Equal(t, lap{rate: 2, p50: 2 * time.Millisecond, p99: 4 * time.Millisecond}, l)
	})
	for _, c := range []struct {
		name, problem string
		change        func(r *rig.Report, of *race)
	}{
		{"none at all", "no saga", func(r *rig.Report, _ *race) { r.Sagas = 0 }},
		{"one with another end", "1 of 4", func(r *rig.Report, _ *race) { r.Wrong = 1 }},
		{"a step that was left out", "12 calls, 1 repeated", func(r *rig.Report, _ *race) { r.Calls-- }},
		{"sagas that were not undone", "not 5 for each", func(_ *rig.Report, of *race) { of.rejects = true }},
	} {
		t.Run("refuses "+c.name, func(t *testing.T) {
			t.Parallel()
			r, of := good(), race{}
			c.change(&r, &of)
			_, err := lapOf(r, of)
			require.ErrorContains(t, err, c.problem)
		})
	}
}

func TestRaceLine(t *testing.T) {
	t.Parallel()
	ms := time.Millisecond
	all := results{
		ours:  {64: {{rate: 400, p50: 3 * ms, p99: 9 * ms}, {rate: 200, p50: 5 * ms, p99: 8 * ms}, {rate: 440, p50: 4 * ms, p99: 7 * ms}}},
		"dtm": {64: {{rate: 100, p50: ms, p99: ms}, {rate: 20, p50: ms, p99: ms}, {rate: 110, p50: ms, p99: ms}}},
	}
	r := race{id: "B7", clients: []int{64}, systems: []contender{{name: ours}, {name: "dtm"}}}
	require.Equal(t, "B7 ours_64=400 ours_64_p50_ms=4.0 ours_64_p99_ms=8.0 ours_64_spread=0.600"+
		" dtm_64=100 dtm_64_p50_ms=1.0 dtm_64_p99_ms=1.0 dtm_64_spread=0.900 ratio_dtm_64=4.000 runs=3",
		raceLine(r, all, 3).String(), "a slow run is slow for both")
	all[bare] = map[int][]lap{64: {{rate: 800}, {rate: 400}, {rate: 880}}}
	require.Contains(t, raceLine(r, all, 3).String(), " most_ours_64=2.000 ratio_dtm_64=4.000 most_dtm_64=8.000 ",
		"what the steps alone would get to bounds every ratio")
	all["dtm"] = nil
	require.NotContains(t, raceLine(r, all, 3).String(), "dtm", "one that has failed has no figures")
}

func TestTakeovers(t *testing.T) {
	t.Parallel()
	killed := time.Now()
	at := func(ms int, by string) rig.Visit {
		return rig.Visit{At: killed.Add(time.Duration(ms) * time.Millisecond), By: by}
	}
	visits := map[string][]rig.Visit{
		"again":         {at(-9, "dead"), at(20, "other")},
		"again, twice":  {at(-9, "dead"), at(-5, "dead"), at(30, "dead"), at(40, "other")},
		"not yet":       {at(-9, "dead")},
		"of the other":  {at(-9, "other"), at(50, "other")},
		"started later": {at(5, "dead")},
	}
	times, of := takeovers(visits, "dead", killed)
	require.Equal(t, 3, of)
	require.ElementsMatch(t, []time.Duration{20 * time.Millisecond, 30 * time.Millisecond}, times)
}

func TestJudge(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, breach string
		change       func(l *loss)
	}{
		{"every call of the dead replica is repeated once", "", func(*loss) {}},
		{"a saga that is not over", "1 sagas are not over", func(l *loss) { l.unfinished = 1 }},
		{"a saga that nobody took over", "9 of 10 recovered", func(l *loss) { l.recovered = 9 }},
		{"a call of another replica repeated", "11 calls were repeated", func(l *loss) { l.repeated = 11 }},
		{"nothing in flight", "no calls on their way", func(l *loss) { *l = loss{} }},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			l := loss{flight: 30, dead: 10, first: time.Second, most: 2 * time.Second, recovered: 10, repeated: 10}
			c.change(&l)
			if err := judge([]loss{l}); c.breach == "" {
				require.NoError(t, err)
			} else {
				require.ErrorContains(t, err, c.breach)
			}
		})
	}
}

func TestLossLine(t *testing.T) {
	t.Parallel()
	line := figure.NewLine("B9")
	lossLine(line, "dbos", []loss{{flight: 30, dead: 10, first: time.Second, recovered: 9, repeated: 9, unfinished: 1}})
	require.Equal(t, "B9 dbos_inflight=30 dbos_dead_inflight=10 dbos_first_s=1.000 dbos_99_s=never dbos_99_worst_s=never"+
		" dbos_recovered=0.900 dbos_repeated=9 dbos_repeated_beyond_dead=-1 dbos_unfinished=1 dbos_runs=1", line.String())
}

func TestOpenOurs(t *testing.T) {
	t.Parallel()
	server, err := lab.Start(t.Context())
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, server.Close(t.Context())) })
	db, err := server.Create(t.Context())
	require.NoError(t, err)
	p := rig.NewParticipant()
	s, err := openOurs(t.Context(), rig.Options{URL: db.URL, Install: true}, "", p.Call)
	require.NoError(t, err)
	t.Cleanup(s.Close)
	for _, of := range []race{{}, {rejects: true}} {
		report, err := rig.Load{Clients: 4, Length: 300 * time.Millisecond, Rejects: of.rejects}.Run(t.Context(), s, p)
		require.NoError(t, err)
		l, err := lapOf(report, of)
		require.NoError(t, err)
		require.Positive(t, l.rate)
	}
	before, err := server.CPU()
	require.NoError(t, err)
	require.Positive(t, before)
}
