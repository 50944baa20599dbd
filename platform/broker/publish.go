package broker

import (
	"context"
	"errors"
	"fmt"
)

// Publisher stores messages in a broker.
type Publisher interface {
	// Publish returns when the fate of every message is known. nil means that the
	// broker has acknowledged them all. A *PublishError says it for each message;
	// after any other error nothing is known of any.
	//
	// Messages of one key are stored in the order of the batch, and after one that
	// was not acknowledged no later one of its key is stored by this call. The
	// caller keeps the order between calls: it must not have two calls with the
	// same key at the same time. Otherwise calls may be concurrent.
	//
	// A message without an acknowledgement may have been stored nevertheless.
	// Publishing it again is right; the duplicate is one of the contract.
	Publish(ctx context.Context, messages []Message) error
}

var (
	// ErrRefused is in the error of a message that the broker will never take: it
	// is too large, or malformed. Repeating is useless.
	ErrRefused = errors.New("message refused")
	// ErrUnavailable is in the error when the broker cannot be reached or cannot
	// store anything at all now. It says nothing about the message. Repeat later.
	ErrUnavailable = errors.New("broker unavailable")
	// ErrSkipped is in the error of a message that was not tried, because an
	// earlier one of its key was not acknowledged.
	ErrSkipped = errors.New("message skipped after a failed one of its key")
)

// PublishError says which messages of a batch are not known to be stored.
type PublishError struct {
	// Errs has one entry for each message of the batch, nil for those that were
	// acknowledged.
	Errs []error
}

// Error gives the count and the first cause.
func (e *PublishError) Error() string {
	failed, first := 0, error(nil)
	for _, err := range e.Errs {
		if err != nil {
			if failed++; first == nil {
				first = err
			}
		}
	}
	return fmt.Sprintf("publish %d of %d messages: %v", failed, len(e.Errs), first)
}

// Unwrap gives the causes to errors.Is and errors.As.
func (e *PublishError) Unwrap() []error {
	var causes []error
	for _, err := range e.Errs {
		if err != nil {
			causes = append(causes, err)
		}
	}
	return causes
}

// Outcomes returns the fate of each of n messages from the error of Publish.
func Outcomes(err error, n int) []error {
	var each *PublishError
	if errors.As(err, &each) && len(each.Errs) == n {
		return each.Errs
	}
	errs := make([]error, n)
	for i := range errs {
		errs[i] = err
	}
	return errs
}

// Joined returns nil if all of errs are nil, else a *PublishError of them.
func Joined(errs []error) error {
	for _, err := range errs {
		if err != nil {
			return &PublishError{Errs: errs}
		}
	}
	return nil
}
