package cache_test

import (
	"context"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"

	"github.com/slipwayhq/slipway/platform/redisdb/redistest"
	"github.com/slipwayhq/slipway/reference/order/adapter/cache"
	"github.com/slipwayhq/slipway/reference/order/domain"
)

func TestOrders(t *testing.T) {
	t.Parallel()
	orders, err := cache.New(redistest.New(t), zap.NewNop(), prometheus.NewRegistry())
	require.NoError(t, err)

	stored := domain.Snapshot{ID: "o-1", Owner: "shop", Status: domain.Pending, Version: 1}
	loads := 0
	get := func(owner string) (domain.Snapshot, error) {
		return orders.Get(t.Context(), owner, "o-1", func(context.Context) (domain.Snapshot, error) {
			loads++
			if owner != stored.Owner {
				return domain.Snapshot{}, domain.ErrNotFound
			}
			return stored, nil
		})
	}
	for range 3 {
		got, err := get("shop")
		require.NoError(t, err)
		require.Equal(t, stored, got)
	}
	require.Equal(t, 1, loads, "the second and third read come from the cache")

	_, err = get("thief")
	require.ErrorIs(t, err, domain.ErrNotFound, "what the owner has cached is not found by another")

	stored.Status, stored.Version = domain.Cancelled, 2
	orders.OrderChanged(t.Context(), stored)
	got, err := get("shop")
	require.NoError(t, err)
	require.Equal(t, stored, got)
}
