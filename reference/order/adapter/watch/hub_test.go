package watch_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/slipwayhq/slipway/platform/fault"
	"github.com/slipwayhq/slipway/reference/order/adapter/watch"
	"github.com/slipwayhq/slipway/reference/order/domain"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// orders is a table of versions that counts how often it is asked.
type orders struct {
	mu       sync.Mutex
	versions map[string]int64
	asked    int
	err      error
}

func (o *orders) Versions(_ context.Context, ids []string) (map[string]int64, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.asked++
	found := map[string]int64{}
	for _, id := range ids {
		if v, ok := o.versions[id]; ok {
			found[id] = v
		}
	}
	return found, o.err
}

func (o *orders) set(id string, version int64, err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.versions[id], o.err = version, err
}

func (o *orders) count() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.asked
}

// setup runs a hub in a bubble of virtual time.
func setup(t *testing.T, logger *zap.Logger) (*watch.Hub, *orders) {
	t.Helper()
	o := &orders{versions: map[string]int64{"a": 1, "b": 1}}
	h := watch.NewHub(o, logger)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- h.Run(ctx) }()
	t.Cleanup(func() { cancel(); require.NoError(t, <-done) })
	return h, o
}

func drained(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

func TestHub(t *testing.T) {
	t.Parallel()

	t.Run("notices a change on another replica, and only that", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			h, o := setup(t, zap.NewNop())
			a, endA, err := h.Subscribe("a")
			require.NoError(t, err)
			defer endA()
			b, endB, err := h.Subscribe("b")
			require.NoError(t, err)
			defer endB()
			time.Sleep(time.Second) // virtual: the first look wakes everybody once
			require.True(t, drained(a))
			require.True(t, drained(b))

			o.set("a", 2, nil)
			time.Sleep(300 * time.Millisecond)
			require.True(t, drained(a))
			require.False(t, drained(b))
		})
	})

	t.Run("knows a change on this replica at once", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			h, _ := setup(t, zap.NewNop())
			a, end, err := h.Subscribe("a")
			require.NoError(t, err)
			defer end()
			synctest.Wait()
			drained(a)
			h.OrderChanged(context.Background(), domain.Snapshot{ID: "a", Version: 2})
			require.True(t, drained(a))
			h.OrderChanged(context.Background(), domain.Snapshot{ID: "a", Version: 2})
			require.False(t, drained(a), "the same version is no news")
		})
	})

	t.Run("does not wait for a watcher that reads nothing, who then hears of the latest change", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			h, o := setup(t, zap.NewNop())
			slow, endSlow, err := h.Subscribe("a")
			require.NoError(t, err)
			defer endSlow()
			quick, endQuick, err := h.Subscribe("a")
			require.NoError(t, err)
			defer endQuick()
			for version := int64(2); version <= 20; version++ {
				o.set("a", version, nil)
				time.Sleep(300 * time.Millisecond)
				require.True(t, drained(quick))
			}
			require.True(t, drained(slow))
			require.False(t, drained(slow), "many changes are one value")
		})
	})

	t.Run("asks nothing while nobody watches, and once for all who do", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			h, o := setup(t, zap.NewNop())
			time.Sleep(time.Minute)
			require.Zero(t, o.count())

			var ends []func()
			for range 100 {
				_, end, err := h.Subscribe("a")
				require.NoError(t, err)
				ends = append(ends, end)
			}
			time.Sleep(10 * time.Second)
			require.LessOrEqual(t, o.count(), 42)
			for _, end := range ends {
				end()
				end() // ending twice is harmless
			}
			time.Sleep(time.Second)
			before := o.count()
			time.Sleep(time.Minute)
			require.Equal(t, before, o.count())
		})
	})

	t.Run("goes on after the database was away, and complains once", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			core, logs := observer.New(zap.WarnLevel)
			h, o := setup(t, zap.New(core))
			o.set("a", 1, errors.New("connection refused"))
			a, end, err := h.Subscribe("a")
			require.NoError(t, err)
			defer end()
			time.Sleep(10 * time.Second)
			require.Equal(t, 1, logs.Len())
			drained(a)
			o.set("a", 2, nil)
			time.Sleep(time.Second)
			require.True(t, drained(a))
		})
	})

	t.Run("refuses more watchers than a replica can hold", func(t *testing.T) {
		t.Parallel()
		h := watch.NewHub(&orders{}, zap.NewNop())
		var err error
		subscribed := -1
		for ; err == nil; subscribed++ {
			_, _, err = h.Subscribe("a")
		}
		require.Equal(t, 10_000, subscribed)
		require.Equal(t, fault.ResourceExhausted, fault.CodeOf(err))
	})
}
