package redisdb

import (
	"context"
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/extra/redisotel/v9"
	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
	"go.opentelemetry.io/otel/trace"
)

// Open returns a client without connecting: Redis may be down when a service starts. It fails
// only on a bad configuration.
//
// The client's pool is exported to reg as redis_pool_*; one registerer takes one client, so
// wrap it with a label for a second one. Spans name the command and never its arguments. A nil
// registerer or tracer provider means none of either. Close the client when done.
func Open(cfg Config, reg prometheus.Registerer, tp trace.TracerProvider) (*redis.Client, error) {
	cfg.SetDefaults()
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	opts, err := cfg.options()
	if err != nil {
		return nil, err
	}
	client := redis.NewClient(opts)
	if err := instrument(client, reg, tp); err != nil {
		client.Close()
		return nil, err
	}
	return client, nil
}

// HealthCheck returns a check that writes one small key over a connection of its own: a busy
// pool is not a dead server, and a replica or a full memory answers PING but takes no write.
func HealthCheck(client *redis.Client) func(ctx context.Context) error {
	opts := *client.Options()
	// Two, of which one is used: the driver answers as many failed dials as the pool is large
	// with a goroutine that outlives Close by a second.
	opts.PoolSize, opts.MinIdleConns = 2, 0
	quick(&opts)
	return func(ctx context.Context) error {
		own := opts
		probe := redis.NewClient(&own)
		defer probe.Close()
		if err := probe.Set(ctx, "slipway:health", 1, time.Minute).Err(); err != nil {
			return fmt.Errorf("write redis key: %w", err)
		}
		return nil
	}
}

// quick switches off whatever makes the driver take longer than its timeouts say, and the
// handshake commands that older servers answer with errors.
func quick(opts *redis.Options) {
	opts.MaxRetries = -1
	opts.DialerRetries = 1
	opts.PipelinePoolSize = -1
	opts.ContextTimeoutEnabled = true
	opts.DisableIdentity = true
	opts.MaintNotificationsConfig = &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
}

func instrument(client *redis.Client, reg prometheus.Registerer, tp trace.TracerProvider) error {
	if tp != nil {
		err := redisotel.InstrumentTracing(client,
			redisotel.WithTracerProvider(tp),
			redisotel.WithDBStatement(false),
			redisotel.WithCallerEnabled(false),
		)
		if err != nil {
			return fmt.Errorf("trace redis commands: %w", err)
		}
	}
	if reg == nil {
		return nil
	}
	if err := reg.Register(poolCollector{client}); err != nil {
		return fmt.Errorf("register redis pool metrics: %w", err)
	}
	return nil
}
