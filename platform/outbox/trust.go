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
	start time.Time
	until atomic.Int64 // nanoseconds after start
}

// asking is the moment before a question to the database that renews the lease.
func (t *trust) asking() time.Duration { return time.Since(t.start) }

// renew is for when the answer to that question says that the lease is still held.
func (t *trust) renew(asked time.Duration) { t.until.Store(int64(asked + t.lease)) }

// holds tells whether no other replica can have taken the lease: a standby waits for
// a whole lease from the moment when it saw the last sign of life, which is after
// that was asked for.
func (t *trust) holds() bool { return time.Since(t.start) < time.Duration(t.until.Load()) }
