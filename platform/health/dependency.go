package health

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"
)

var errStillRunning = errors.New("the previous check has not returned yet")

// state is what is known of a dependency.
type state uint8

const (
	stateUnknown state = iota
	stateUp
	stateDown
)

func (s state) String() string {
	return [...]string{"unknown", "up", "down"}[s]
}

// dependency is one watched dependency. The fields below status are the monitor's,
// guarded by its mutex; pending belongs to the one goroutine that watches.
type dependency struct {
	Dependency
	critical bool
	// pending is closed when a check that was given up returns; nil when there is none.
	pending <-chan struct{}

	state    state
	failures int
	cause    error
	since    time.Time
	checked  time.Time
}

// observe takes the outcome of one check and reports whether the state changed. One pass
// is enough to be up; it takes threshold failures in a row to leave up, and a single one
// to leave unknown, since nothing is lost by believing it.
func (d *dependency) observe(err error, threshold int, now time.Time) bool {
	before := d.state
	d.checked, d.cause = now, err
	if err == nil {
		d.failures, d.state = 0, stateUp
	} else if d.failures++; d.state != stateUp || d.failures >= threshold {
		d.state = stateDown
	}
	if d.state == before {
		return false
	}
	d.since = now
	return true
}

// check runs the dependency's check, bounded by timeout. At most one call is outstanding:
// while an earlier one ignores its context, further checks fail without starting another.
func (d *dependency) check(ctx context.Context, timeout time.Duration) error {
	if d.pending != nil {
		select {
		case <-d.pending: // Too old to count, but it made room for a new one.
		default:
			return errStillRunning
		}
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	var outcome error
	returned := make(chan struct{})
	go func() {
		defer close(returned)
		outcome = runCheck(ctx, d.Check)
	}()
	select {
	case <-returned:
		d.pending = nil
		return outcome
	case <-ctx.Done():
		d.pending = returned
		return fmt.Errorf("no answer within %s: %w", timeout, ctx.Err())
	}
}

// abandon waits for a check that is still under way, at most for grace.
func (d *dependency) abandon(grace time.Duration) {
	if d.pending == nil {
		return
	}
	select {
	case <-d.pending:
	case <-time.After(grace):
	}
}

func runCheck(ctx context.Context, check Check) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("check panicked: %v", p)
		}
	}()
	return check(ctx)
}

// jitter returns d give or take a tenth.
func jitter(d time.Duration) time.Duration {
	return d - d/10 + rand.N(d/5+1)
}
