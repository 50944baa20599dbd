package saga_test

import (
	"context"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/slipwayhq/slipway/platform/saga"
)

type order struct {
	Stock, Payment string
	Note           string `json:",omitempty"`
}

func nothing(context.Context, *saga.Call[order]) error { return nil }

func checkout() *saga.Definition[order] {
	return saga.Define("checkout", 1,
		saga.Undo("cancel-order", nothing),
		saga.Parallel(
			saga.Step("reserve-stock", nothing).Undo("release-stock", nothing).Retry(saga.Policy{MaxAttempts: -1, Initial: time.Minute}),
			saga.Step("authorize-payment", nothing).Undo("void-payment", nothing).UndoRetry(saga.Policy{Max: time.Second}).
				Verify(func(context.Context, *saga.Call[order]) (bool, error) { return true, nil }),
		),
		saga.Wait("approved", time.Hour, nothing),
		saga.Sleep[order]("cool-off", time.Minute),
		saga.Pivot("confirm-order", nothing).Timeout(time.Second),
	)
}

func TestDefine(t *testing.T) {
	t.Parallel()

	t.Run("fills in the defaults", func(t *testing.T) {
		t.Parallel()
		p, err := checkout().Plan()
		require.NoError(t, err)
		require.Equal(t, "cancel-order -> [reserve-stock | authorize-payment] -> approved -> cool-off -> confirm-order", p.String())
		require.Equal(t, saga.DefaultStuckAfter, p.StuckAfter)
		require.Zero(t, p.Timeout)
		standard := saga.Policy{MaxAttempts: 10, Initial: 100 * time.Millisecond, Max: 30 * time.Second}
		undo := standard
		undo.MaxAttempts = 20
		slow, quick := standard, undo
		slow.MaxAttempts, slow.Initial, slow.Max = -1, time.Minute, time.Minute
		quick.Max = time.Second
		require.Equal(t, []saga.PlanStep{
			{Name: "reserve-stock", Kind: saga.KindStep, Undo: "release-stock", Timeout: saga.DefaultTimeout, Retry: slow, UndoRetry: undo},
			{Name: "authorize-payment", Kind: saga.KindStep, Undo: "void-payment", Verify: true, Timeout: saga.DefaultTimeout, Retry: standard, UndoRetry: quick},
		}, p.Stages[1].Steps)
		require.Equal(t, time.Second, p.Stages[4].Steps[0].CallTimeout())
		require.Equal(t, saga.DefaultTimeout, p.Stages[2].Steps[0].CallTimeout(), "taking a signal is no wait for it")
	})

	t.Run("sets the bounds of the saga", func(t *testing.T) {
		t.Parallel()
		p, err := checkout().Timeout(time.Hour).StuckAfter(time.Second).Plan()
		require.NoError(t, err)
		require.Equal(t, time.Hour, p.Timeout)
		require.Equal(t, time.Second, p.StuckAfter)
	})

	t.Run("a plan that was stored is the same plan", func(t *testing.T) {
		t.Parallel()
		p, err := checkout().Timeout(time.Hour).Plan()
		require.NoError(t, err)
		text, err := json.Marshal(p)
		require.NoError(t, err)
		var stored saga.Plan
		require.NoError(t, json.Unmarshal(text, &stored))
		require.Equal(t, p, stored)
	})
}

func TestDefinition_Plan_refuses(t *testing.T) {
	t.Parallel()
	unverified := saga.Step("a", nothing)
	for name, c := range map[string]struct {
		stages []*saga.Stage[order]
		want   []string
	}{
		"nothing":        {nil, []string{"no steps"}},
		"an empty group": {[]*saga.Stage[order]{saga.Parallel[order]()}, []string{"stage 1 has no steps"}},
		"no function":    {[]*saga.Stage[order]{saga.Step[order]("a", nil), saga.Pivot[order]("b", nil)}, []string{"step a: it has no function", "step b: it has no function"}},
		"half an undo":   {[]*saga.Stage[order]{saga.Step("a", nothing).Undo("", nothing), saga.Step("b", nothing).Undo("c", nil)}, []string{"its undo has no name", "its undo c has no function"}},
		"nil":            {[]*saga.Stage[order]{nil, saga.Parallel(unverified, nil)}, []string{`kind "" is unknown`}},
		"names":          {[]*saga.Stage[order]{saga.Step("a/b", nothing), saga.Step("c", nothing).Undo("c", nothing)}, []string{`"a/b" is not made of`, `"c" is used twice`}},
		"two pivots":     {[]*saga.Stage[order]{saga.Pivot("a", nothing), saga.Pivot("b", nothing)}, []string{"more than one pivot"}},
		"undo from the pivot": {
			[]*saga.Stage[order]{saga.Pivot("a", nothing).Undo("x", nothing), saga.Step("b", nothing).Undo("y", nothing), saga.Undo("c", nothing)},
			[]string{"step a: nothing is undone", "step b: nothing is undone", "step c: nothing is undone"},
		},
		"renamed undo":  {[]*saga.Stage[order]{saga.Undo("a", nothing).Undo("b", nothing)}, []string{`its undo is named "b"`}},
		"parallel":      {[]*saga.Stage[order]{saga.Parallel(saga.Step("a", nothing), saga.Pivot("b", nothing), saga.Sleep[order]("c", 1))}, []string{"a pivot cannot run in parallel", "a timer cannot"}},
		"nested groups": {[]*saga.Stage[order]{saga.Parallel(saga.Parallel(saga.Step("a", nothing)))}, []string{"holds steps only"}},
		"no time":       {[]*saga.Stage[order]{saga.Wait("a", 0, nothing), saga.Sleep[order]("b", 0), saga.Step("c", nothing).Timeout(-1)}, []string{"step a: its timeout", "step b: its timeout", "step c: its timeout"}},
		"policies":      {[]*saga.Stage[order]{saga.Step("a", nothing).Retry(saga.Policy{MaxAttempts: -2}).UndoRetry(saga.Policy{Initial: -1})}, []string{"max attempts -2", "a pause is negative"}},
		"verified time": {[]*saga.Stage[order]{saga.Sleep[order]("a", 1).Verify(func(context.Context, *saga.Call[order]) (bool, error) { return true, nil })}, []string{"nothing to verify"}},
	} {
		_, err := saga.Define("test", 1, c.stages...).Plan()
		require.Error(t, err, name)
		for _, want := range c.want {
			require.ErrorContains(t, err, want, name)
		}
		require.True(t, strings.HasPrefix(err.Error(), "saga test: "), err.Error())
	}

	_, err := saga.Define("No", 0, saga.Step("A", nothing)).Timeout(-1).StuckAfter(-1).Plan()
	for _, want := range []string{`name "No"`, "version 0", "timeout -1ns", "stuck after -1ns", `step name "A"`} {
		require.ErrorContains(t, err, want, "everything is reported at once")
	}
}

func TestPlan_Shape(t *testing.T) {
	t.Parallel()
	shape := func(version int, stages ...*saga.Stage[order]) string {
		p, err := saga.Define("test", version, stages...).Plan()
		require.NoError(t, err)
		return p.Shape()
	}
	a := func() *saga.Stage[order] { return saga.Step("a", nothing) }
	b := func() *saga.Stage[order] { return saga.Step("b", nothing) }
	first := shape(1, a(), b())
	require.Equal(t, first, shape(1, a().Timeout(time.Hour).Retry(saga.Policy{MaxAttempts: 1}), b()), "times and policies may change")
	seen := map[string]bool{first: true}
	for _, other := range []string{
		shape(2, a(), b()), shape(1, b(), a()), shape(1, a()), shape(1, saga.Parallel(a(), b())), shape(1, a().Undo("c", nothing), b()),
		shape(1, a(), saga.Pivot("b", nothing)), shape(1, a(), saga.Wait("b", 1, nothing)),
		shape(1, a(), b().Verify(func(context.Context, *saga.Call[order]) (bool, error) { return false, nil })),
	} {
		require.False(t, seen[other])
		seen[other] = true
	}
}

func TestPolicy(t *testing.T) {
	t.Parallel()
	s := final("a")
	s.Retry = saga.Policy{MaxAttempts: -1, Initial: time.Second, Max: 5 * time.Second}
	l := start(t, plan(one(s)))
	least := []time.Duration{750, 1500, 3000, 3750, 3750}
	most := []time.Duration{1000, 2000, 4000, 5000, 5000}
	for n := range 100 {
		before := l.now
		l.answer(0, saga.CallAction, saga.ClassRetryable)
		l.elapse()
		pause := l.now.Sub(before)
		require.GreaterOrEqual(t, pause, least[min(n, 4)]*time.Millisecond)
		require.LessOrEqual(t, pause, most[min(n, 4)]*time.Millisecond)
	}
	pauses := map[time.Time]bool{}
	for _, id := range []string{"a", "b", "c", "d", "e", "f", "g", "h"} {
		i, _ := l.plan.Start(id, simulated)
		i, _ = l.plan.Next(id, i, saga.Event{Kind: saga.Returned, Class: saga.ClassRetryable}, simulated)
		pauses[l.plan.Wake(i)] = true
	}
	require.Greater(t, len(pauses), 4, "sagas that fail together come back one by one")
}
