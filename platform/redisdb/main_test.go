package redisdb_test

import (
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/slipwayhq/slipway/platform/redisdb"
	"github.com/slipwayhq/slipway/platform/redisdb/redistest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const patience = 30 * time.Second

// onEachServer runs a test on what redistest finds and on miniredis, which is what a machine
// without Redis gets.
func onEachServer(t *testing.T, test func(t *testing.T, s *redistest.Server)) {
	t.Helper()
	t.Run("on redis", func(t *testing.T) {
		t.Parallel()
		test(t, redistest.Start(t))
	})
	t.Run("on miniredis", func(t *testing.T) {
		t.Parallel()
		test(t, redistest.StartMini(t))
	})
}

// open returns a client that is patient enough for a busy machine.
func open(t *testing.T, s *redistest.Server) *redis.Client {
	t.Helper()
	return openWith(t, redisdb.Config{
		URL:         s.URL(),
		DialTimeout: patience, ReadTimeout: patience, WriteTimeout: patience,
	})
}

func openWith(t *testing.T, cfg redisdb.Config) *redis.Client {
	t.Helper()
	client, err := redisdb.Open(cfg, nil, nil)
	require.NoError(t, err)
	t.Cleanup(func() { client.Close() })
	return client
}
