package outbox

import (
	"sync/atomic"
	"time"
)

// trust says whether a replica may still believe in its lease. It is of the monotonic
// clock of one machine: no clock is ever compared with that of another. Safe for
// concurrent use.
type trust struct {
	lease time.Duration
	clock func() time.Duration
	until atomic.Int64 // nanoseconds on clock
}

// monotonic returns a clock that only runs forward.
func monotonic() func() time.Duration {
	start := time.Now()
	return func() time.Duration { return time.Since(start) }
}

// renew is for when the answer to a question that renews the lease says that it is
// still held; asked is when the question was about to be put.
func (t *trust) renew(asked time.Duration) { t.until.Store(int64(asked + t.lease)) }

// holds tells whether no other replica can have taken the lease: a standby waits for
// a whole lease from the moment when it saw the last sign of life, which is after
// that was asked for.
func (t *trust) holds() bool { return t.clock() < time.Duration(t.until.Load()) }

// signs is the time between two signs of life, of which there are two in a lease.
func (t *trust) signs() time.Duration { return 9 * t.lease / 20 }
