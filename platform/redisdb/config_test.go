package redisdb_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/slipwayhq/slipway/platform/redisdb"
)

func TestConfig_SetDefaults(t *testing.T) {
	t.Parallel()
	cfg := redisdb.Config{PoolSize: 3}
	cfg.SetDefaults()
	require.Equal(t, redisdb.Config{
		PoolSize:    3,
		DialTimeout: 250 * time.Millisecond, ReadTimeout: 100 * time.Millisecond, WriteTimeout: 100 * time.Millisecond,
	}, cfg)
	require.NoError(t, cfg.Validate(), "a service without Redis has no URL")
}

func TestConfig_Validate(t *testing.T) {
	t.Parallel()

	t.Run("every bad value is named at once", func(t *testing.T) {
		t.Parallel()
		err := redisdb.Config{URL: "http://cache", PoolSize: -1, DialTimeout: -1, ReadTimeout: 1, WriteTimeout: -1}.Validate()
		for _, part := range []string{"URL", "pool size -1", "dial timeout -1ns", "write timeout -1ns"} {
			require.ErrorContains(t, err, part)
		}
		require.NotContains(t, err.Error(), "read timeout")
	})

	t.Run("the password is never repeated", func(t *testing.T) {
		t.Parallel()
		for _, url := range []string{"redis://:hunter2@host:port", "redis://u:hun/ter2@host", "hunter2", "redis://host/hunter2", "redis://:%hunter2@host"} {
			cfg := redisdb.Config{URL: url}
			cfg.SetDefaults()
			require.Error(t, cfg.Validate(), url)
			require.NotContains(t, cfg.Validate().Error(), "ter2")
			_, err := redisdb.Open(cfg, nil, nil)
			require.Error(t, err)
			require.NotContains(t, err.Error(), "ter2")
		}
	})
}
