package fault_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/slipwayhq/slipway/platform/fault"
)

var (
	errNotFound = errors.New("order 17 of alice@example.com not found")
	errConflict = errors.New("version 3 is not version 4")
	errDriver   = errors.New("password of user shop is wrong")
	errSpoken   = fault.New(fault.FailedPrecondition, "the order is paid")
)

var table = fault.Table{
	{Target: errNotFound, Code: fault.NotFound, Message: "no such order", Reason: "ORDER_NOT_FOUND"},
	{Target: errConflict, Code: fault.Aborted, Message: "the order was changed meanwhile"},
}

func TestTable_Classify(t *testing.T) {
	t.Parallel()

	t.Run("gives a sentinel its rule and keeps the cause", func(t *testing.T) {
		t.Parallel()
		err := fmt.Errorf("load: %w", errNotFound)
		require.Equal(t, &fault.Error{
			Code: fault.NotFound, Message: "no such order", Reason: "ORDER_NOT_FOUND", Cause: err,
		}, table.Classify(err))
	})

	t.Run("takes the first of two rules", func(t *testing.T) {
		t.Parallel()
		require.Equal(t, fault.NotFound, table.Classify(errors.Join(errConflict, errNotFound)).Code)
	})

	t.Run("lets a rule decide about a context error", func(t *testing.T) {
		t.Parallel()
		own := fault.Table{{Target: context.DeadlineExceeded, Code: fault.Unavailable, Message: "busy"}}
		require.Equal(t, fault.Unavailable, own.Classify(context.DeadlineExceeded).Code)
		require.Equal(t, fault.DeadlineExceeded, table.Classify(context.DeadlineExceeded).Code)
	})

	t.Run("an error that already speaks to the client wins", func(t *testing.T) {
		t.Parallel()
		require.Same(t, errSpoken, table.Classify(errors.Join(errNotFound, errSpoken)))
	})

	t.Run("no error stays no error", func(t *testing.T) {
		t.Parallel()
		require.Nil(t, table.Classify(nil))
		require.Equal(t, fault.Internal, fault.Table(nil).Classify(errDriver).Code)
	})
}

// leaves is every kind of error that a tree of errors can end in, in the order in which Classify
// looks for them, with the code that the kind is given.
var leaves = []struct {
	err     error
	code    fault.Code
	message string
}{
	{errSpoken, fault.FailedPrecondition, "the order is paid"},
	{errNotFound, fault.NotFound, "no such order"},
	{errConflict, fault.Aborted, "the order was changed meanwhile"},
	{context.Canceled, fault.Canceled, "the call was cancelled"},
	{context.DeadlineExceeded, fault.DeadlineExceeded, "the deadline was exceeded"},
	{errDriver, fault.Internal, "internal error"},
}

// checkClassified holds for any error that is built from the leaves whose indexes are given.
func checkClassified(t require.TestingT, err error, used []int) {
	first := len(leaves) - 1
	for _, i := range used {
		first = min(first, i)
	}
	got := table.Classify(err)
	require.NotNil(t, got)
	require.Equal(t, leaves[first].code, got.Code)
	require.Equal(t, leaves[first].message, got.Message, "a message that is not fixed may leak")
	if got != errSpoken {
		require.Equal(t, err, got.Cause, "the log needs the whole cause")
	}
}

func TestTable_Classify_anyTree(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		var used []int
		var grow func(depth int) error
		grow = func(depth int) error {
			switch kind := rapid.IntRange(0, 3).Draw(rt, "kind"); {
			case kind == 0 && depth < 5:
				return fmt.Errorf("load: %w", grow(depth+1))
			case kind == 1 && depth < 5:
				return errors.Join(grow(depth+1), grow(depth+1))
			default:
				i := rapid.IntRange(0, len(leaves)-1).Draw(rt, "leaf")
				used = append(used, i)
				return leaves[i].err
			}
		}
		checkClassified(rt, grow(0), used)
	})
}

func FuzzTable_Classify(f *testing.F) {
	f.Add([]byte{1, 2, 3}, "load order")
	f.Add([]byte{5, 200, 0, 17}, "")
	f.Fuzz(func(t *testing.T, path []byte, text string) {
		err := errDriver
		used := []int{len(leaves) - 1}
		for _, step := range path {
			if leaf := int(step) - 100; leaf >= 0 && leaf < len(leaves) {
				err = errors.Join(leaves[leaf].err, err)
				used = append(used, leaf)
			} else {
				err = fmt.Errorf("%s: %w", text, err)
			}
		}
		checkClassified(t, err, used)
	})
}
