package app

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/slipwayhq/slipway/platform/bearer"
	"github.com/slipwayhq/slipway/platform/broker/nats"
	"github.com/slipwayhq/slipway/platform/config"
	"github.com/slipwayhq/slipway/platform/grpcclient"
	"github.com/slipwayhq/slipway/platform/grpcserver"
	"github.com/slipwayhq/slipway/platform/health"
	"github.com/slipwayhq/slipway/platform/outbox"
	"github.com/slipwayhq/slipway/platform/postgres"
	"github.com/slipwayhq/slipway/platform/redisdb"
	"github.com/slipwayhq/slipway/platform/saga/sagapg"
	"github.com/slipwayhq/slipway/platform/telemetry"
)

// Config is the configuration of the order service.
type Config struct {
	Telemetry telemetry.Config
	Admin     telemetry.AdminConfig
	Server    grpcserver.Config
	Health    health.Config
	Database  postgres.Config
	Cache     redisdb.Config
	Broker    nats.Config
	Events    nats.PublisherConfig
	Outbox    outbox.Config
	Sagas     sagapg.Config
	Inventory grpcclient.Config `envPrefix:"INVENTORY_"`
	Payment   grpcclient.Config `envPrefix:"PAYMENT_"`
	Auth      bearer.Config
	// CheckoutTimeout is how long a checkout may take before it is undone. Default 2m.
	CheckoutTimeout time.Duration `env:"CHECKOUT_TIMEOUT"`
	// RateLimit is how many calls a second each caller may make; 0 for any number.
	RateLimit int `env:"RATE_LIMIT"`
	// MigrateOnStart applies the migrations before the service serves. Load sets it in development
	// only: elsewhere that is a step of the deployment, which runs once and before the rollout.
	MigrateOnStart bool
}

// Load reads the configuration from environ. What depends on the environment is prefilled, so that
// a variable that is set always wins.
func Load(environ []string) (Config, error) {
	cfg := Config{Telemetry: telemetry.Config{ServiceName: "order"}}
	cfg.Server.DrainDelay = 5 * time.Second // Load balancers need it to notice that a replica leaves.
	cfg.Database.AppName = "order"
	cfg.Broker.Name = "order"
	cfg.Inventory.Breaker.Name, cfg.Payment.Breaker.Name = "inventory", "payment"
	cfg.CheckoutTimeout = 2 * time.Minute
	cfg.Events.Stream = nats.Stream{Name: "order", Subjects: []string{"order.>"}}
	switch {
	case slices.Contains(environ, "ENVIRONMENT=production"):
	case slices.Contains(environ, "ENVIRONMENT=staging"):
		cfg.Server.Reflection = true
	default:
		cfg.Server.Reflection = true
		cfg.Server.DrainDelay = 0
		cfg.MigrateOnStart = true
		cfg.Inventory.Insecure, cfg.Payment.Insecure = true, true
	}
	err := config.Load(environ, &cfg)
	return cfg, err
}

// Validate reports what the components cannot see on their own.
func (c Config) Validate() error {
	var errs []error
	if c.Auth.Mode == bearer.None && c.Telemetry.Environment != telemetry.Development {
		errs = append(errs, errors.New("AUTH_MODE: none is for development only: use token with AUTH_TOKENS_FILE"))
	}
	if c.Telemetry.Environment != telemetry.Development {
		for name, client := range map[string]grpcclient.Config{"INVENTORY": c.Inventory, "PAYMENT": c.Payment} {
			if client.TokenFile == "" {
				errs = append(errs, fmt.Errorf("%s_TOKEN_FILE: is required outside development, where the service answers nobody without a token", name))
			}
		}
	}
	if c.Cache.URL == "" {
		errs = append(errs, errors.New("REDIS_URL: is required and not set"))
	}
	if c.CheckoutTimeout <= 0 {
		errs = append(errs, errors.New("CHECKOUT_TIMEOUT: must be positive"))
	}
	if c.RateLimit < 0 {
		errs = append(errs, errors.New("RATE_LIMIT: must not be negative"))
	}
	return errors.Join(errs...)
}
