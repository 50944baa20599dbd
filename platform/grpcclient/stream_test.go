package grpcclient

import (
	"context"
	"errors"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/slipwayhq/slipway/platform/breaker"
)

// fakeStream is a stream of a server that says what it is told to.
type fakeStream struct {
	grpc.ClientStream
	said chan error
	end  func(error)
}

func (f *fakeStream) RecvMsg(any) error {
	err := <-f.said
	if err != nil {
		f.end(err)
	}
	return err
}

// opener opens streams through a guard.
type opener struct {
	guard   *guard
	refused error
}

// open returns the stream as its caller has it, and as its server.
func (o *opener) open(ctx context.Context) (grpc.ClientStream, *fakeStream, error) {
	f := &fakeStream{said: make(chan error, 1)}
	stream, err := o.guard.stream(ctx, nil, nil, "/s/m", func(
		_ context.Context, _ *grpc.StreamDesc, _ *grpc.ClientConn, _ string, opts ...grpc.CallOption,
	) (grpc.ClientStream, error) {
		for _, opt := range opts {
			if finish, ok := opt.(grpc.OnFinishCallOption); ok {
				f.end = finish.OnFinish
			}
		}
		if o.refused != nil {
			return nil, o.refused
		}
		return f, nil
	})
	return stream, f, err
}

var errDown = status.Error(codes.Unavailable, "down")

// newOpener has a guard that opens after two failures in a row, for a minute, and closes after two
// successes; silence is ten seconds.
func newOpener(t *testing.T) *opener {
	t.Helper()
	cfg := Config{Target: "orders", Timeout: 10 * time.Second, Breaker: breaker.Config{
		Failures: 2, Ratio: -1, Window: time.Hour, OpenTimeout: time.Minute, HalfOpenProbes: 2,
	}}
	cfg.SetDefaults()
	g, err := newGuard(cfg, nil, nil)
	require.NoError(t, err)
	return &opener{guard: g}
}

func (o *opener) state() breaker.State { return o.guard.of("/s/m").State() }

// fail has a stream that fails at once.
func (o *opener) fail(t *testing.T) {
	t.Helper()
	stream, server, err := o.open(t.Context())
	require.NoError(t, err)
	server.said <- errDown
	require.ErrorIs(t, stream.RecvMsg(nil), errDown)
}

func TestGuard_stream(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		first func(t *testing.T, o *opener)
		want  breaker.State // after a failure, that, and a failure
	}{
		{"a failure as the first counts", func(t *testing.T, o *opener) { t.Helper(); o.fail(t) }, breaker.Open},
		{"a message as the first is a success, whatever comes later", func(t *testing.T, o *opener) {
			t.Helper()
			stream, server, err := o.open(t.Context())
			require.NoError(t, err)
			server.said <- nil
			require.NoError(t, stream.RecvMsg(nil))
			server.said <- errDown
			require.Error(t, stream.RecvMsg(nil))
		}, breaker.Closed},
		{"an end without a message is a success", func(t *testing.T, o *opener) {
			t.Helper()
			stream, server, err := o.open(t.Context())
			require.NoError(t, err)
			server.said <- io.EOF
			server.end = func(end func(error)) func(error) { return func(error) { end(nil) } }(server.end)
			require.ErrorIs(t, stream.RecvMsg(nil), io.EOF)
		}, breaker.Closed},
		{"a refusal to open counts", func(t *testing.T, o *opener) {
			t.Helper()
			o.refused = errDown
			_, _, err := o.open(t.Context())
			require.ErrorIs(t, err, errDown)
			o.refused = nil
		}, breaker.Open},
		{"a silence is nothing, and the failure that ends it comes too late", func(t *testing.T, o *opener) {
			t.Helper()
			stream, server, err := o.open(t.Context())
			require.NoError(t, err)
			time.Sleep(11 * time.Second)
			server.said <- errDown
			require.Error(t, stream.RecvMsg(nil))
			require.Equal(t, breaker.Closed, o.state())
		}, breaker.Open},
		{"a stream that its caller drops is nothing", func(t *testing.T, o *opener) {
			t.Helper()
			ctx, cancel := context.WithCancel(t.Context())
			_, server, err := o.open(ctx)
			require.NoError(t, err)
			cancel()
			server.end(errors.New("whatever"))
			require.Equal(t, breaker.Closed, o.state())
		}, breaker.Open},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				o := newOpener(t)
				o.fail(t)
				c.first(t, o)
				if o.state() == breaker.Closed {
					o.fail(t)
				}
				require.Equal(t, c.want, o.state())
			})
		})
	}
}

func TestGuard_stream_halfOpen(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		o := newOpener(t)
		o.fail(t)
		o.fail(t)
		_, _, err := o.open(t.Context())
		require.ErrorIs(t, err, breaker.ErrOpen)
		time.Sleep(time.Minute)
		for range 2 {
			_, _, err := o.open(t.Context())
			require.NoError(t, err)
		}
		_, _, err = o.open(t.Context())
		require.ErrorIs(t, err, breaker.ErrTooManyProbes)
		require.Equal(t, codes.Unavailable, status.Code(err))
		time.Sleep(10*time.Second - time.Nanosecond)
		require.Equal(t, breaker.HalfOpen, o.state())
		time.Sleep(time.Nanosecond)
		synctest.Wait()
		require.Equal(t, breaker.Closed, o.state(), "streams that say nothing would hold all places")
	})
}
