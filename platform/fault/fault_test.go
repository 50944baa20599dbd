package fault_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"

	"github.com/slipwayhq/slipway/platform/fault"
)

func TestCode_String(t *testing.T) {
	t.Parallel()
	known := map[string]bool{}
	for c := codes.Canceled; c <= codes.Unauthenticated; c++ {
		known[c.String()] = true
	}
	seen := map[string]bool{}
	for c := fault.Unknown; c <= fault.Unauthenticated; c++ {
		require.True(t, known[c.String()], "gRPC has no code %s", c)
		require.False(t, seen[c.String()], "%s is the name of two codes", c)
		seen[c.String()] = true
	}
	require.Equal(t, "Code(200)", fault.Code(200).String())
}

func TestError(t *testing.T) {
	t.Parallel()
	cause := errors.New("connection refused")

	t.Run("tells the log its cause", func(t *testing.T) {
		t.Parallel()
		err := fault.Wrap(cause, fault.Unavailable, "try again later")
		require.EqualError(t, err, "try again later: connection refused")
		require.ErrorIs(t, err, cause)
		require.Equal(t, "try again later", err.Message)
	})

	t.Run("needs no cause", func(t *testing.T) {
		t.Parallel()
		err := fault.New(fault.NotFound, "no such order")
		require.EqualError(t, err, "no such order")
		require.NoError(t, errors.Unwrap(err))
	})

	t.Run("carries the violations of a request", func(t *testing.T) {
		t.Parallel()
		wrong := fault.Violation{Field: "items[0].quantity", Description: "must be positive"}
		err := fault.Invalid(wrong)
		require.Equal(t, fault.InvalidArgument, err.Code)
		require.Equal(t, []fault.Violation{wrong}, err.Violations)
	})
}

func TestFrom(t *testing.T) {
	t.Parallel()
	inner := &fault.Error{Code: fault.ResourceExhausted, Message: "too fast", RetryAfter: time.Second}
	for _, err := range []error{inner, fmt.Errorf("place order: %w", inner), errors.Join(errors.New("other"), inner)} {
		found, ok := fault.From(err)
		require.True(t, ok)
		require.Same(t, inner, found)
	}
	_, ok := fault.From(errors.New("other"))
	require.False(t, ok)
	_, ok = fault.From(nil)
	require.False(t, ok)
}

func TestCodeOf(t *testing.T) {
	t.Parallel()
	for err, want := range map[error]fault.Code{
		fault.New(fault.Aborted, ""):                                    fault.Aborted,
		fmt.Errorf("query: %w", context.Canceled):                       fault.Canceled,
		fmt.Errorf("query: %w", context.DeadlineExceeded):               fault.DeadlineExceeded,
		fault.Wrap(context.DeadlineExceeded, fault.Unavailable, "late"): fault.Unavailable,
		errors.New("other"):                                             fault.Unknown,
	} {
		require.Equal(t, want, fault.CodeOf(err), "%v", err)
	}
	require.Equal(t, fault.Unknown, fault.CodeOf(nil))
}
