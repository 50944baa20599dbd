package redisdb

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"runtime/debug"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"
	"go.uber.org/zap"
	"golang.org/x/sync/singleflight"
)

// What became of a Get, as the label "result" of cache_requests_total.
const (
	resultHit    = "hit"    // answered by Redis
	resultMiss   = "miss"   // Redis had nothing; loaded
	resultBypass = "bypass" // Redis was left alone because it did not answer before; loaded
	resultError  = "error"  // Redis failed or held something unreadable; loaded
)

// What became of a write, as the label "result" of cache_writes_total.
const (
	writeDone     = "done"
	writeOutdated = "outdated" // refused: something newer was there
	writeBypass   = "bypass"
	writeError    = "error"
)

// CacheConfig describes a [Cache] of values of type V.
type CacheConfig[V any] struct {
	// Prefix starts every key and is the label "cache" of the metrics; required, unique among
	// the caches of a Redis database. Change it when the encoding changes incompatibly.
	Prefix string
	// Version returns the version of a value, which grows with each change of what the key
	// stands for and is not negative; required.
	Version func(V) int64
	// TTL is how long an entry lives at most; default 1m. Entries live for a random time between
	// nine tenths of it and the whole, so that those stored together do not expire together.
	TTL time.Duration
	// LoadTimeout bounds one load, which outlives the callers that wait for it; default 5s.
	LoadTimeout time.Duration
	// Encode and Decode turn a value into bytes and back; default JSON.
	Encode func(V) ([]byte, error)
	Decode func([]byte) (V, error)
}

// SetDefaults fills the zero fields.
func (c *CacheConfig[V]) SetDefaults() {
	c.TTL = cmp.Or(c.TTL, time.Minute)
	c.LoadTimeout = cmp.Or(c.LoadTimeout, 5*time.Second)
	if c.Encode == nil {
		c.Encode = func(v V) ([]byte, error) { return json.Marshal(v) }
	}
	if c.Decode == nil {
		c.Decode = func(b []byte) (v V, err error) { return v, json.Unmarshal(b, &v) }
	}
}

// Validate reports every bad value at once.
func (c CacheConfig[V]) Validate() error {
	var errs []error
	if c.Prefix == "" {
		errs = append(errs, errors.New("cache prefix is empty"))
	}
	if c.Version == nil {
		errs = append(errs, errors.New("cache version function is missing"))
	}
	if c.TTL < time.Millisecond {
		errs = append(errs, fmt.Errorf("cache TTL %s is below 1ms", c.TTL))
	}
	if c.LoadTimeout <= 0 {
		errs = append(errs, fmt.Errorf("cache load timeout %s is not positive", c.LoadTimeout))
	}
	return errors.Join(errs...)
}

// Cache answers from Redis what it can, and loads the rest. See the package comment for what
// it promises. Its methods may be called from any goroutine, and none of them fails because
// of Redis.
type Cache[V any] struct {
	cfg      CacheConfig[V]
	entries  *entries
	flights  singleflight.Group
	requests map[string]prometheus.Counter
	writes   map[string]prometheus.Counter
}

// NewCache returns a cache that keeps its entries in client. It starts nothing.
// A nil logger or registerer means no logs or metrics.
func NewCache[V any](client redis.UniversalClient, cfg CacheConfig[V], logger *zap.Logger, reg prometheus.Registerer) (*Cache[V], error) {
	cfg.SetDefaults()
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	requests, err := counters(reg, prometheus.CounterOpts{
		Name: "cache_requests_total",
		Help: "Lookups in a cache, by what became of them.",
	}, "cache", cfg.Prefix, resultHit, resultMiss, resultBypass, resultError)
	if err != nil {
		return nil, err
	}
	writes, err := counters(reg, prometheus.CounterOpts{
		Name: "cache_writes_total",
		Help: "Stores and invalidations of a cache, by what became of them.",
	}, "cache", cfg.Prefix, writeDone, writeOutdated, writeBypass, writeError)
	if err != nil {
		return nil, err
	}
	return &Cache[V]{
		cfg: cfg,
		entries: &entries{
			client: client,
			prefix: cfg.Prefix,
			ttl:    cfg.TTL,
			// The minute covers what a load's bound does not: clocks, pauses, the write itself.
			fenceTTL: cfg.LoadTimeout + time.Minute,
			guard:    newGuard(logger, cfg.Prefix),
		},
		requests: requests,
		writes:   writes,
	}, nil
}

// Get returns the value of key: from Redis, or else what load returns, which is stored for
// the next caller. Callers of one key at the same time share one lookup and one load, and so
// the value: treat it as read-only.
//
// load gets the values of the first caller's ctx but neither its cancellation nor its deadline,
// and LoadTimeout as its bound. Its error goes to every caller that waited, and is not cached:
// the next Get loads again. A panic of load is raised in each of them. Get returns early only
// with the error of ctx.
func (c *Cache[V]) Get(ctx context.Context, key string, load func(context.Context) (V, error)) (V, error) {
	if err := ctx.Err(); err != nil {
		return *new(V), err
	}
	flight := c.flights.DoChan(key, func() (any, error) {
		return c.fly(context.WithoutCancel(ctx), key, load), nil
	})
	select {
	case <-ctx.Done():
		return *new(V), ctx.Err()
	case landed := <-flight:
		answer := landed.Val.(answer[V])
		c.requests[answer.result].Inc()
		if answer.panicked != "" {
			panic(answer.panicked)
		}
		return answer.value, answer.err
	}
}

// Store puts a value that was just committed into the cache and keeps older ones out, as
// Invalidate does. It spares the next reader the load. It does not end with ctx.
func (c *Cache[V]) Store(ctx context.Context, key string, value V) {
	ctx, version := context.WithoutCancel(ctx), c.cfg.Version(value)
	data, err := c.cfg.Encode(value)
	if err != nil {
		c.Invalidate(ctx, key, version)
		return
	}
	c.count(c.entries.replace(ctx, key, version, data))
	c.flights.Forget(key)
}

// Invalidate removes what is older than minVersion and keeps it from coming back. Call it after
// the change was committed, with the version that the change produced; for something that was
// deleted, with math.MaxInt64. It does not end with ctx: it takes as long as the client's
// timeouts at most.
func (c *Cache[V]) Invalidate(ctx context.Context, key string, minVersion int64) {
	c.count(c.entries.fence(context.WithoutCancel(ctx), key, minVersion))
	// Last, so that a lookup that may have seen the old entry is not joined any more.
	c.flights.Forget(key)
}

// answer is what all callers of one flight get.
type answer[V any] struct {
	value    V
	err      error
	result   string
	panicked string
}

func (c *Cache[V]) fly(ctx context.Context, key string, load func(context.Context) (V, error)) (a answer[V]) {
	defer func() {
		if p := recover(); p != nil {
			a.panicked = fmt.Sprintf("load cache entry: %v\n\n%s", p, debug.Stack())
		}
	}()
	a.value, a.result = c.lookup(ctx, key)
	if a.result == resultHit {
		return a
	}
	begin := time.Now()
	bounded, cancel := context.WithTimeout(ctx, c.cfg.LoadTimeout)
	defer cancel()
	if a.value, a.err = load(bounded); a.err != nil {
		return a
	}
	// A value that took longer might meet a fence that is gone already.
	if time.Since(begin) <= c.cfg.LoadTimeout {
		c.fill(ctx, key, a.value)
	}
	return a
}

func (c *Cache[V]) lookup(ctx context.Context, key string) (value V, result string) {
	data, err := c.entries.read(ctx, key)
	if err == nil {
		value, err = c.cfg.Decode(data)
	}
	switch {
	case err == nil:
		return value, resultHit
	case errors.Is(err, redis.Nil):
		return *new(V), resultMiss
	case errors.Is(err, errBypassed):
		return *new(V), resultBypass
	}
	return *new(V), resultError
}

func (c *Cache[V]) fill(ctx context.Context, key string, value V) {
	data, err := c.cfg.Encode(value)
	if err != nil {
		c.count(false, err)
		return
	}
	c.count(c.entries.fill(ctx, key, c.cfg.Version(value), data))
}

// count takes what the methods of entries that write return.
func (c *Cache[V]) count(written bool, err error) {
	switch {
	case errors.Is(err, errBypassed):
		c.writes[writeBypass].Inc()
	case err != nil:
		c.writes[writeError].Inc()
	case written:
		c.writes[writeDone].Inc()
	default:
		c.writes[writeOutdated].Inc()
	}
}
