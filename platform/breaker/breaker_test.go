package breaker_test

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/slipwayhq/slipway/platform/breaker"
	"github.com/slipwayhq/slipway/platform/internal/leaktest"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

var (
	errDown  = errors.New("callee is down")
	errWrong = errors.New("caller is wrong")
	errAway  = errors.New("nobody was asked")
)

func classify(err error) breaker.Outcome {
	switch {
	case errors.Is(err, errWrong):
		return breaker.Success
	case errors.Is(err, errAway):
		return breaker.Ignored
	default:
		return breaker.Failure
	}
}

// patient opens after 3 failures in a row, for 1s, 2s, 4s and at most 5s, and closes after 2 successes.
var patient = breaker.Config{
	Name: "orders", Failures: 3, Ratio: -1, Window: time.Minute, OpenTimeout: time.Second, MaxOpen: 5 * time.Second,
	HalfOpenProbes: 2, Classify: classify,
}

// lasting is patient, but stays open for longer than any test lasts.
var lasting = func() breaker.Config {
	cfg := patient
	cfg.OpenTimeout, cfg.MaxOpen = time.Hour, time.Hour
	return cfg
}()

// create must be called in the bubble of the test: the breaker is as old as the time of its bubble.
func create(t *testing.T, cfg breaker.Config) *breaker.Breaker {
	t.Helper()
	b, err := breaker.New(cfg, nil)
	require.NoError(t, err)
	return b
}

func call(b *breaker.Breaker, result error) error {
	return b.Do(context.Background(), func(context.Context) error { return result })
}

// fail makes calls that fail.
func fail(t *testing.T, b *breaker.Breaker, n int) {
	t.Helper()
	for range n {
		require.ErrorIs(t, call(b, errDown), errDown)
	}
}

func requireRejected(t *testing.T, b *breaker.Breaker, reason error, wait time.Duration) {
	t.Helper()
	err := b.Do(context.Background(), func(context.Context) error {
		t.Error("the call was made")
		return nil
	})
	require.Equal(t, &breaker.RejectedError{Name: "orders", RetryAfter: wait, Reason: reason}, err)
	require.ErrorIs(t, err, reason)
}

func TestBreaker_Do(t *testing.T) {
	t.Parallel()
	t.Run("opens after failures in a row", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			b := create(t, patient)
			fail(t, b, 2)
			require.NoError(t, call(b, nil))
			fail(t, b, 2)
			require.Equal(t, breaker.Closed, b.State())
			fail(t, b, 1)
			require.Equal(t, breaker.Open, b.State())
			requireRejected(t, b, breaker.ErrOpen, time.Second)
			time.Sleep(time.Second - time.Nanosecond)
			requireRejected(t, b, breaker.ErrOpen, time.Nanosecond)
		})
	})
	t.Run("forgets failures", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			b := create(t, patient)
			fail(t, b, 2)
			time.Sleep(patient.Window)
			fail(t, b, 2)
			require.Equal(t, breaker.Closed, b.State())
		})
	})
	t.Run("closes when its probes succeed, and starts over", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			b := create(t, patient)
			for range 2 {
				fail(t, b, 3)
				time.Sleep(time.Second)
				require.NoError(t, call(b, nil))
				require.Equal(t, breaker.HalfOpen, b.State())
				require.NoError(t, call(b, nil))
				require.Equal(t, breaker.Closed, b.State())
			}
		})
	})
	t.Run("stays open longer each time", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			b := create(t, patient)
			fail(t, b, 3)
			for _, open := range []time.Duration{1, 2, 4, 5, 5} {
				requireRejected(t, b, breaker.ErrOpen, open*time.Second)
				time.Sleep(open*time.Second - time.Nanosecond)
				require.Equal(t, breaker.Open, b.State())
				time.Sleep(time.Nanosecond)
				require.Equal(t, breaker.HalfOpen, b.State())
				fail(t, b, 1)
			}
		})
	})
	t.Run("stays open though a call ends that began before", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			b := create(t, patient)
			fail(t, b, 3)
			time.Sleep(time.Second)
			slow, err := b.Begin(t.Context())
			require.NoError(t, err)
			fail(t, b, 1)
			time.Sleep(1500 * time.Millisecond) // Longer than the first open time, and the inner breaker's.
			slow(nil)
			require.Equal(t, breaker.Open, b.State())
			requireRejected(t, b, breaker.ErrOpen, 500*time.Millisecond)
			time.Sleep(500 * time.Millisecond)
			require.Equal(t, breaker.HalfOpen, b.State())
			require.NoError(t, call(b, nil))
			require.Equal(t, breaker.HalfOpen, b.State(), "a result of before counted")
		})
	})
	t.Run("lets no more probes pass than it needs", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			b := create(t, patient)
			fail(t, b, 3)
			time.Sleep(time.Second)
			one, err := b.Begin(t.Context())
			require.NoError(t, err)
			two, err := b.Begin(t.Context())
			require.NoError(t, err)
			requireRejected(t, b, breaker.ErrTooManyProbes, time.Second)
			one(errAway)
			require.NoError(t, call(b, nil), "what is ignored gives its place back")
			requireRejected(t, b, breaker.ErrTooManyProbes, time.Second)
			two(nil)
			two(errDown)
			require.Equal(t, breaker.Closed, b.State())
		})
	})
	t.Run("takes a panic for a failure", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			b := create(t, patient)
			for range 3 {
				require.PanicsWithValue(t, "boom", func() {
					_ = b.Do(t.Context(), func(context.Context) error { panic("boom") })
				})
			}
			require.Equal(t, breaker.Open, b.State())
		})
	})
}

func TestBreaker_Do_ratio(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := create(t, breaker.Config{Name: "orders", Failures: -1, Ratio: 0.5, MinCalls: 10, Window: 10 * time.Second})
		fail(t, b, 9)
		time.Sleep(9 * time.Second)
		require.Equal(t, breaker.Closed, b.State(), "too few calls")
		for range 9 {
			require.NoError(t, call(b, nil))
		}
		time.Sleep(time.Second) // The first nine are forgotten.
		fail(t, b, 8)
		require.Equal(t, breaker.Closed, b.State(), "8 of 17")
		fail(t, b, 1)
		require.Equal(t, breaker.Open, b.State(), "9 of 18")
	})
}

func TestBreaker_Do_whatIsNoFailure(t *testing.T) {
	t.Parallel()
	open := create(t, lasting)
	fail(t, open, 3)
	canceled, cancel := context.WithCancel(context.Background())
	cancel()
	for name, once := range map[string]func(*breaker.Breaker){
		"the caller's own fault":       func(b *breaker.Breaker) { _ = call(b, errWrong) },
		"what is to be ignored":        func(b *breaker.Breaker) { _ = call(b, fmt.Errorf("ask: %w", errAway)) },
		"a context that ended before":  func(b *breaker.Breaker) { _ = b.Do(canceled, func(context.Context) error { return errDown }) },
		"a cancellation":               func(b *breaker.Breaker) { _ = call(b, fmt.Errorf("ask: %w", context.Canceled)) },
		"the rejection of another one": func(b *breaker.Breaker) { _ = call(b, fmt.Errorf("ask: %w", call(open, nil))) },
		"what a call returns after its caller has cancelled": func(b *breaker.Breaker) {
			ctx, cancel := context.WithCancel(context.Background())
			_ = b.Do(ctx, func(context.Context) error {
				cancel()
				return errDown
			})
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := create(t, lasting)
			for range 10 {
				once(b)
			}
			require.Equal(t, breaker.Closed, b.State())
		})
	}
	t.Run("but a deadline that passes is one", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			b := create(t, patient)
			for range 3 {
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				require.ErrorIs(t, b.Do(ctx, func(ctx context.Context) error {
					<-ctx.Done()
					return ctx.Err()
				}), context.DeadlineExceeded)
				cancel()
			}
			require.Equal(t, breaker.Open, b.State())
		})
	})
	t.Run("and everything is that nobody classifies", func(t *testing.T) {
		t.Parallel()
		b := create(t, breaker.Config{Name: "orders", Failures: 3})
		for range 3 {
			_ = call(b, errWrong)
		}
		require.Equal(t, breaker.Open, b.State())
	})
}

func TestBreaker_Begin(t *testing.T) {
	t.Parallel()
	b := create(t, lasting)
	canceled, cancel := context.WithCancel(context.Background())
	cancel()
	_, err := b.Begin(canceled)
	require.ErrorIs(t, err, context.Canceled)
	for range 3 {
		done, err := b.Begin(t.Context())
		require.NoError(t, err)
		done(errDown)
	}
	_, err = b.Begin(t.Context())
	require.ErrorIs(t, err, breaker.ErrOpen)
}

// Half open it lets as many calls pass as there are places, however many come at once; and none
// while it is open.
func TestBreaker_Do_inParallel(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := create(t, patient)
		fail(t, b, 3)
		for round := range 50 {
			open := min(time.Second<<min(round, 3), patient.MaxOpen)
			require.Zero(t, crowd(t, b, errDown))
			time.Sleep(open)
			require.EqualValues(t, patient.HalfOpenProbes, crowd(t, b, errDown))
		}
		time.Sleep(patient.MaxOpen)
		crowd(t, b, nil)
		require.Equal(t, breaker.Closed, b.State())
	})
}

// crowd makes 100 calls at once, each of which takes a moment, and returns how many were made.
func crowd(t *testing.T, b *breaker.Breaker, result error) int64 {
	t.Helper()
	var made atomic.Int64
	var callers errgroup.Group
	for range 100 {
		callers.Go(func() error {
			_ = b.Do(context.Background(), func(context.Context) error {
				made.Add(1)
				time.Sleep(time.Microsecond) // of the bubble, so that all have come
				return result
			})
			return nil
		})
	}
	require.NoError(t, callers.Wait())
	return made.Load()
}

func BenchmarkBreaker_Do(b *testing.B) {
	succeed := func(context.Context) error { return nil }
	b.Run("closed", func(b *testing.B) {
		closed, err := breaker.New(breaker.Config{Name: "orders"}, nil)
		require.NoError(b, err)
		b.ReportAllocs()
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				_ = closed.Do(context.Background(), succeed)
			}
		})
		require.Zero(b, testing.AllocsPerRun(100, func() { _ = closed.Do(context.Background(), succeed) }))
	})
	b.Run("open", func(b *testing.B) {
		open, err := breaker.New(breaker.Config{Name: "orders", Failures: 1, OpenTimeout: time.Hour}, nil)
		require.NoError(b, err)
		require.Error(b, call(open, errDown))
		b.ReportAllocs()
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				_ = open.Do(context.Background(), succeed)
			}
		})
	})
}
