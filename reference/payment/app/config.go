package app

import (
	"cmp"
	"errors"
	"fmt"
	"hash/fnv"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/slipwayhq/slipway/platform/bearer"
	"github.com/slipwayhq/slipway/platform/broker/nats"
	"github.com/slipwayhq/slipway/platform/config"
	"github.com/slipwayhq/slipway/platform/grpcserver"
	"github.com/slipwayhq/slipway/platform/health"
	"github.com/slipwayhq/slipway/platform/inbox"
	"github.com/slipwayhq/slipway/platform/postgres"
	"github.com/slipwayhq/slipway/platform/saga/barrier"
	"github.com/slipwayhq/slipway/platform/telemetry"
	"github.com/slipwayhq/slipway/reference/payment/adapter/messaging"
	"github.com/slipwayhq/slipway/reference/payment/adapter/provider"
	"github.com/slipwayhq/slipway/reference/payment/usecase"
)

// Config is the configuration of the payment service.
type Config struct {
	Telemetry telemetry.Config
	Admin     telemetry.AdminConfig
	Server    grpcserver.Config
	Health    health.Config
	Database  postgres.Config
	Broker    nats.Config
	Inbox     inbox.Config
	Barrier   barrier.Config
	Auth      bearer.Config
	Provider  provider.Config
	// ProviderLedger is the file of the simulated provider that runs in the process when PROVIDER_URL
	// is not set, in development only. Default is a file for the database in the user's cache folder.
	// The file belongs to one process: replicas share a provider by its URL.
	ProviderLedger string `env:"PROVIDER_LEDGER"`
	Settle         usecase.SettleConfig
	// SettleAfter is for how long a payment that waits for the provider is left to its caller.
	// Default one minute.
	SettleAfter time.Duration `env:"SETTLE_AFTER"`
	// MigrateOnStart applies the migrations before the service serves. Load sets it in development
	// only: elsewhere that is a step of the deployment, which runs once and before the rollout.
	MigrateOnStart bool
}

// Load reads the configuration from environ. What depends on the environment is prefilled, so that
// a variable that is set always wins.
func Load(environ []string) (Config, error) {
	cfg := Config{Telemetry: telemetry.Config{ServiceName: "payment"}}
	cfg.Server.Addr = ":50052"
	cfg.Admin.Addr = "127.0.0.1:9465"
	cfg.Server.DrainDelay = 5 * time.Second // Load balancers need it to notice that a replica leaves.
	cfg.Database.AppName = "payment"
	cfg.Broker.Name = "payment"
	cfg.Inbox = inbox.Config{Name: "payment", Subjects: []string{messaging.Subject}}
	switch {
	case slices.Contains(environ, "ENVIRONMENT=production"):
	case slices.Contains(environ, "ENVIRONMENT=staging"):
		cfg.Server.Reflection = true
	default:
		cfg.Server.Reflection = true
		cfg.Server.DrainDelay = 0
		cfg.MigrateOnStart = true
	}
	err := config.Load(environ, &cfg)
	return cfg, err
}

// SetDefaults fills the zero fields.
func (c *Config) SetDefaults() {
	c.SettleAfter = cmp.Or(c.SettleAfter, time.Minute)
	if c.Provider.URL == "" {
		c.ProviderLedger = cmp.Or(c.ProviderLedger, defaultLedger(c.Database.URL))
	}
}

// Validate reports what the components cannot see on their own.
func (c Config) Validate() error {
	var errs []error
	if c.Auth.Mode == bearer.None && c.Telemetry.Environment != telemetry.Development {
		errs = append(errs, errors.New("AUTH_MODE: none is for development only: use token with AUTH_TOKENS_FILE"))
	}
	if c.Provider.URL == "" && c.Telemetry.Environment != telemetry.Development {
		errs = append(errs, errors.New("PROVIDER_URL: is required outside development"))
	}
	if c.Provider.URL != "" && c.ProviderLedger != "" {
		errs = append(errs, errors.New("PROVIDER_LEDGER: is for the simulated provider, which PROVIDER_URL replaces"))
	}
	if c.SettleAfter <= 0 {
		errs = append(errs, fmt.Errorf("SETTLE_AFTER: %s is not positive", c.SettleAfter))
	}
	if c.Settle.Pause <= c.Provider.Timeout {
		errs = append(errs, fmt.Errorf("SETTLE_PAUSE: %s must be longer than PROVIDER_TIMEOUT, %s", c.Settle.Pause, c.Provider.Timeout))
	}
	return errors.Join(errs...)
}

// defaultLedger is one file for each database, so that two systems on a machine do not meet.
func defaultLedger(database string) string {
	dir, err := os.UserCacheDir()
	if err != nil {
		dir = os.TempDir()
	}
	h := fnv.New64a()
	_, _ = h.Write([]byte(database))
	return filepath.Join(dir, "slipway", fmt.Sprintf("provider-%016x.jsonl", h.Sum64()))
}
