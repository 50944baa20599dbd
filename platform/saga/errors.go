package saga

import (
	"errors"
	"time"
)

// Class says what an error means for a step.
type Class uint8

// The classes of errors; see the package comment.
const (
	// ClassUnknown is that of every error without another: the step may have had its effect.
	ClassUnknown Class = iota
	// ClassOK is that of no error.
	ClassOK
	// ClassRetryable means that the step has had no effect and may be tried again.
	ClassRetryable
	// ClassRejected means that the step has had no effect and never will.
	ClassRejected
)

var classNames = [...]string{"unknown", "ok", "retryable", "rejected"}

// String returns "unknown", "ok", "retryable" or "rejected".
func (c Class) String() string { return classNames[c] }

// Rejected marks a refusal that is final: the saga is undone. It returns nil for nil.
func Rejected(err error) error { return mark(err, ClassRejected, 0) }

// Retryable marks a failure without effect: the step is tried again. It returns nil for nil.
func Retryable(err error) error { return mark(err, ClassRetryable, 0) }

// RetryAfter marks a failure without effect that is not tried again before the time is over, for
// example because the other side has said so. It returns nil for nil.
func RetryAfter(err error, after time.Duration) error { return mark(err, ClassRetryable, after) }

// ClassOf returns what err was marked as; nil is ClassOK.
func ClassOf(err error) Class {
	if err == nil {
		return ClassOK
	}
	if m, ok := errors.AsType[*marked](err); ok {
		return m.class
	}
	return ClassUnknown
}

// marked is an error with its class.
type marked struct {
	error
	class Class
	after time.Duration
}

// Unwrap returns the error without its mark.
func (m *marked) Unwrap() error { return m.error }

func mark(err error, class Class, after time.Duration) error {
	if err == nil {
		return nil
	}
	return &marked{error: err, class: class, after: after}
}

func retryAfter(err error) time.Duration {
	if m, ok := errors.AsType[*marked](err); ok {
		return m.after
	}
	return 0
}
