// Package fault gives errors what a caller at the edge needs: a code, a message that is safe to
// show to a client, and the cause that only the log sees. It imports nothing but the standard
// library, so that use cases can speak it without knowing gRPC.
package fault

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Code classifies an error for the caller. Names and meanings are those of gRPC's status codes; the
// numbers are not, an edge maps them by name. The zero value is Unknown, so that an error whose code
// was forgotten counts as a fault of the server.
type Code uint8

// The codes, with gRPC's meanings.
const (
	Unknown Code = iota
	Canceled
	InvalidArgument
	DeadlineExceeded
	NotFound
	AlreadyExists
	PermissionDenied
	ResourceExhausted
	FailedPrecondition
	Aborted
	Unimplemented
	Internal
	Unavailable
	Unauthenticated
)

var codeNames = [...]string{
	"Unknown", "Canceled", "InvalidArgument", "DeadlineExceeded", "NotFound", "AlreadyExists",
	"PermissionDenied", "ResourceExhausted", "FailedPrecondition", "Aborted", "Unimplemented",
	"Internal", "Unavailable", "Unauthenticated",
}

// String returns the name of the code, as gRPC spells it.
func (c Code) String() string {
	if int(c) < len(codeNames) {
		return codeNames[c]
	}
	return fmt.Sprintf("Code(%d)", uint8(c))
}

// Violation says what is wrong with one field of a request.
type Violation struct {
	// Field is the path of the field, for example "items[0].quantity".
	Field string
	// Description says what is wrong with it, in words for the caller.
	Description string
}

// Error is an error with a code and a message that may be shown to a client. Only Cause may hold
// what a client must not see.
type Error struct {
	Code    Code
	Message string
	// Reason is a stable, machine-readable name in UPPER_SNAKE_CASE; empty if the code says enough.
	Reason string
	// Violations name the fields of an InvalidArgument.
	Violations []Violation
	// RetryAfter tells the caller how long to wait before it tries again; 0 says nothing.
	RetryAfter time.Duration
	// Cause is logged and never sent.
	Cause error
}

// New returns an error without a cause.
func New(code Code, message string) *Error {
	return &Error{Code: code, Message: message}
}

// Wrap returns an error that tells a client message and keeps cause for the log.
func Wrap(cause error, code Code, message string) *Error {
	return &Error{Code: code, Message: message, Cause: cause}
}

// Invalid returns an InvalidArgument that names the wrong fields.
func Invalid(violations ...Violation) *Error {
	return &Error{Code: InvalidArgument, Message: "the request is not valid", Violations: violations}
}

// Error returns the message and the cause: text for a log, not for a client.
func (e *Error) Error() string {
	if e.Cause == nil {
		return e.Message
	}
	return e.Message + ": " + e.Cause.Error()
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Cause }

// From finds the first *Error in err's tree, in the order of errors.As.
func From(err error) (*Error, bool) {
	var e *Error
	ok := errors.As(err, &e)
	return e, ok
}

// CodeOf returns the code of the first *Error in err's tree, the matching code of a context error,
// else Unknown.
func CodeOf(err error) Code {
	if e, ok := From(err); ok {
		return e.Code
	}
	if e := fromContext(err); e != nil {
		return e.Code
	}
	return Unknown
}

func fromContext(err error) *Error {
	switch {
	case errors.Is(err, context.Canceled):
		return Wrap(err, Canceled, "the call was cancelled")
	case errors.Is(err, context.DeadlineExceeded):
		return Wrap(err, DeadlineExceeded, "the deadline was exceeded")
	}
	return nil
}
