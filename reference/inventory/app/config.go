package app

import (
	"errors"
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
	"github.com/slipwayhq/slipway/reference/inventory/adapter/messaging"
)

// Config is the configuration of the inventory service.
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
	// MigrateOnStart applies the migrations before the service serves. Load sets it in development
	// only: elsewhere that is a step of the deployment, which runs once and before the rollout.
	MigrateOnStart bool
}

// Load reads the configuration from environ. What depends on the environment is prefilled, so that
// a variable that is set always wins.
func Load(environ []string) (Config, error) {
	cfg := Config{Telemetry: telemetry.Config{ServiceName: "inventory"}}
	cfg.Server.Addr = ":50053"
	cfg.Admin.Addr = "127.0.0.1:9466"
	cfg.Server.DrainDelay = 5 * time.Second // Load balancers need it to notice that a replica leaves.
	cfg.Database.AppName = "inventory"
	cfg.Broker.Name = "inventory"
	cfg.Inbox = inbox.Config{Name: "inventory", Subjects: []string{messaging.Subject}}
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

// Validate reports what the components cannot see on their own.
func (c Config) Validate() error {
	if c.Auth.Mode == bearer.None && c.Telemetry.Environment != telemetry.Development {
		return errors.New("AUTH_MODE: none is for development only: use token with AUTH_TOKENS_FILE")
	}
	return nil
}
