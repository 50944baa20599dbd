package redisdb_test

import (
	"context"
	"encoding/json"
	"math"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/slipwayhq/slipway/platform/redisdb"
	"github.com/slipwayhq/slipway/platform/redisdb/redistest"
)

// cacher is what the race needs of a cache.
type cacher interface {
	Get(ctx context.Context, key string, load func(context.Context) (order, error)) (order, error)
	Invalidate(ctx context.Context, key string, version int64)
}

// plainCache is the common recipe: GET, load, SET; and DEL to invalidate.
type plainCache struct{ client *redis.Client }

func (c plainCache) Get(ctx context.Context, key string, load func(context.Context) (order, error)) (order, error) {
	var o order
	if data, err := c.client.Get(ctx, key).Bytes(); err == nil {
		return o, json.Unmarshal(data, &o)
	}
	o, err := load(ctx)
	if err != nil {
		return o, err
	}
	data, err := json.Marshal(o)
	if err != nil {
		return o, err
	}
	return o, c.client.Set(ctx, key, data, time.Minute).Err()
}

func (c plainCache) Invalidate(ctx context.Context, key string, _ int64) { c.client.Del(ctx, key) }

// slowReaderRace lets a reader load an order, then a writer in another process change it and
// invalidate, then the reader go on. It returns what the next reader gets to see.
func slowReaderRace(t *testing.T, reader, writer cacher) order {
	t.Helper()
	src := newSource()
	loaded, release, done := make(chan struct{}), make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		_, _ = reader.Get(t.Context(), "7", func(ctx context.Context) (order, error) {
			old, err := src.load(ctx)
			close(loaded)
			<-release
			return old, err
		})
	}()
	<-loaded
	writer.Invalidate(t.Context(), "7", src.change("CANCELLED").Version)
	close(release)
	<-done
	got, err := writer.Get(t.Context(), "7", src.load)
	require.NoError(t, err)
	return got
}

func TestCache_Invalidate(t *testing.T) {
	t.Parallel()

	t.Run("a slow reader cannot put the old value back", func(t *testing.T) {
		t.Parallel()
		for name, start := range servers {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				s := start(t)
				got := slowReaderRace(t, newCache(t, open(t, s), nil), newCache(t, open(t, s), nil))
				require.Equal(t, "CANCELLED", got.Status)
			})
		}
	})

	t.Run("which SET and DEL let it do", func(t *testing.T) {
		t.Parallel()
		for name, start := range servers {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				s := start(t)
				got := slowReaderRace(t, plainCache{open(t, s)}, plainCache{open(t, s)})
				require.Equal(t, "PENDING", got.Status, "the race is not what it should be")
			})
		}
	})

	t.Run("nor in a cache of short-lived entries, after a newer entry came and went", func(t *testing.T) {
		t.Parallel()
		for name, start := range servers {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				s := start(t)
				client := open(t, s)
				cache, src := newCache(t, client, nil), newSource()
				old := *src.current.Load()
				cache.Store(t.Context(), "7", src.change("CONFIRMED"))
				require.NoError(t, client.Del(t.Context(), "order:{7}").Err()) // as if it had expired
				got, err := cache.Get(t.Context(), "7", func(context.Context) (order, error) { return old, nil })
				require.NoError(t, err)
				require.Equal(t, "PENDING", got.Status, "it is what this caller loaded")
				requireGet(t, cache, src, "CONFIRMED")
			})
		}
	})

	t.Run("a lookup that began before is not joined after", func(t *testing.T) {
		t.Parallel()
		cache, src := newCache(t, open(t, redistest.StartMini(t)), nil), newSource()
		require.Equal(t, "CANCELLED", func() string {
			loaded, release, done := make(chan struct{}), make(chan struct{}), make(chan struct{})
			go func() {
				defer close(done)
				_, _ = cache.Get(t.Context(), "7", func(ctx context.Context) (order, error) {
					old, err := src.load(ctx)
					close(loaded)
					<-release
					return old, err
				})
			}()
			<-loaded
			defer func() { close(release); <-done }()
			cache.Invalidate(t.Context(), "7", src.change("CANCELLED").Version)
			got, err := cache.Get(t.Context(), "7", src.load)
			require.NoError(t, err)
			return got.Status
		}())
	})

	t.Run("what is new enough stays", func(t *testing.T) {
		t.Parallel()
		for name, start := range servers {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				s := start(t)
				cache, src := newCache(t, open(t, s), nil), newSource()
				requireGet(t, cache, src, "PENDING")
				cache.Invalidate(t.Context(), "7", 1)
				requireGet(t, cache, src, "PENDING")
				require.Equal(t, int64(1), src.loads.Load())
			})
		}
	})

	t.Run("works when the caller has gone", func(t *testing.T) {
		t.Parallel()
		s := redistest.StartMini(t)
		cache, src := newCache(t, open(t, s), nil), newSource()
		requireGet(t, cache, src, "PENDING")
		gone, cancel := context.WithCancel(t.Context())
		cancel()
		cache.Invalidate(gone, "7", src.change("CANCELLED").Version)
		requireGet(t, newCache(t, open(t, s), nil), src, "CANCELLED")
	})

	t.Run("the highest version keeps everything out", func(t *testing.T) {
		t.Parallel()
		for name, start := range servers {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				s := start(t)
				cache, src := newCache(t, open(t, s), nil), newSource()
				cache.Invalidate(t.Context(), "7", math.MaxInt64)
				requireGet(t, cache, src, "PENDING")
				requireGet(t, cache, src, "PENDING")
				require.Equal(t, int64(2), src.loads.Load())
			})
		}
	})
}

func TestCache_Store(t *testing.T) {
	t.Parallel()
	for name, start := range servers {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := start(t)
			cache, src := newCache(t, open(t, s), nil), newSource()
			old := *src.current.Load()
			confirmed := src.change("CONFIRMED")
			cache.Store(t.Context(), "7", confirmed)
			cache.Store(t.Context(), "7", old)
			requireGet(t, cache, src, "CONFIRMED")
			require.Zero(t, src.loads.Load(), "the reader was spared the load")
		})
	}
}

// TestCache_neverGoesBack tries random histories: whatever readers with old and new values do,
// what is read is never older than the last invalidation or store.
func TestCache_neverGoesBack(t *testing.T) {
	t.Parallel()
	client := open(t, redistest.Start(t))
	rapid.Check(t, func(r *rapid.T) {
		const key = "k"
		floor := int64(0)
		if err := client.FlushDB(t.Context()).Err(); err != nil {
			r.Fatal(err)
		}
		cache, err := redisdb.NewCache(client, redisdb.CacheConfig[int64]{Prefix: "n", Version: func(v int64) int64 { return v }}, nil, nil)
		if err != nil {
			r.Fatal(err)
		}
		version := rapid.OneOf(rapid.Int64Range(1, 20), rapid.Int64Range(math.MaxInt64-20, math.MaxInt64))
		r.Repeat(map[string]func(*rapid.T){
			"invalidate": func(r *rapid.T) {
				v := version.Draw(r, "version")
				cache.Invalidate(t.Context(), key, v)
				floor = max(floor, v)
			},
			"store": func(r *rapid.T) {
				v := version.Draw(r, "version")
				cache.Store(t.Context(), key, v)
				floor = max(floor, v)
			},
			"read": func(r *rapid.T) {
				loaded, hit := version.Draw(r, "loaded"), true
				got, err := cache.Get(t.Context(), key, func(context.Context) (int64, error) {
					hit = false
					return loaded, nil
				})
				if err != nil {
					r.Fatal(err)
				}
				if hit && got < floor {
					r.Fatalf("read %d after %d", got, floor)
				}
				floor = max(floor, got)
			},
		})
	})
}
