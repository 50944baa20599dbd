package redisdb

import (
	"cmp"
	"errors"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"
)

// Config tunes the client that [Open] returns. Zero fields mean the documented defaults.
type Config struct {
	// URL is redis://, rediss:// (TLS) or unix://, with user, password and database number,
	// for example "rediss://app:secret@cache:6379/0". Timeouts given as its query parameters
	// win over the fields below. Empty means that Redis is not used; Open refuses it.
	URL string `env:"REDIS_URL"`
	// PoolSize is the most connections to be open at once; default 20. A call that finds all
	// of them busy waits for at most DialTimeout.
	PoolSize int `env:"REDIS_POOL_SIZE"`
	// DialTimeout bounds connecting, TLS included; default 250ms.
	DialTimeout time.Duration `env:"REDIS_DIAL_TIMEOUT"`
	// ReadTimeout bounds the wait for an answer; default 100ms.
	ReadTimeout time.Duration `env:"REDIS_READ_TIMEOUT"`
	// WriteTimeout bounds sending a command; default 100ms.
	WriteTimeout time.Duration `env:"REDIS_WRITE_TIMEOUT"`
}

// SetDefaults fills the zero fields.
func (c *Config) SetDefaults() {
	c.PoolSize = cmp.Or(c.PoolSize, 20)
	c.DialTimeout = cmp.Or(c.DialTimeout, 250*time.Millisecond)
	c.ReadTimeout = cmp.Or(c.ReadTimeout, 100*time.Millisecond)
	c.WriteTimeout = cmp.Or(c.WriteTimeout, 100*time.Millisecond)
}

// Validate reports every bad value at once. It never repeats the URL, which holds a password.
func (c Config) Validate() error {
	var errs []error
	if _, err := redis.ParseURL(c.URL); c.URL != "" && err != nil {
		errs = append(errs, errors.New("redis URL is not a valid redis://, rediss:// or unix:// URL"))
	}
	if c.PoolSize < 1 {
		errs = append(errs, fmt.Errorf("redis pool size %d is below 1", c.PoolSize))
	}
	for _, timeout := range []struct {
		name  string
		value time.Duration
	}{{"dial", c.DialTimeout}, {"read", c.ReadTimeout}, {"write", c.WriteTimeout}} {
		if timeout.value <= 0 {
			errs = append(errs, fmt.Errorf("redis %s timeout %s is not positive", timeout.name, timeout.value))
		}
	}
	return errors.Join(errs...)
}

// options turns the configuration into the driver's. Retries are off everywhere: they would
// multiply the timeouts, and whoever calls can do without Redis.
func (c Config) options() (*redis.Options, error) {
	if c.URL == "" {
		return nil, errors.New("redis URL is empty")
	}
	opts, err := redis.ParseURL(c.URL)
	if err != nil {
		return nil, errors.New("parse redis URL")
	}
	opts.DialTimeout = cmp.Or(opts.DialTimeout, c.DialTimeout)
	opts.ReadTimeout = cmp.Or(opts.ReadTimeout, c.ReadTimeout)
	opts.WriteTimeout = cmp.Or(opts.WriteTimeout, c.WriteTimeout)
	opts.PoolTimeout = cmp.Or(opts.PoolTimeout, opts.DialTimeout)
	opts.PoolSize = cmp.Or(opts.PoolSize, c.PoolSize)
	quick(opts)
	return opts, nil
}
