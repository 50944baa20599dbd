package audit_test

import (
	"fmt"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/slipwayhq/slipway/bench/outbox/internal/audit"
)

func ExampleJudge() {
	committed, arrived := audit.NewLedger(), audit.NewDelivery()
	committed.Commit(audit.Event{Aggregate: 1, Version: 1, Nonce: 11}, audit.Event{Aggregate: 1, Version: 2, Nonce: 12})
	arrived.Arrive(audit.Event{Aggregate: 1, Version: 2, Nonce: 12})
	fmt.Printf("%+v\n", audit.Judge(committed, arrived))
	// Output: {Committed:2 Arrivals:1 Losses:1 Phantoms:0 Inversions:0 Duplicates:0}
}

func event(aggregate, version int64) audit.Event {
	return audit.Event{Aggregate: aggregate, Version: version, Nonce: aggregate*1000 + version}
}

func TestJudge(t *testing.T) {
	t.Parallel()
	committed := audit.NewLedger()
	committed.Commit(event(1, 2), event(1, 1), event(1, 3), event(2, 1))
	other := audit.Event{Aggregate: 1, Version: 2, Nonce: 7} // rolled back, then another took its version
	for _, c := range []struct {
		name    string
		arrived []audit.Event
		want    audit.Verdict
	}{
		{"all in order", []audit.Event{event(1, 1), event(2, 1), event(1, 2), event(1, 3)}, audit.Verdict{}},
		{"one lost", []audit.Event{event(1, 1), event(2, 1), event(1, 3)}, audit.Verdict{Losses: 1}},
		{"two late", []audit.Event{event(1, 3), event(1, 1), event(1, 2), event(2, 1)}, audit.Verdict{Inversions: 2}},
		{
			"a window again is no inversion",
			[]audit.Event{event(1, 1), event(1, 2), event(1, 1), event(1, 2), event(1, 3), event(2, 1)},
			audit.Verdict{Duplicates: 2},
		},
		{
			"a rolled back event is neither a duplicate nor the one that took its place",
			[]audit.Event{event(1, 1), other, event(1, 3), event(2, 1)},
			audit.Verdict{Phantoms: 1, Losses: 1},
		},
		{"a version that never was", []audit.Event{event(1, 4), event(3, 1), event(1, 0)}, audit.Verdict{Phantoms: 3, Losses: 4}},
		{"nothing", nil, audit.Verdict{Losses: 4}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			arrived := audit.NewDelivery()
			arrived.Arrive(c.arrived...)
			c.want.Committed, c.want.Arrivals = 4, len(c.arrived)
			require.Equal(t, c.want, audit.Judge(committed, arrived))
		})
	}
}

func TestLedger_Len(t *testing.T) {
	t.Parallel()
	l := audit.NewLedger()
	var all sync.WaitGroup
	for i := range int64(8) {
		all.Go(func() {
			for v := range int64(100) {
				l.Commit(event(i, 100-v))
			}
		})
	}
	all.Wait()
	l.Commit(event(1, 1))
	require.Equal(t, 800, l.Len(), "an event twice is one")
}

func TestDelivery_Distinct(t *testing.T) {
	t.Parallel()
	d := audit.NewDelivery()
	d.Arrive(event(1, 1), event(1, 1), event(1, 2))
	require.Equal(t, 2, d.Distinct())
}
