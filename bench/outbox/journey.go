package main

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/slipwayhq/slipway/bench/outbox/internal/system"
	"github.com/slipwayhq/slipway/platform/broker"
)

// journeys are the times of n numbered events: when each was due, when it was
// committed and when it first arrived. Each is written by one goroutine at a time.
type journeys struct {
	begin                    time.Time
	due, committed, received []atomic.Int64
	arrivals                 atomic.Int64 // of any number
	arrived                  atomic.Int64 // different ones of these
}

func newJourneys(n int) *journeys {
	return &journeys{
		begin: time.Now(), due: make([]atomic.Int64, n), committed: make([]atomic.Int64, n), received: make([]atomic.Int64, n),
	}
}

// at is never 0, which stands for not yet.
func (j *journeys) at(t time.Time) int64 { return max(1, t.Sub(j.begin).Nanoseconds()) }

func (j *journeys) commit(number int, due, committed time.Time) {
	j.due[number].Store(j.at(due))
	j.committed[number].Store(j.at(committed))
}

func (j *journeys) receive(payload []byte) {
	j.arrivals.Add(1)
	_, _, number, err := system.Marked(payload)
	if err != nil || number < 0 || int(number) >= len(j.received) {
		return
	}
	if j.received[number].CompareAndSwap(0, j.at(time.Now())) {
		j.arrived.Add(1)
	}
}

// Publish implements broker.Publisher: a broker at which events arrive at once.
func (j *journeys) Publish(_ context.Context, messages []broker.Message) error {
	for i := range messages {
		j.receive(messages[i].Payload)
	}
	return nil
}

// reset forgets what has arrived. Nothing may be under way.
func (j *journeys) reset() {
	for i := range j.received {
		j.received[i].Store(0)
	}
	j.arrived.Store(0)
}

// waited returns how long the events from one number to another were under way after
// their commit, and after they were due. One that has not arrived is under way until
// now; missing is how many. An event may be seen before its committer hears of the
// commit: then it was under way for no time.
func (j *journeys) waited(from, to int) (committed, due []time.Duration, missing int) {
	now := j.at(time.Now())
	for i := from; i < to; i++ {
		if j.committed[i].Load() == 0 {
			continue
		}
		end := j.received[i].Load()
		if end == 0 {
			end = now
			missing++
		}
		committed = append(committed, time.Duration(max(0, end-j.committed[i].Load())))
		due = append(due, time.Duration(end-j.due[i].Load()))
	}
	return committed, due, missing
}

// settle waits until n events have arrived, or nothing new has for a while.
func (j *journeys) settle(ctx context.Context, n int, patience time.Duration) {
	last, since := int64(-1), time.Now()
	for ctx.Err() == nil && j.arrived.Load() < int64(n) && time.Since(since) < patience {
		if now := j.arrived.Load(); now != last {
			last, since = now, time.Now()
		}
		sleep(ctx, 20*time.Millisecond)
	}
}
