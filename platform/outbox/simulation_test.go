package outbox

import (
	"flag"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/slipwayhq/slipway/platform/internal/schedules"
)

var (
	onlySeed = flag.Uint64("outbox.seed", 0, "simulate this schedule alone, with a trace")
	howMany  = flag.Uint64("outbox.schedules", 10_000, "how many schedules to simulate")
)

const (
	calmAfter = 3 * time.Second // then nothing goes wrong any more
	endAfter  = 20_000          // steps: a relay that has not settled everything by then never will
)

// witnessed counts what a schedule has seen, so that a simulation of nothing does not pass.
type witnessed struct {
	committed, delivered, repeated, late, targets, ahead int
	terms, crashes, stalls, stops, databases, refused    int
	parked, redriven, discarded, lateMessages            int
}

// TestSimulation lets two or three replicas work off the events of random transactions, through random
// schedules of rollbacks, long transactions, broken connections, crashes of replicas and of the database,
// replicas that stop and go on as if they still had the lease, a broker that is away, refuses, acknowledges
// nothing or stores late, and operators. Windows, lease, trust, publishing and parking are the relay's own;
// database, broker, clocks and the loops around are simulated. The rules are in simulation_rules_test.go:
// nothing lost, nothing that never happened, order, repetitions within what was in hand, one replica that
// believes, no dead lease that a standby leaves alone, and positions that only go forward. A schedule is its seed: -outbox.seed=N replays it with a
// trace. Rotation and replay are not in it.
//
// The simulation can fail. It was run against each of these relays, and found all of them out:
//
//   - the floor is taken from the window itself, or from the target's end; the fence is read after its xid
//   - events of late transactions are forgotten, or read after the ranges; a window's end is one id short
//   - windows, batches of late events or ranges are not sorted; a range is skipped, or taken for read after
//     its first batch; reading ahead goes on after its target
//   - a standby counts from its first look, or from each; it waits for half a lease, or for two; it looks once in
//     a lease, or takes only what was given back
//   - the lease is renewed from the answer on, by a beat or by a position; a stale write has an effect, or is not
//     taken for the end of the term
//   - a relay publishes, or redrives, without asking whether it has the lease, or settles what it could not
//     publish when it has not
//   - a sign of life stores an old position; a position is stored before its events are published, when the
//     process is told to end, or more than a batch late
//   - later events of a failed or parked aggregate are published; parked aggregates are not stored,
//     remembered, or loaded by the next replica
//   - an aggregate is taken for empty after a full batch, unparked before that is stored, or parked for ever;
//     a redrive goes on after an event that failed; an operator's command during an attempt is lost
//   - events that a crash can take are published, or the wait for the disk is done once for all windows
func TestSimulation(t *testing.T) {
	t.Parallel()
	m, err := newMetrics("simulated", nil)
	require.NoError(t, err)
	if *onlySeed != 0 {
		w := simulate(*onlySeed, m, true)
		t.Log("\n" + strings.Join(w.trace, "\n"))
		require.Empty(t, w.broken)
		return
	}
	began := time.Now()
	sum, bad := schedules.Run(*howMany, func(seed uint64, sum *witnessed) bool {
		w := simulate(seed, m, false)
		sum.add(w.sum)
		return w.broken == ""
	}, (*witnessed).add)
	t.Logf("%d schedules, %s; %+v", *howMany, time.Since(began).Round(time.Millisecond), sum)
	if bad != 0 {
		w := simulate(bad, m, true)
		t.Fatalf("schedule %d: %s\nreplay it with: go test ./platform/outbox -run TestSimulation -outbox.seed=%d\n%s",
			bad, w.broken, bad, strings.Join(w.trace, "\n"))
	}
	for what, seen := range map[string]int{
		"deliveries": sum.delivered, "repetitions": sum.repeated, "late events": sum.late, "targets": sum.targets,
		"ranges ahead": sum.ahead, "terms": sum.terms, "crashes": sum.crashes, "stalls": sum.stalls, "orderly ends": sum.stops,
		"crashes of the database": sum.databases, "refused writes": sum.refused, "parked": sum.parked, "redriven": sum.redriven,
		"discarded": sum.discarded, "late messages": sum.lateMessages,
	} {
		require.Positive(t, seen, "the schedules never came to this: %s", what)
	}
}

// simulate runs one schedule to its end.
func simulate(seed uint64, m *metrics, tracing bool) *world {
	rng := rand.New(rand.NewPCG(seed, 1))
	w := &world{
		rng: rng, rates: randomRates(rng), tracing: tracing, metrics: m, batch: 1 + rng.IntN(4),
		heard: map[int]int64{}, acks: map[int64]int{},
	}
	w.logf("batch %d, %+v", w.batch, w.rates)
	w.db = newDatabase(w)
	for n := range 2 + rng.IntN(2) {
		w.replicas = append(w.replicas, newReplica(w, n))
	}
	w.clients = 2 + rng.IntN(3)
	for range w.clients {
		w.spawn(nil, w.client)
	}
	w.spawn(nil, w.weather)
	w.run(func() bool { return w.now > calmAfter })
	if w.broken == "" {
		w.mend()
		w.run(w.settled)
	}
	w.over()
	return w
}

func (t *witnessed) add(o witnessed) {
	t.committed += o.committed
	t.delivered += o.delivered
	t.repeated += o.repeated
	t.late += o.late
	t.targets += o.targets
	t.ahead += o.ahead
	t.terms += o.terms
	t.crashes += o.crashes
	t.stalls += o.stalls
	t.stops += o.stops
	t.databases += o.databases
	t.refused += o.refused
	t.parked += o.parked
	t.redriven += o.redriven
	t.discarded += o.discarded
	t.lateMessages += o.lateMessages
}
