package saga_test

import (
	"errors"
	"fmt"
	"io"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/slipwayhq/slipway/platform/saga"
)

func TestClassOf(t *testing.T) {
	t.Parallel()
	for want, err := range map[saga.Class]error{
		saga.ClassOK:        nil,
		saga.ClassUnknown:   io.EOF,
		saga.ClassRetryable: fmt.Errorf("call: %w", saga.Retryable(io.EOF)),
		saga.ClassRejected:  errors.Join(errors.New("call"), saga.Rejected(io.EOF)),
	} {
		require.Equal(t, want, saga.ClassOf(err), err)
		if err != nil {
			require.ErrorIs(t, err, io.EOF)
		}
	}
	require.Equal(t, saga.ClassRejected, saga.ClassOf(saga.Rejected(saga.Retryable(io.EOF))), "the outer mark counts")
	require.NoError(t, saga.Rejected(nil))
	require.NoError(t, saga.Retryable(nil))
	require.NoError(t, saga.RetryAfter(nil, time.Second))
}

func TestResultOf(t *testing.T) {
	t.Parallel()
	err := saga.RetryAfter(io.EOF, time.Minute)
	require.Equal(t, saga.Result{Class: saga.ClassRetryable, Err: err, After: time.Minute}, saga.ResultOf(err))
	require.Equal(t, saga.Result{Class: saga.ClassOK}, saga.ResultOf(nil))
	e := saga.ResultOf(err).Event(saga.Command{Stage: 1, Step: 2, Kind: saga.CallUndo})
	require.Equal(t, saga.Event{
		Kind: saga.Returned, Stage: 1, Step: 2, Call: saga.CallUndo, Class: saga.ClassRetryable, Error: "EOF", After: time.Minute,
	}, e)
}

func TestNames(t *testing.T) {
	t.Parallel()
	require.Equal(t, "unknown ok retryable rejected", fmt.Sprint(saga.ClassUnknown, saga.ClassOK, saga.ClassRetryable, saga.ClassRejected))
	require.Equal(t, "action verify undo", fmt.Sprint(saga.CallAction, saga.CallVerify, saga.CallUndo))
	require.Equal(t, "pending undo_failed", fmt.Sprint(saga.StepPending, saga.StepUndoFailed))
	for s := saga.Running; s <= saga.Resolved; s++ {
		found, ok := saga.StatusOf(s.String())
		require.True(t, ok)
		require.Equal(t, s, found)
		require.Equal(t, s == saga.Completed || s == saga.Compensated || s == saga.Resolved, s.Final())
	}
	_, ok := saga.StatusOf("dancing")
	require.False(t, ok)
}
