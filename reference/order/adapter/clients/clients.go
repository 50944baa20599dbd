// Package clients calls the services that take part in a checkout, and says of each error what it means
// for the saga.
package clients

import (
	"errors"
	"fmt"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/slipwayhq/slipway/platform/breaker"
	"github.com/slipwayhq/slipway/platform/saga"
)

// refusals are what a participant may answer for good, by the reason that it gives, with what a
// customer may read of it.
type refusals map[string]string

// mark says what the error of a call means. A refusal is one that the participant names, or a request
// that it will never accept. A call that did not reach it has had no effect; of every other one nobody
// knows.
func (r refusals) mark(what string, err error) error {
	if err == nil {
		return nil
	}
	if rejected := (*breaker.RejectedError)(nil); errors.As(err, &rejected) { // the call was not made
		return saga.RetryAfter(fmt.Errorf("%s: %w", what, err), rejected.RetryAfter)
	}
	s := status.Convert(err)
	if text, ok := r[reason(s)]; ok {
		return saga.Rejected(fmt.Errorf("%s: %s", text, s.Message()))
	}
	err = fmt.Errorf("%s: %w", what, err)
	switch s.Code() {
	case codes.InvalidArgument, codes.FailedPrecondition, codes.NotFound, codes.OutOfRange, codes.AlreadyExists:
		return saga.Rejected(err)
	case codes.Unauthenticated, codes.PermissionDenied, codes.Unimplemented, codes.ResourceExhausted:
		return saga.Retryable(err)
	default:
		return err
	}
}

// reason returns what a participant names as the reason of a refusal.
func reason(s *status.Status) string {
	for _, detail := range s.Details() {
		if info, ok := detail.(*errdetails.ErrorInfo); ok {
			return info.GetReason()
		}
	}
	return ""
}
