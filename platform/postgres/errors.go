package postgres

import (
	"context"
	"errors"
	"io"
	"net"

	"github.com/jackc/pgx/v5/pgconn"
)

// The SQLSTATE codes that this package acts on.
const (
	codeForeignKeyViolation = "23503"
	codeUniqueViolation     = "23505"
	codeCheckViolation      = "23514"
	codeReadOnly            = "25006"
	codeSerialization       = "40001"
	codeDeadlock            = "40P01"
	codeAdminShutdown       = "57P01"
	codeCrashShutdown       = "57P02"
	codeCannotConnectNow    = "57P03"
	codeTooManyConnections  = "53300"
	classConnection         = "08"
)

// SQLState returns the five characters by which PostgreSQL classifies an error,
// or "" for an error that did not come from the server.
func SQLState(err error) string {
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		return pg.Code
	}
	return ""
}

// IsUniqueViolation reports whether the row exists already under the unique
// constraint or index of that name. An empty name stands for any.
func IsUniqueViolation(err error, constraint string) bool {
	return violates(err, codeUniqueViolation, constraint)
}

// IsForeignKeyViolation reports whether a row that is referred to is missing, or
// a row to be deleted is referred to. An empty name stands for any constraint.
func IsForeignKeyViolation(err error, constraint string) bool {
	return violates(err, codeForeignKeyViolation, constraint)
}

// IsCheckViolation reports whether a row breaks the check constraint of that
// name. An empty name stands for any.
func IsCheckViolation(err error, constraint string) bool {
	return violates(err, codeCheckViolation, constraint)
}

func violates(err error, code, constraint string) bool {
	var pg *pgconn.PgError
	return errors.As(err, &pg) && pg.Code == code && (constraint == "" || pg.ConstraintName == constraint)
}

// IsRetryable reports whether the transaction lost against another one
// (serialization failure or deadlock) and may succeed when repeated as a whole.
func IsRetryable(err error) bool {
	code := SQLState(err)
	return code == codeSerialization || code == codeDeadlock
}

// IsUnavailable reports whether the database could not be reached, went away, or
// takes no writes: another try, after a moment or from another replica, may
// succeed. It includes ErrCommitUnknown, so what is tried again must be
// idempotent.
func IsUnavailable(err error) bool {
	switch code := SQLState(err); code {
	case codeReadOnly, codeAdminShutdown, codeCrashShutdown, codeCannotConnectNow, codeTooManyConnections:
		return true
	case "":
	default:
		return code[:2] == classConnection
	}
	var connect *pgconn.ConnectError
	if errors.Is(err, ErrCommitUnknown) || errors.Is(err, ErrReadOnly) || errors.As(err, &connect) {
		return true
	}
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return false // The caller gave up, whatever the database was doing.
	}
	var network *net.OpError
	return pgconn.SafeToRetry(err) || errors.As(err, &network) ||
		errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed)
}
