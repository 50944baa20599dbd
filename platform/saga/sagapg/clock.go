package sagapg

import (
	"sync"
	"time"
)

// clock is the time of sagas in this process: the database's at the last sign of life,
// carried on by this machine's monotonic clock, also while the database is away. What the
// machine takes for the time of day does not matter. Safe for concurrent use.
type clock struct {
	mu     sync.Mutex
	time   time.Time // at
	at     time.Time
	adjust string // what was added to the database's clock
}

// now returns the time of sagas.
func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.time.Add(time.Since(c.at))
}

// jumpTolerance is by how much the database's clock may differ from what it should be. A
// larger difference is a jump: somebody has set it, or a standby with another clock has
// taken over.
const jumpTolerance = 10 * time.Second

// set takes over the time that the database gave between asked and now, unless it has
// jumped since the last time: then it returns by how much. A difference that comes with
// another adjustment is what another worker took for right.
func (c *clock) set(t, asked time.Time, adjust string) (jump time.Duration) {
	answered := time.Now()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.adjust == adjust {
		difference := t.Sub(c.time.Add(asked.Add(answered.Sub(asked) / 2).Sub(c.at)))
		if difference.Abs() > jumpTolerance+answered.Sub(asked) {
			return difference
		}
	}
	c.time, c.at, c.adjust = t, asked.Add(answered.Sub(asked)/2), adjust
	return 0
}

// forget has the clock take over the next time that the database gives, whatever it is.
func (c *clock) forget() { c.adjusted("") }

func (c *clock) adjustment() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.adjust
}

// adjusted is for the worker that has changed the adjustment: its time is the right one.
func (c *clock) adjusted(adjust string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.adjust = adjust
}

// trust says whether a process may still believe that it runs its sagas. It is of the
// monotonic clock of one machine. Safe for concurrent use.
type trust struct {
	mu    sync.Mutex
	until time.Time
}

func (t *trust) renew(until time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.until = until
}

func (t *trust) holds() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return time.Now().Before(t.until)
}
