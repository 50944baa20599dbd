package saga_test

import (
	"math/rand/v2"
	"time"

	"github.com/slipwayhq/slipway/platform/saga"
)

var (
	stepNames = [8][3]string{
		{"a1", "a2", "a3"},
		{"b1", "b2", "b3"},
		{"c1", "c2", "c3"},
		{"d1", "d2", "d3"},
		{"e1", "e2", "e3"},
		{"f1", "f2", "f3"},
		{"g1", "g2", "g3"},
		{"h1", "h2", "h3"},
	}
	undoNames = [8][3]string{
		{"undo-a1", "undo-a2", "undo-a3"},
		{"undo-b1", "undo-b2", "undo-b3"},
		{"undo-c1", "undo-c2", "undo-c3"},
		{"undo-d1", "undo-d2", "undo-d3"},
		{"undo-e1", "undo-e2", "undo-e3"},
		{"undo-f1", "undo-f2", "undo-f3"},
		{"undo-g1", "undo-g2", "undo-g3"},
		{"undo-h1", "undo-h2", "undo-h3"},
	}
)

// randomPlan returns a plan of one to six stages, and where its pivot is.
func randomPlan(rng *rand.Rand) (saga.Plan, int) {
	stages := 1 + rng.IntN(6)
	pivot := stages
	if rng.IntN(10) < 7 {
		pivot = rng.IntN(stages)
	}
	p := saga.Plan{Name: "simulated", Version: 1, StuckAfter: time.Minute, Stages: make([]saga.PlanStage, stages)}
	if rng.IntN(10) < 4 {
		p.Timeout = time.Duration(1+rng.IntN(20)) * time.Second
	}
	for n := range p.Stages {
		p.Stages[n].Steps = randomStage(rng, n, pivot)
	}
	return p, pivot
}

func randomStage(rng *rand.Rand, stage, pivot int) []saga.PlanStep {
	if stage == pivot {
		s := randomStep(rng, stage, 0, false)
		s.Kind = saga.KindPivot
		return []saga.PlanStep{s}
	}
	before := stage < pivot
	switch kind := rng.IntN(10); {
	case kind == 0 && before:
		name := undoNames[stage][0]
		return []saga.PlanStep{{Name: name, Undo: name, Kind: saga.KindUndo, Timeout: time.Second, UndoRetry: randomPolicy(rng)}}
	case kind == 1:
		s := randomStep(rng, stage, 0, before)
		s.Kind, s.Timeout, s.Verify = saga.KindTimer, time.Duration(1+rng.IntN(8))*time.Second, false
		return []saga.PlanStep{s}
	case kind == 2:
		s := randomStep(rng, stage, 0, before)
		s.Kind, s.Timeout = saga.KindWait, time.Duration(1+rng.IntN(8))*time.Second
		return []saga.PlanStep{s}
	}
	steps := []saga.PlanStep{randomStep(rng, stage, 0, before)}
	if rng.IntN(10) < 3 {
		for n := range 1 + rng.IntN(2) {
			steps = append(steps, randomStep(rng, stage, n+1, before))
		}
	}
	return steps
}

func randomStep(rng *rand.Rand, stage, n int, undo bool) saga.PlanStep {
	s := saga.PlanStep{
		Name: stepNames[stage][n], Kind: saga.KindStep, Timeout: time.Second, Verify: rng.IntN(10) < 4,
		Retry: randomPolicy(rng), UndoRetry: randomPolicy(rng),
	}
	if undo && rng.IntN(10) < 8 {
		s.Undo = undoNames[stage][n]
	}
	return s
}

func randomPolicy(rng *rand.Rand) saga.Policy {
	p := saga.Policy{MaxAttempts: 1 + rng.IntN(4), Initial: time.Duration(1+rng.IntN(500)) * time.Millisecond, Max: 2 * time.Second}
	if rng.IntN(20) == 0 {
		p.MaxAttempts = -1
	}
	return p
}

// randomRates returns a world between a calm and a hostile one.
func randomRates(rng *rand.Rand) rates {
	level := [...]float64{0.01, 0.1, 0.3, 0.7}[rng.IntN(4)]
	part := func(most float64) float64 { return rng.Float64() * most * level }
	return rates{
		reject: part(0.5), retryable: part(1), unknown: part(1), lostReply: part(1), slow: part(1),
		crash: part(0.3), stall: part(0.2), handBack: rng.Float64() * 0.3, operator: part(0.7),
	}
}
