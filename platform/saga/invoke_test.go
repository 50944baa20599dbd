package saga_test

import (
	"context"
	"errors"
	"io"
	"math"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/slipwayhq/slipway/platform/saga"
)

func invoke[S any](ctx context.Context, f saga.Func[S], data string) saga.Result {
	d := saga.Define("test", 1, saga.Step("a", f).Timeout(time.Second))
	return d.Invoke(ctx, saga.Invocation{ID: "id", Data: []byte(data)})
}

func TestDefinition_Invoke(t *testing.T) {
	t.Parallel()

	t.Run("gives each call what it needs", func(t *testing.T) {
		t.Parallel()
		var calls []saga.Call[order]
		keep := func(ctx context.Context, c *saga.Call[order]) error {
			calls = append(calls, *c)
			return ctx.Err()
		}
		d := saga.Define("test", 1,
			saga.Undo("x", keep),
			saga.Step("a", keep).Undo("b", keep).Verify(func(ctx context.Context, c *saga.Call[order]) (bool, error) { return true, keep(ctx, c) }),
			saga.Wait("s", time.Hour, keep), saga.Wait[order]("t", time.Hour, nil))
		v := saga.Invocation{ID: "id", Stage: 1, Data: []byte(`{"Stock":"s-1"}`), Reason: "why", Token: 7, Signal: []byte("sig")}
		v.Attempt = 3
		for _, v.Kind = range []saga.CallKind{saga.CallAction, saga.CallUndo, saga.CallVerify} {
			r := d.Invoke(t.Context(), v)
			require.NoError(t, r.Err)
			require.Equal(t, v.Kind == saga.CallVerify, r.Happened)
		}
		v.Kind, v.Stage = saga.CallUndo, 0
		require.Equal(t, saga.ClassOK, d.Invoke(t.Context(), v).Class)
		v.Kind, v.Stage = saga.CallAction, 3
		require.Equal(t, saga.ClassOK, d.Invoke(t.Context(), v).Class, "a wait may do nothing with its signal")

		s := &order{Stock: "s-1"}
		common := saga.Call[order]{State: s, SagaID: "id", Saga: "test", Step: "a", Key: "id/a", Attempt: 3, Token: 7, Signal: []byte("sig")}
		undo, undoOnly := common, common
		undo.Step, undo.Reason = "b", "why"
		undoOnly.Step, undoOnly.Key, undoOnly.Reason = "x", "id/x", "why"
		require.Equal(t, []saga.Call[order]{common, undo, common, undoOnly}, calls)
	})

	t.Run("keeps what a call has changed only if it succeeds", func(t *testing.T) {
		t.Parallel()
		for _, err := range []error{nil, io.EOF, saga.Rejected(io.EOF)} {
			r := invoke(t.Context(), func(_ context.Context, c *saga.Call[order]) error {
				c.State.Payment = "p"
				return err
			}, `{"Stock":"s","Payment":""}`)
			if err == nil {
				require.JSONEq(t, `{"Stock":"s","Payment":"p"}`, string(r.Data))
			} else {
				require.Nil(t, r.Data)
			}
			require.Equal(t, saga.ClassOf(err), r.Class)
		}
		r := invoke(t.Context(), nothing, `{"Stock":"s","Payment":""}`)
		require.Nil(t, r.Data, "nothing is stored if nothing has changed")
		require.JSONEq(t, `{"Stock":"","Payment":""}`, string(invoke(t.Context(), nothing, "").Data))
	})

	t.Run("a panic is an error of unknown outcome, wherever it is", func(t *testing.T) {
		t.Parallel()
		r := invoke(t.Context(), func(context.Context, *saga.Call[order]) error { panic("oh") }, "")
		var p *saga.PanicError
		require.ErrorAs(t, r.Err, &p)
		require.EqualError(t, r.Err, "panic: oh")
		require.Contains(t, string(p.Stack), "invoke_test.go")
		require.Equal(t, saga.ClassUnknown, r.Class)
		r = invoke(t.Context(), func(context.Context, *saga.Call[bomb]) error { return nil }, "")
		require.EqualError(t, r.Err, "panic: marshal")
		require.Equal(t, saga.ClassUnknown, r.Class)
	})

	t.Run("a state that cannot be read is no call, one that cannot be written was one", func(t *testing.T) {
		t.Parallel()
		called := false
		r := invoke(t.Context(), func(context.Context, *saga.Call[order]) error {
			called = true
			return nil
		}, `{"Stock":1}`)
		require.False(t, called)
		require.Equal(t, saga.ClassRetryable, r.Class)
		require.ErrorContains(t, r.Err, "decode state: ")
		r = invoke(t.Context(), func(_ context.Context, c *saga.Call[float64]) error {
			*c.State = math.NaN()
			return nil
		}, "")
		require.Equal(t, saga.ClassUnknown, r.Class)
		require.ErrorContains(t, r.Err, "encode state: ")
	})

	t.Run("an answer of a verification that failed is none", func(t *testing.T) {
		t.Parallel()
		d := saga.Define("test", 1, saga.Step("a", nothing).Verify(func(context.Context, *saga.Call[order]) (bool, error) { return true, io.EOF }))
		r := d.Invoke(t.Context(), saga.Invocation{Command: saga.Command{Kind: saga.CallVerify}})
		require.False(t, r.Happened)
		require.Equal(t, saga.ClassUnknown, r.Class)
	})
}

// bomb is a state that cannot be stored.
type bomb struct{}

func (bomb) MarshalJSON() ([]byte, error) { panic("marshal") }

func TestDefinition_Invoke_timeout(t *testing.T) {
	t.Parallel()
	for name, mark := range map[string]func(error) error{
		"plain": func(err error) error { return err }, "retryable": saga.Retryable, "rejected": saga.Rejected,
	} {
		t.Run("a "+name+" error after the timeout is of unknown outcome", func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				began := time.Now()
				r := invoke(t.Context(), func(ctx context.Context, _ *saga.Call[order]) error {
					<-ctx.Done()
					return mark(ctx.Err())
				}, "")
				require.Equal(t, saga.ClassUnknown, r.Class)
				require.ErrorIs(t, r.Err, context.DeadlineExceeded)
				require.Equal(t, time.Second, time.Since(began))
			})
		})
	}

	t.Run("so is one after the caller has stopped, but a success is one", func(t *testing.T) {
		t.Parallel()
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		require.Equal(t, saga.ClassUnknown, invoke(ctx, func(context.Context, *saga.Call[order]) error {
			return saga.Rejected(errors.New("no"))
		}, "").Class)
		require.Equal(t, saga.ClassOK, invoke(ctx, nothing, "").Class)
	})
}

func TestMerge(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ current, before, after, want string }{
		"alone":                    {`{"a":1}`, `{"a":1}`, `{"a":2}`, `{"a":2}`},
		"beside another change":    {`{"a":1,"b":2}`, `{"a":1,"b":1}`, `{"a":2,"b":1}`, `{"a":2,"b":2}`},
		"a field that is new":      {`{"a":2}`, `{"a":1}`, `{"a":1,"b":1}`, `{"a":2,"b":1}`},
		"a field that has gone":    {`{"a":2,"b":1}`, `{"a":1,"b":1}`, `{"a":1}`, `{"a":2}`},
		"blanks are no change":     {`{"a":{"x":2}}`, `{"a":{"x": 1}}`, `{"a":{"x":1}}`, `{"a":{"x":2}}`},
		"from nothing":             {`{"a":2}`, ``, `{"b":1}`, `{"a":2,"b":1}`},
		"the last of both changes": {`{"a":2}`, `{"a":1}`, `{"a":3}`, `{"a":3}`},
	} {
		got, err := saga.Merge([]byte(c.current), []byte(c.before), []byte(c.after))
		require.NoError(t, err, name)
		require.JSONEq(t, c.want, string(got), name)
	}
	got, err := saga.Merge([]byte("1"), []byte("2"), nil)
	require.NoError(t, err)
	require.Equal(t, "1", string(got), "nothing has changed")
	got, err = saga.Merge([]byte("1"), []byte("1"), []byte("2"))
	require.NoError(t, err)
	require.Equal(t, "2", string(got), "alone, a state may be anything")
	_, err = saga.Merge([]byte("1"), []byte("2"), []byte("3"))
	require.ErrorContains(t, err, "it is not a JSON object")
}
