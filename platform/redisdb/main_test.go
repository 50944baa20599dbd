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

// servers are what a test runs on: what redistest finds, and miniredis, which is what a machine
// without Redis gets.
var servers = map[string]func(testing.TB) *redistest.Server{
	"on redis":     redistest.Start,
	"on miniredis": redistest.StartMini,
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
