package inbox

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/slipwayhq/slipway/platform/fault"
	"github.com/slipwayhq/slipway/platform/postgres"
)

// Permanent marks an error as one that another attempt does not mend: the message
// becomes a dead letter at once. Permanent(nil) is nil.
//
// Errors of package fault need no mark if their code is InvalidArgument, NotFound,
// AlreadyExists, FailedPrecondition or Unimplemented. All other errors may pass.
func Permanent(err error) error {
	if err == nil {
		return nil
	}
	return &permanentError{err}
}

type permanentError struct{ cause error }

func (e *permanentError) Error() string { return e.cause.Error() }
func (e *permanentError) Unwrap() error { return e.cause }

// The classes of dead letters.
const (
	classPermanent = "permanent" // the handler said that trying again is useless
	classExhausted = "exhausted" // it failed MaxAttempts times
	classTooOld    = "too_old"   // nobody can say whether it was applied
	classMalformed = "malformed" // what the mode needs of a message is missing
)

// handlerError is what a handler is to blame for. All other errors say nothing
// about the message.
type handlerError struct{ cause error }

func (e *handlerError) Error() string { return e.cause.Error() }
func (e *handlerError) Unwrap() error { return e.cause }

// blame turns the error of a handler into a *handlerError, unless the database is
// to blame. ctx is that of the handler: when it has ended, the lost connection is
// the consequence and not the cause.
func blame(ctx context.Context, tx pgx.Tx, err error) error {
	lost := ctx.Err() == nil && tx.Conn().PgConn().IsClosed()
	if err == nil || lost || postgres.SQLState(err) != "" && postgres.IsUnavailable(err) {
		return err
	}
	return &handlerError{err}
}

// blameCommit does the same for the error of a whole transaction: a commit that
// the server refuses is due to what the handler has written.
func blameCommit(err error) error {
	if errors.Is(err, pgx.ErrTxCommitRollback) || strings.HasPrefix(postgres.SQLState(err), "23") {
		return &handlerError{err}
	}
	return err
}

func isPermanent(err error) bool {
	var marked *permanentError
	if errors.As(err, &marked) {
		return true
	}
	switch fault.CodeOf(err) {
	case fault.InvalidArgument, fault.NotFound, fault.AlreadyExists, fault.FailedPrecondition, fault.Unimplemented:
		return true
	default:
		return false
	}
}

// recovered runs fn and turns a panic into an error.
func recovered(fn func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic in handler: %v", p)
		}
	}()
	return fn()
}

// backoff is how long to wait after so many failed attempts.
func (c Config) backoff(attempts int) time.Duration {
	d := c.MinBackoff
	for i := 1; i < attempts && d < c.MaxBackoff; i++ {
		d *= 2
	}
	d = min(d, c.MaxBackoff)
	return d - rand.N(d/2+1)
}
