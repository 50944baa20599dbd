package grpcclient

import (
	"testing"

	"github.com/stretchr/testify/require"

	orderv1 "github.com/slipwayhq/slipway/gen/slipway/order/v1"
)

const healthService = "grpc.health.v1.Health"

func TestNewServiceConfig(t *testing.T) {
	t.Parallel()
	orders := orderv1.OrderService_ServiceDesc.ServiceName
	const plain = `{"loadBalancingConfig":[{"round_robin":{}}],"healthCheckConfig":{"serviceName":"readiness"}}`

	t.Run("only methods that say so are retried, each named once", func(t *testing.T) {
		t.Parallel()
		services, err := findServices([]string{orders, healthService, orders})
		require.NoError(t, err)
		text, err := newServiceConfig(services, 3)
		require.NoError(t, err)
		require.JSONEq(t, `{
			"loadBalancingConfig": [{"round_robin": {}}],
			"healthCheckConfig": {"serviceName": "readiness"},
			"methodConfig": [{
				"name": [
					{"service": "slipway.order.v1.OrderService", "method": "PlaceOrder"},
					{"service": "slipway.order.v1.OrderService", "method": "GetOrder"},
					{"service": "slipway.order.v1.OrderService", "method": "ListOrders"},
					{"service": "slipway.order.v1.OrderService", "method": "CancelOrder"},
					{"service": "slipway.order.v1.OrderService", "method": "WatchOrder"}
				],
				"retryPolicy": {
					"maxAttempts": 3, "initialBackoff": "0.05s", "maxBackoff": "1s", "backoffMultiplier": 2,
					"retryableStatusCodes": ["UNAVAILABLE"]
				}
			}],
			"retryThrottling": {"maxTokens": 10, "tokenRatio": 0.1}
		}`, text)
	})
	for _, c := range []struct {
		name     string
		services []string
		attempts int
	}{
		{"one attempt is no retry", []string{orders}, 1},
		{"no services, no retries", nil, 3},
		{"a service without the option is never retried", []string{healthService}, 3},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			services, err := findServices(c.services)
			require.NoError(t, err)
			text, err := newServiceConfig(services, c.attempts)
			require.NoError(t, err)
			require.JSONEq(t, plain, text)
		})
	}
}
