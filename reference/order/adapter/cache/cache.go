// Package cache keeps orders in Redis for a while, so that reading one seldom reaches the database.
package cache

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"
	"go.uber.org/zap"

	"github.com/slipwayhq/slipway/platform/redisdb"
	"github.com/slipwayhq/slipway/reference/order/domain"
)

// prefix carries a version: raise it when the form of domain.Snapshot changes.
const (
	prefix = "order:v1"
	ttl    = 5 * time.Minute
)

// Orders implements the ports Cache and Listener of the use cases. It never fails: while Redis is
// away, orders come from the database.
type Orders struct {
	cache *redisdb.Cache[domain.Snapshot]
}

// New returns a cache of orders in client.
func New(client *redis.Client, logger *zap.Logger, reg prometheus.Registerer) (*Orders, error) {
	c, err := redisdb.NewCache(client, redisdb.CacheConfig[domain.Snapshot]{
		Prefix:  prefix,
		TTL:     ttl,
		Version: func(s domain.Snapshot) int64 { return s.Version },
	}, logger, reg)
	if err != nil {
		return nil, err
	}
	return &Orders{cache: c}, nil
}

// Get returns the owner's order from the cache, or what load returns. The owner is part of the key:
// an order can only be found by whom it belongs to.
func (o *Orders) Get(
	ctx context.Context, owner, id string, load func(context.Context) (domain.Snapshot, error),
) (domain.Snapshot, error) {
	return o.cache.Get(ctx, key(owner, id), load)
}

// OrderChanged drops what the cache knew of the order; an older state does not come back.
func (o *Orders) OrderChanged(ctx context.Context, s domain.Snapshot) {
	o.cache.Invalidate(ctx, key(s.Owner, s.ID), s.Version)
}

// key puts the id first: it has a fixed form, so that no owner can be chosen to look like another
// key.
func key(owner, id string) string { return id + "/" + owner }
