package redisdb

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"
)

// versionWidth is how many digits a version has in Redis: zero-padded, so that comparing the
// strings compares the numbers without the rounding of Lua's.
const versionWidth = 19

// write is the only way into the cache.
//
// KEYS: the entry (version and payload in one string), the fence (a version).
// ARGV: version; milliseconds that a fence lives, or 0 to leave none; and to store a value,
// its payload and the milliseconds that the entry lives.
// Returns 1, or 0 if the value was refused because something newer is or was there.
var write = redis.NewScript(`
local entry, fence = KEYS[1], KEYS[2]
local version, fence_ttl, payload, ttl = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local fenced = redis.call('GET', fence) or ''
local held = redis.call('GETRANGE', entry, 0, 18)

if fence_ttl ~= '0' and fenced < version then
  redis.call('SET', fence, version, 'PX', fence_ttl)
end
if not payload then
  if held < version then
    redis.call('DEL', entry)
  end
  return 1
end
if fenced > version or held > version then
  return 0
end
redis.call('SET', entry, version .. payload, 'PX', ttl)
return 1
`)

// entries reads and writes the versioned entries of one cache in Redis.
type entries struct {
	client   redis.UniversalClient
	prefix   string
	ttl      time.Duration
	fenceTTL time.Duration
	guard    *guard
	unsent   backlog
}

// read returns the payload of key's entry, or redis.Nil if there is none or only one that an
// invalidation not sent yet forbids.
func (e *entries) read(ctx context.Context, key string) ([]byte, error) {
	var entry []byte
	floor := e.unsent.floor(key) // before the entry is read: it may be lifted meanwhile
	err := e.do(ctx, func() (err error) {
		entry, err = e.client.Get(ctx, e.keys(key)[0]).Bytes()
		return err
	})
	if err != nil {
		return nil, err
	}
	if len(entry) < versionWidth {
		return nil, errors.New("read cache entry: no version")
	}
	version, err := strconv.ParseInt(string(entry[:versionWidth]), 10, 64)
	if err != nil {
		return nil, fmt.Errorf("read cache entry: %w", err)
	}
	if version < floor {
		return nil, redis.Nil
	}
	return entry[versionWidth:], nil
}

// fill stores what a reader loaded.
func (e *entries) fill(ctx context.Context, key string, version int64, payload []byte) (written bool, err error) {
	return e.write(ctx, key, version, 0, payload, e.lifetime())
}

// replace stores what a writer committed and fences off what is older.
func (e *entries) replace(ctx context.Context, key string, version int64, payload []byte) (written bool, err error) {
	written, err = e.write(ctx, key, version, e.fenceTTL.Milliseconds(), payload, e.lifetime())
	if err != nil {
		e.unsent.add(key, version)
	}
	return written, err
}

// fence removes what is older than version and keeps it out.
func (e *entries) fence(ctx context.Context, key string, version int64) (written bool, err error) {
	written, err = e.write(ctx, key, version, e.fenceTTL.Milliseconds())
	if err != nil {
		e.unsent.add(key, version)
	}
	return written, err
}

func (e *entries) write(ctx context.Context, key string, version int64, args ...any) (written bool, err error) {
	err = e.do(ctx, func() (err error) {
		written, err = write.Run(ctx, e.client, e.keys(key), append([]any{padded(version)}, args...)...).Bool()
		return err
	})
	return written, err
}

// do runs op unless Redis is to be left alone, after the invalidations that Redis missed.
func (e *entries) do(ctx context.Context, op func() error) error {
	return e.guard.do(func() error {
		if err := e.unsent.drain(func(keys map[string]int64) error { return e.resend(ctx, keys) }); err != nil {
			return err
		}
		return op()
	})
}

// resend leaves the fences of many keys in one round trip after the script was made known.
func (e *entries) resend(ctx context.Context, versions map[string]int64) error {
	if err := write.Load(ctx, e.client).Err(); err != nil {
		return fmt.Errorf("load cache script: %w", err)
	}
	_, err := e.client.Pipelined(ctx, func(pipe redis.Pipeliner) error {
		for key, version := range versions {
			write.EvalSha(ctx, pipe, e.keys(key), padded(version), e.fenceTTL.Milliseconds())
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("send cache invalidations: %w", err)
	}
	return nil
}

// keys are in one slot of a cluster.
func (e *entries) keys(key string) []string {
	entry := e.prefix + ":{" + key + "}"
	return []string{entry, entry + ":fence"}
}

// lifetime is between nine tenths of the TTL and the whole, in milliseconds.
func (e *entries) lifetime() int64 {
	return max(1, (e.ttl - rand.N(e.ttl/10+1)).Milliseconds())
}

func padded(version int64) string { return fmt.Sprintf("%0*d", versionWidth, max(0, version)) }
