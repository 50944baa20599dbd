package store

import (
	"context"
	"fmt"
	"time"

	"go.uber.org/zap"

	"github.com/slipwayhq/slipway/reference/order/adapter/store/sqlc"
)

const (
	// KeyRetention is how long an idempotency key is remembered. A request that is repeated later
	// places a second order.
	KeyRetention = 7 * 24 * time.Hour

	retentionInterval = time.Hour
	retentionBatch    = 1000
)

// KeyCleaner removes idempotency keys that are past their retention. Every replica may run one.
type KeyCleaner struct {
	orders *Orders
	logger *zap.Logger
}

// NewKeyCleaner returns a cleaner for the keys that orders writes.
func NewKeyCleaner(orders *Orders, logger *zap.Logger) *KeyCleaner {
	return &KeyCleaner{orders: orders, logger: logger}
}

// Run cleans at once and then every hour, until ctx ends. A failure is logged and tried again.
func (c *KeyCleaner) Run(ctx context.Context) error {
	ticker := time.NewTicker(retentionInterval)
	defer ticker.Stop()
	for {
		if err := c.clean(ctx, time.Now().Add(-KeyRetention)); err != nil && ctx.Err() == nil {
			c.logger.Warn("clean idempotency keys", zap.Error(err))
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// clean deletes in small batches, each its own transaction, so that no lock is held for long.
func (c *KeyCleaner) clean(ctx context.Context, before time.Time) error {
	for {
		deleted, err := c.orders.queries.DeleteKeysBefore(ctx, sqlc.DeleteKeysBeforeParams{
			Before: before, MaxRows: retentionBatch,
		})
		if err != nil {
			return fmt.Errorf("delete idempotency keys: %w", err)
		}
		if deleted < retentionBatch {
			return nil
		}
	}
}
