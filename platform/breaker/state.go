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

// Outcome is what the end of a call says about its callee.
type Outcome int

// The outcomes of a call.
const (
	// Success is an answer, though it may be one that the caller does not like.
	Success Outcome = iota
	// Failure is the callee's fault.
	Failure
	// Ignored says nothing about the callee.
	Ignored
)

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

// The reasons of a [RejectedError], for errors.Is.
var (
	// ErrOpen says that the callee is left alone.
	ErrOpen = errors.New("circuit breaker is open")
	// ErrTooManyProbes says that the breaker is half open, and as many calls are being made as may be.
	ErrTooManyProbes = errors.New("circuit breaker waits for its probes")
)

// rejectionReasons are the reasons as the metrics name them.
var rejectionReasons = map[error]string{ErrOpen: "open", ErrTooManyProbes: "too_many_probes"}

// RejectedError is returned for a call that was not made.
type RejectedError struct {
	// Name is that of the breaker.
	Name string
	// RetryAfter is how long no call will pass. While half open it is OpenTimeout, a guess: if the calls
	// that are being made succeed, others pass at once; if one fails, none does for longer.
	RetryAfter time.Duration
	// Reason is [ErrOpen] or [ErrTooManyProbes].
	Reason error
}

func (e *RejectedError) Error() string {
	return fmt.Sprintf("%s: %s, retry after %s", e.Name, e.Reason, e.RetryAfter.Round(time.Millisecond))
}

// Unwrap returns the reason.
func (e *RejectedError) Unwrap() error { return e.Reason }
