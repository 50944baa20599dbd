package devenv

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/slipwayhq/slipway/cmd/slipway/internal/machine"
)

func TestEnv_environment(t *testing.T) {
	t.Parallel()
	e := setup(t)
	e.cfg.PortOffset = 100
	e.cfg.Environ = []string{"PATH=/bin", "LOG_LEVEL=debug", "ENVIRONMENT=production", "DATABASE_URL=postgres://admin@db/x", "REDIS_URL=redis://r"}
	at := addresses{database: "postgres://order@db/order", redis: "redis://r", broker: "nats://n"}

	t.Run("gives a service what it needs, over the caller's environment", func(t *testing.T) {
		t.Parallel()
		require.Equal(t, []string{
			"PATH=/bin", "LOG_LEVEL=debug",
			"ADMIN_ADDR=127.0.0.1:20161", "AUTH_MODE=none", "BROKER_URL=nats://n", "DATABASE_URL=postgres://order@db/order",
			"ENVIRONMENT=development", "GRPC_ADDR=127.0.0.1:20151", "MAIL_ADDR=127.0.0.1:20152", "OTEL_SERVICE_NAME=order", "REDIS_URL=redis://r",
		}, e.environment(e.cfg.Project.Services[0], at))
	})

	t.Run("keeps from a service what it does not need", func(t *testing.T) {
		t.Parallel()
		require.Equal(t, []string{
			"PATH=/bin", "LOG_LEVEL=debug",
			"ADMIN_ADDR=127.0.0.1:20162", "AUTH_MODE=none", "ENVIRONMENT=development", "GRPC_ADDR=127.0.0.1:20152", "OTEL_SERVICE_NAME=mail",
		}, e.environment(e.cfg.Project.Services[1], at))
	})

	t.Run("leaves the way of authentication to the caller", func(t *testing.T) {
		t.Parallel()
		other := *e
		other.cfg.Environ = []string{"AUTH_MODE=token"}
		env := other.environment(e.cfg.Project.Services[1], at)
		require.Contains(t, env, "AUTH_MODE=token")
		require.NotContains(t, env, "AUTH_MODE=none")
	})
}

func TestPorts(t *testing.T) {
	t.Parallel()
	p := setup(t).cfg.Project
	require.Equal(t, []machine.Port{
		{Number: 20052, For: "order gRPC"},
		{Number: 20062, For: "order admin"},
		{Number: 20053, For: "mail gRPC"},
		{Number: 20063, For: "mail admin"},
		{Number: PostgresPort + 1, For: "PostgreSQL"},
		{Number: NATSPort + 1, For: "NATS"},
	}, Ports(p, []string{"REDIS_URL=redis://elsewhere", "BROKER_URL="}, 1), "no port for what runs elsewhere")
}

func TestDrainBudget(t *testing.T) {
	t.Parallel()
	require.Equal(t, 25*time.Second, drainBudget(nil))
	require.Equal(t, 43*time.Second, drainBudget([]string{"DRAIN_TIMEOUT=30s", "DRAIN_DELAY=3s"}))
	require.Equal(t, 25*time.Second, drainBudget([]string{"DRAIN_TIMEOUT=soon", "DRAIN_DELAY=-1s"}))
}
