package postgres

import (
	"context"
	"fmt"

	"github.com/exaring/otelpgx"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/multitracer"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/metric/noop"
	"go.opentelemetry.io/otel/trace"
	"go.uber.org/zap"
)

// Open returns a pool. It does not wait for the database: an error means that
// the configuration is wrong or that reg has a pool of this AppName already.
// logger, reg and tp may be nil. Spans carry the SQL text but never its
// arguments. Close the pool when done with it.
func Open(ctx context.Context, cfg Config, logger *zap.Logger, reg prometheus.Registerer, tp trace.TracerProvider) (*pgxpool.Pool, error) {
	cfg.SetDefaults()
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("check database configuration: %w", err)
	}
	poolCfg, err := pgxpool.ParseConfig(cfg.URL)
	if err != nil {
		return nil, fmt.Errorf("read database URL: %w", err)
	}
	if logger == nil {
		logger = zap.NewNop()
	}
	suspects := &suspectTracer{logger: logger}
	cfg.apply(poolCfg.ConnConfig)
	poolCfg.ConnConfig.Tracer = tracerFor(suspects, tp)
	poolCfg.MaxConns = int32(cfg.MaxConns)
	poolCfg.MinConns = int32(cfg.MinConns)
	poolCfg.MaxConnLifetime = cfg.MaxConnLifetime - cfg.MaxConnLifetime/5
	poolCfg.MaxConnLifetimeJitter = 2 * cfg.MaxConnLifetime / 5
	poolCfg.PingTimeout = cfg.ConnectTimeout
	// AfterRelease would do as well, but costs a goroutine for every release.
	poolCfg.PrepareConn = suspects.admit
	pool, err := pgxpool.NewWithConfig(ctx, poolCfg)
	if err != nil {
		return nil, fmt.Errorf("open database pool: %w", err)
	}
	if reg == nil {
		return pool, nil
	}
	if err := reg.Register(newCollector(cfg.AppName, pool, suspects)); err != nil {
		pool.Close()
		return nil, fmt.Errorf("register database pool metrics: %w", err)
	}
	return pool, nil
}

func tracerFor(suspects *suspectTracer, tp trace.TracerProvider) pgx.QueryTracer {
	if tp == nil {
		return suspects
	}
	spans := otelpgx.NewTracer(otelpgx.WithTracerProvider(tp), otelpgx.WithMeterProvider(noop.NewMeterProvider()))
	return multitracer.New(spans, suspects)
}
