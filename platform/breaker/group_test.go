package breaker_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/slipwayhq/slipway/platform/breaker"
)

func TestGroup_Of(t *testing.T) {
	t.Parallel()
	g, err := breaker.NewGroup(lasting, map[string]breaker.Config{
		"/shop.Orders/Search": {Failures: 1, OpenTimeout: 2 * time.Hour},
		"Watch":               {Name: "watch"},
	}, nil)
	require.NoError(t, err)
	search, watch, rest := g.Of("/shop.Orders/Search"), g.Of("Watch"), g.Of("/shop.Orders/Get")
	require.Same(t, rest, g.Of("/shop.Orders/Place"))
	require.True(t, g.Has("Watch"))
	require.False(t, g.Has("/shop.Orders/Get"))

	t.Run("a method's own breaker hears of no other's calls", func(t *testing.T) {
		fail(t, search, 1)
		require.Equal(t, breaker.Open, search.State())
		require.Equal(t, breaker.Closed, rest.State())
		require.Equal(t, breaker.Closed, watch.State())
	})
	t.Run("what is zero is as in that of the group", func(t *testing.T) {
		err := call(search, nil)
		require.ErrorContains(t, err, "orders/shop.Orders/Search: circuit breaker is open, retry after ")
		rejected := (*breaker.RejectedError)(nil)
		require.ErrorAs(t, err, &rejected)
		require.Greater(t, rejected.RetryAfter, time.Hour)
		for range 10 {
			_ = call(watch, errWrong)
		}
		fail(t, watch, 2)
		require.Equal(t, breaker.Closed, watch.State())
		fail(t, watch, 1)
		require.ErrorContains(t, call(watch, nil), "watch: circuit breaker is open")
	})
}

func TestNewGroup_errors(t *testing.T) {
	t.Parallel()
	_, err := breaker.NewGroup(breaker.Config{Ratio: 2}, map[string]breaker.Config{"Get": {MinCalls: -1}, "Search": {Window: -1}}, nil)
	for _, text := range []string{"name is required", "RATIO: 2", "config of Get: ", "MIN_CALLS: -1", "config of Search: ", "WINDOW: -1ns"} {
		require.ErrorContains(t, err, text)
	}
}
