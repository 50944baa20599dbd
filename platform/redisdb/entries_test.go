package redisdb

import (
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/slipwayhq/slipway/platform/redisdb/redistest"
)

func TestEntries_read(t *testing.T) {
	t.Parallel()
	e := &entries{client: redistest.New(t), prefix: "order", ttl: time.Minute, fenceTTL: time.Minute, guard: newGuard(nil, "order")}
	written, err := e.fill(t.Context(), "7", 1, []byte("old"))
	require.NoError(t, err)
	require.True(t, written)

	e.unsent.draining.Lock() // somebody else is sending
	e.unsent.add("7", 2)
	_, err = e.read(t.Context(), "7")
	require.ErrorIs(t, err, redis.Nil, "an invalidation under way hides what is older")

	e.unsent.draining.Unlock()
	_, err = e.read(t.Context(), "7")
	require.ErrorIs(t, err, redis.Nil)
	require.Zero(t, e.unsent.floor("7"), "it was sent")
	written, err = e.fill(t.Context(), "7", 1, []byte("old"))
	require.NoError(t, err)
	require.False(t, written)
}
