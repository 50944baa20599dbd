package redisdb_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/slipwayhq/slipway/platform/internal/faultproxy"
	"github.com/slipwayhq/slipway/platform/redisdb"
	"github.com/slipwayhq/slipway/platform/redisdb/redistest"
)

// order is what the tests cache.
type order struct {
	Version int64
	Status  string
}

// source is the truth behind the cache: one order that may change.
type source struct {
	current atomic.Pointer[order]
	loads   atomic.Int64
}

func newSource() *source {
	s := &source{}
	s.current.Store(&order{Version: 1, Status: "PENDING"})
	return s
}

func (s *source) load(context.Context) (order, error) {
	s.loads.Add(1)
	return *s.current.Load(), nil
}

// change commits a new version and returns it.
func (s *source) change(status string) order {
	next := order{Version: s.current.Load().Version + 1, Status: status}
	s.current.Store(&next)
	return next
}

func newCache(t *testing.T, client redis.UniversalClient, reg prometheus.Registerer) *redisdb.Cache[order] {
	t.Helper()
	cache, err := redisdb.NewCache(client, redisdb.CacheConfig[order]{
		Prefix:  "order",
		Version: func(o order) int64 { return o.Version },
	}, nil, reg)
	require.NoError(t, err)
	return cache
}

func requireGet(t *testing.T, cache *redisdb.Cache[order], src *source, want string) {
	t.Helper()
	got, err := cache.Get(t.Context(), "7", src.load)
	require.NoError(t, err)
	require.Equal(t, want, got.Status)
}

func TestCache_Get(t *testing.T) {
	t.Parallel()

	t.Run("the first caller loads, the next ones are answered by Redis", func(t *testing.T) {
		t.Parallel()
		for name, start := range servers {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				s := start(t)
				reg := prometheus.NewPedanticRegistry()
				cache, src := newCache(t, open(t, s), reg), newSource()
				for range 5 {
					requireGet(t, cache, src, "PENDING")
				}
				requireGet(t, newCache(t, open(t, s), nil), src, "PENDING")
				require.Equal(t, int64(1), src.loads.Load(), "another process hits too")
				require.Equal(t, map[string]int{"hit": 4, "miss": 1, "bypass": 0, "error": 0}, countsOf(t, reg, "cache_requests_total"))
				require.Equal(t, map[string]int{"done": 1, "outdated": 0, "bypass": 0, "error": 0}, countsOf(t, reg, "cache_writes_total"))
			})
		}
	})

	t.Run("a hundred callers at once cause one load", func(t *testing.T) {
		t.Parallel()
		for name, start := range servers {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				s := start(t)
				cache, src := newCache(t, open(t, s), nil), newSource()
				var callers, called sync.WaitGroup
				called.Add(100)
				for range 100 {
					callers.Go(func() {
						called.Done()
						got, err := cache.Get(t.Context(), "7", func(ctx context.Context) (order, error) {
							called.Wait() // none is late
							return src.load(ctx)
						})
						if err != nil || got.Status != "PENDING" {
							t.Errorf("got %+v, %v", got, err)
						}
					})
				}
				callers.Wait()
				require.Equal(t, int64(1), src.loads.Load())
			})
		}
	})

	t.Run("an error goes to the callers and is not cached", func(t *testing.T) {
		t.Parallel()
		cache, src := newCache(t, open(t, redistest.StartMini(t)), nil), newSource()
		missing := errors.New("no such order")
		_, err := cache.Get(t.Context(), "7", func(context.Context) (order, error) { return order{}, missing })
		require.ErrorIs(t, err, missing)
		requireGet(t, cache, src, "PENDING")
	})

	t.Run("entries expire, at different times", func(t *testing.T) {
		t.Parallel()
		for name, start := range servers {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				s := start(t)
				client := open(t, s)
				cache, src := newCache(t, client, nil), newSource()
				seen := map[time.Duration]bool{}
				for _, key := range []string{"a", "b", "c", "d", "e", "f", "g", "h"} {
					_, err := cache.Get(t.Context(), key, src.load)
					require.NoError(t, err)
					left := client.PTTL(t.Context(), "order:{"+key+"}").Val()
					require.Greater(t, left, 50*time.Second)
					require.LessOrEqual(t, left, time.Minute)
					seen[left.Truncate(100*time.Millisecond)] = true
				}
				require.Greater(t, len(seen), 1)
			})
		}
	})

	t.Run("an entry that cannot be read is loaded and replaced", func(t *testing.T) {
		t.Parallel()
		for name, junk := range map[string]string{"short": "x", "no version": "not a number but long enough", "no JSON": "0000000000000000001{"} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				for name, start := range servers {
					t.Run(name, func(t *testing.T) {
						t.Parallel()
						s := start(t)
						client, reg := open(t, s), prometheus.NewPedanticRegistry()
						cache, src := newCache(t, client, reg), newSource()
						require.NoError(t, client.Set(t.Context(), "order:{7}", junk, 0).Err())
						requireGet(t, cache, src, "PENDING")
						require.Equal(t, 1, countsOf(t, reg, "cache_requests_total")["error"])
					})
				}
			})
		}
	})
}

func TestCache_Get_callersAreIndependent(t *testing.T) {
	t.Parallel()

	t.Run("one that gives up does not take the others with it", func(t *testing.T) {
		t.Parallel()
		cache, src := newCache(t, open(t, redistest.StartMini(t)), nil), newSource()
		loading, release := make(chan struct{}), make(chan struct{})
		hasty, giveUp := context.WithCancel(t.Context())
		failed := make(chan error, 1)
		go func() {
			_, err := cache.Get(hasty, "7", func(ctx context.Context) (order, error) {
				close(loading)
				<-release
				if ctx.Err() != nil {
					return order{}, ctx.Err()
				}
				return src.load(ctx)
			})
			failed <- err
		}()
		<-loading
		giveUp()
		require.ErrorIs(t, <-failed, context.Canceled)

		close(release)
		got, err := cache.Get(t.Context(), "7", src.load)
		require.NoError(t, err)
		require.Equal(t, "PENDING", got.Status)
		require.Equal(t, int64(1), src.loads.Load())
	})

	t.Run("a load has the values of the first caller and a bound of its own", func(t *testing.T) {
		t.Parallel()
		type name struct{}
		cache, err := redisdb.NewCache(open(t, redistest.StartMini(t)), redisdb.CacheConfig[order]{
			Prefix: "order", Version: func(o order) int64 { return o.Version }, LoadTimeout: 20 * time.Millisecond,
		}, nil, nil)
		require.NoError(t, err)
		_, err = cache.Get(context.WithValue(t.Context(), name{}, "ann"), "7", func(ctx context.Context) (order, error) {
			if ctx.Value(name{}) != "ann" {
				t.Error("the value is lost")
			}
			<-ctx.Done()
			return order{}, ctx.Err()
		})
		require.ErrorIs(t, err, context.DeadlineExceeded)
	})

	t.Run("a panic reaches the caller and not the process", func(t *testing.T) {
		t.Parallel()
		cache, src := newCache(t, open(t, redistest.StartMini(t)), nil), newSource()
		require.PanicsWithValue(t, "load cache entry: boom", func() {
			defer func() {
				text, _ := recover().(string)
				panic(text[:len("load cache entry: boom")])
			}()
			_, _ = cache.Get(t.Context(), "7", func(context.Context) (order, error) { panic("boom") })
		})
		requireGet(t, cache, src, "PENDING")
	})

	t.Run("one that is cancelled already asks nobody", func(t *testing.T) {
		t.Parallel()
		cache, src := newCache(t, open(t, redistest.StartMini(t)), nil), newSource()
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		_, err := cache.Get(ctx, "7", src.load)
		require.ErrorIs(t, err, context.Canceled)
		require.Zero(t, src.loads.Load())
	})
}

func TestCache_withoutRedis(t *testing.T) {
	t.Parallel()

	faults := map[string]struct{ break_, heal func(*redistest.Server) }{
		"stopped": {(*redistest.Server).Stop, (*redistest.Server).Restart},
		"hung":    {(*redistest.Server).Pause, (*redistest.Server).Resume},
	}
	for name, fault := range faults {
		t.Run("answers stay right when the server is "+name, func(t *testing.T) {
			t.Parallel()
			for name, start := range servers {
				t.Run(name, func(t *testing.T) {
					t.Parallel()
					s := start(t)
					reg := prometheus.NewPedanticRegistry()
					cache, src := newCache(t, openWith(t, redisdb.Config{URL: s.URL()}), reg), newSource()
					requireGet(t, cache, src, "PENDING")
					before := src.loads.Load()

					fault.break_(s)
					for range 20 {
						requireGet(t, cache, src, "PENDING")
					}
					cache.Invalidate(t.Context(), "7", src.change("CANCELLED").Version)
					for range 20 {
						requireGet(t, cache, src, "CANCELLED")
					}
					require.Equal(t, int64(40), src.loads.Load()-before)
					counts := countsOf(t, reg, "cache_requests_total")
					require.Positive(t, counts["error"])
					require.Greater(t, counts["bypass"], counts["error"], "only a few calls pay the timeout")

					fault.heal(s)
					require.Eventually(t, func() bool {
						requireGet(t, cache, src, "CANCELLED")
						return countsOf(t, reg, "cache_requests_total")["hit"] > counts["hit"]+3
					}, patience, 10*time.Millisecond)
				})
			}
		})
	}

	t.Run("an invalidation that Redis missed is kept and sent later", func(t *testing.T) {
		t.Parallel()
		for name, start := range servers {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				s := start(t)
				proxy := faultproxy.Start(t, s.Addr())
				here := newCache(t, openWith(t, redisdb.Config{URL: "redis://" + proxy.Addr()}), nil)
				elsewhere := newCache(t, open(t, s), nil)
				src := newSource()
				requireGet(t, elsewhere, src, "PENDING")

				proxy.SetFault(faultproxy.Fault{Refuse: true})
				proxy.Cut()
				here.Invalidate(t.Context(), "7", src.change("CANCELLED").Version)
				requireGet(t, elsewhere, src, "PENDING") // it could not know

				proxy.SetFault(faultproxy.Fault{})
				require.Eventually(t, func() bool {
					_, _ = here.Get(t.Context(), "any key", src.load)
					got, err := elsewhere.Get(t.Context(), "7", src.load)
					return err == nil && got.Status == "CANCELLED"
				}, patience, 10*time.Millisecond)
			})
		}
	})
}

func TestNewCache(t *testing.T) {
	t.Parallel()

	t.Run("bad values are named at once", func(t *testing.T) {
		t.Parallel()
		_, err := redisdb.NewCache(nil, redisdb.CacheConfig[order]{TTL: -1, LoadTimeout: -1}, nil, nil)
		for _, part := range []string{"prefix", "version function", "TTL -1ns", "load timeout -1ns"} {
			require.ErrorContains(t, err, part)
		}
	})

	t.Run("caches of one registry have their own series", func(t *testing.T) {
		t.Parallel()
		reg := prometheus.NewPedanticRegistry()
		client := open(t, redistest.StartMini(t))
		for _, prefix := range []string{"order", "customer"} {
			_, err := redisdb.NewCache(client, redisdb.CacheConfig[order]{Prefix: prefix, Version: func(o order) int64 { return o.Version }}, nil, reg)
			require.NoError(t, err)
		}
		series, err := testutil.GatherAndCount(reg, "cache_requests_total", "cache_writes_total")
		require.NoError(t, err)
		require.Equal(t, 2*8, series)
	})

	t.Run("another metric of the same name is reported", func(t *testing.T) {
		t.Parallel()
		reg := prometheus.NewPedanticRegistry()
		require.NoError(t, reg.Register(prometheus.NewGauge(prometheus.GaugeOpts{Name: "cache_requests_total"})))
		_, err := redisdb.NewCache(nil, redisdb.CacheConfig[order]{Prefix: "order", Version: func(o order) int64 { return o.Version }}, nil, reg)
		require.ErrorContains(t, err, "register cache_requests_total")
	})
}
