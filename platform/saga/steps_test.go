package saga_test

import (
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/slipwayhq/slipway/platform/saga"
)

var everything = plan(
	one(step("a")), []saga.PlanStep{step("b"), step("c")}, one(wait(time.Minute)), one(pivot(true)),
	[]saga.PlanStep{final("y"), final("z")},
)

// drawEvent returns something that may happen to the instance.
func drawEvent(t *rapid.T, i saga.Instance, flying []saga.Command) saga.Event {
	kind := saga.EventKind(rapid.IntRange(int(saga.Resumed), int(saga.OperatorSkip)).Draw(t, "kind"))
	e := saga.Event{Kind: kind, Signal: rapid.Bool().Draw(t, "signal")}
	if kind == saga.Returned && len(flying) > 0 {
		c := rapid.SampledFrom(flying).Draw(t, "call")
		e.Stage, e.Step, e.Call = c.Stage, c.Step, c.Kind
		e.Class = saga.Class(rapid.IntRange(0, 3).Draw(t, "class"))
		e.Happened = rapid.Bool().Draw(t, "happened")
	}
	return e
}

// TestInstance_EncodeSteps: who reads an instance back goes on as who has written it would.
func TestInstance_EncodeSteps(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		now := simulated
		i, due := everything.Start("id", now)
		flying := due
		for range rapid.IntRange(0, 30).Draw(t, "events") {
			now = now.Add(time.Duration(rapid.IntRange(0, 5000).Draw(t, "ms")) * time.Millisecond)
			i, due = everything.Next("id", i, drawEvent(t, i, flying), now)
			flying = append(flying, due...)
		}
		stored := i
		stored.Steps = nil
		require.NoError(t, stored.DecodeSteps(everything, i.EncodeSteps()))
		require.False(t, stored.Differs(i), "%+v %+v", stored, i)
		require.Equal(t, i.EncodeSteps(), stored.EncodeSteps())

		e := drawEvent(t, i, flying)
		if e.Kind != saga.Resumed && e.Kind != saga.Lost {
			e = saga.Event{Kind: saga.Resumed}
		}
		e.Signal = true // in memory it may be known already
		one, first := everything.Next("id", i, e, now)
		two, second := everything.Next("id", stored, e, now)
		require.False(t, one.Differs(two))
		require.True(t, slices.Equal(first, second))
	})
}

func TestInstance_DecodeSteps(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		stage    int
		backward bool
		text     string
		want     string
	}{
		"no stage":             {5, false, "", "saga test has no stage 5"},
		"not begun":            {-1, false, "", "no stage -1"},
		"no JSON":              {0, false, "[", "decode progress: "},
		"another plan's":       {1, false, `[{"state":0}]`, "1 steps are stored of 2"},
		"none":                 {0, false, "null", "0 steps are stored of 1"},
		"no state":             {0, false, `[{"state":8}]`, "step a is in no state"},
		"attempts":             {0, false, `[{"state":0,"attempts":-1}]`, "step a is in no state"},
		"undone going forward": {1, false, `[{"state":0},{"state":5}]`, "step c is undoing, against"},
		"pending going back":   {0, true, `[{"state":0}]`, "step a is pending, against"},
		"nothing going back":   {0, true, ``, "step a is pending, against"},
	} {
		i := saga.Instance{Stage: c.stage, Backward: c.backward, Steps: []saga.Progress{{Attempts: 9}}}
		require.ErrorContains(t, i.DecodeSteps(everything, []byte(c.text)), c.want, name)
		require.Equal(t, []saga.Progress{{Attempts: 9}}, i.Steps, "what does not fit sets nothing")
	}
}

func TestInstance_Differs(t *testing.T) {
	t.Parallel()
	i, _ := everything.Start("id", simulated)
	require.False(t, i.Differs(i.WithoutCalls()), "a store does not know of calls")
	require.True(t, i.Busy())
	require.False(t, i.WithoutCalls().Busy())
	for name, change := range map[string]func(*saga.Instance){
		"status": func(i *saga.Instance) { i.Status++ }, "direction": func(i *saga.Instance) { i.Backward = true },
		"stage": func(i *saga.Instance) { i.Stage++ }, "reason": func(i *saga.Instance) { i.Reason = "x" },
		"problem": func(i *saga.Instance) { i.Problem = "x" }, "deadline": func(i *saga.Instance) { i.Deadline = simulated },
		"failing": func(i *saga.Instance) { i.FailingSince = simulated }, "steps": func(i *saga.Instance) { i.Steps = nil },
		"state":    func(i *saga.Instance) { i.Steps = []saga.Progress{{State: saga.StepDone}} },
		"attempts": func(i *saga.Instance) { i.Steps = []saga.Progress{{Attempts: 1}} },
		"unknown":  func(i *saga.Instance) { i.Steps = []saga.Progress{{Unknown: true}} },
		"pause":    func(i *saga.Instance) { i.Steps = []saga.Progress{{NotBefore: simulated}} },
	} {
		changed := i
		change(&changed)
		require.True(t, changed.Differs(i), name)
	}
}

// FuzzInstance_DecodeSteps: whatever a store holds, it is refused or the machine can go on with it.
func FuzzInstance_DecodeSteps(f *testing.F) {
	f.Add(0, false, uint8(0), []byte(`[{"state":1,"attempts":3,"unknown":true,"not_before":"2026-01-02T00:00:00Z"}]`))
	f.Add(1, true, uint8(1), []byte(`[{"state":5},{"state":7}]`))
	f.Add(2, false, uint8(2), []byte(`[{"state":4}]`))
	f.Add(4, false, uint8(0), []byte(``))
	f.Fuzz(func(t *testing.T, stage int, backward bool, status uint8, text []byte) {
		i := saga.Instance{Stage: stage, Backward: backward, Status: saga.Status(status % 6)}
		if i.DecodeSteps(everything, text) != nil {
			return
		}
		again := i
		require.NoError(t, again.DecodeSteps(everything, i.EncodeSteps()))
		require.False(t, again.Differs(i))
		for kind := saga.Resumed; kind <= saga.Elapsed; kind++ {
			next, commands := everything.Next("id", i, saga.Event{Kind: kind}, simulated)
			for _, c := range commands {
				require.NotEmpty(t, everything.StepName(c.Stage, c))
			}
			everything.Wake(next)
			next.Current(everything)
		}
	})
}
