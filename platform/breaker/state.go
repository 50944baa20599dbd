package breaker

import (
	"errors"
	"fmt"
	"time"

	"github.com/sony/gobreaker/v2"
)

// State is a state of a breaker, as its metrics name it.
type State string

// The states of a breaker.
const (
	Closed   State = "closed"
	HalfOpen State = "half_open"
	Open     State = "open"
)

// states are all of them, from good to bad.
var states = []State{Closed, HalfOpen, Open}

func stateOf(s gobreaker.State) State {
	switch s {
	case gobreaker.StateOpen:
		return Open
	case gobreaker.StateHalfOpen:
		return HalfOpen
	default:
		return Closed
	}
}

// Change is a change of a breaker's state.
type Change struct {
	Name     string
	From, To State
	// Reason is consecutive_failures or failure_ratio for an opening, probe_failed for another one,
	// open_time_over for half open and probes_succeeded for closed.
	Reason string
	// RetryAfter is how long a breaker that has opened stays so.
	RetryAfter time.Duration
}

type reason string

const (
	consecutiveFailures reason = "consecutive_failures"
	failureRatio        reason = "failure_ratio"
	probeFailed         reason = "probe_failed"
	openTimeOver        reason = "open_time_over"
	probesSucceeded     reason = "probes_succeeded"
)

// transitions are all that there are.
var transitions = []struct {
	from, to State
	reason   reason
}{
	{Closed, Open, consecutiveFailures},
	{Closed, Open, failureRatio},
	{Open, HalfOpen, openTimeOver},
	{HalfOpen, Open, probeFailed},
	{HalfOpen, Closed, probesSucceeded},
}

// ErrOpen is what every [OpenError] is, by errors.Is.
var ErrOpen = errors.New("circuit breaker is open")

// OpenError is returned for a call that was not made.
type OpenError struct {
	// Name is that of the breaker.
	Name string
	// RetryAfter is how long no call will pass. While half open it is how long that may be, if the
	// calls fail that are being made.
	RetryAfter time.Duration
}

func (e *OpenError) Error() string {
	return fmt.Sprintf("circuit breaker of %s is open, retry after %s", e.Name, e.RetryAfter.Round(time.Millisecond))
}

// Unwrap makes errors.Is find [ErrOpen].
func (e *OpenError) Unwrap() error { return ErrOpen }
