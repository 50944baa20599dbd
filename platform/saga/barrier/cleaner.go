package barrier

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"go.uber.org/zap"
)

// Config is how marks are removed. The zero value is a good one for production.
type Config struct {
	// Retention is how long marks are kept. No call of a step may come later than that, nor its
	// undo: it must be longer than sagas may wait, also for an operator. 0 means 30 days.
	Retention time.Duration `env:"BARRIER_RETENTION"`
	// Every is the time between two looks. 0 means an hour.
	Every time.Duration `env:"BARRIER_CLEAN_EVERY"`
	// Batch is how many marks a transaction removes. 0 means 1000.
	Batch int `env:"BARRIER_CLEAN_BATCH"`
}

// SetDefaults fills the fields that are zero.
func (c *Config) SetDefaults() {
	c.Retention = cmp.Or(c.Retention, 30*24*time.Hour)
	c.Every = cmp.Or(c.Every, time.Hour)
	c.Batch = cmp.Or(c.Batch, 1000)
}

// Validate names every field that is wrong.
func (c Config) Validate() error {
	var errs []error
	if c.Retention < time.Hour {
		errs = append(errs, fmt.Errorf("BARRIER_RETENTION: %s is shorter than an hour", c.Retention))
	}
	if c.Every < 10*time.Millisecond {
		errs = append(errs, fmt.Errorf("BARRIER_CLEAN_EVERY: %s is shorter than 10ms", c.Every))
	}
	if c.Batch < 1 || c.Batch > 100_000 {
		errs = append(errs, fmt.Errorf("BARRIER_CLEAN_BATCH: %d is not between 1 and 100000", c.Batch))
	}
	return errors.Join(errs...)
}

// Cleaner removes marks that are past their retention. Any number of replicas may run one.
type Cleaner struct {
	db     *pgxpool.Pool
	cfg    Config
	logger *zap.Logger
}

// NewCleaner returns a cleaner. A nil logger is none.
func NewCleaner(db *pgxpool.Pool, cfg Config, logger *zap.Logger) (*Cleaner, error) {
	cfg.SetDefaults()
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("check barrier config: %w", err)
	}
	if logger == nil {
		logger = zap.NewNop()
	}
	return &Cleaner{db: db, cfg: cfg, logger: logger}, nil
}

// Run removes old marks until ctx ends. A failure is logged and tried again the next time.
func (c *Cleaner) Run(ctx context.Context) error {
	ticker := time.NewTicker(c.cfg.Every)
	defer ticker.Stop()
	for {
		if err := c.clean(ctx); err != nil && ctx.Err() == nil {
			c.logger.Warn("old marks of saga steps stay", zap.Error(err))
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return nil
		}
	}
}

const deleteOld = `DELETE FROM slipway.saga_barrier WHERE key IN (SELECT key FROM slipway.saga_barrier
WHERE at < clock_timestamp() - $1::interval LIMIT $2 FOR UPDATE SKIP LOCKED)`

func (c *Cleaner) clean(ctx context.Context) error {
	for ctx.Err() == nil {
		tag, err := c.db.Exec(ctx, deleteOld, c.cfg.Retention, c.cfg.Batch)
		if err != nil {
			return fmt.Errorf("remove old marks: %w", missing(err))
		}
		if tag.RowsAffected() < int64(c.cfg.Batch) {
			return nil
		}
	}
	return nil
}
