package main

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/types/known/timestamppb"

	orderv1 "github.com/slipwayhq/slipway/gen/slipway/order/v1"
)

func TestListing_take(t *testing.T) {
	t.Parallel()
	start := time.Date(2030, 1, 1, 12, 0, 0, 0, time.UTC)
	foreign := func(age time.Duration) []*orderv1.Order {
		return []*orderv1.Order{{Id: "foreign", CustomerId: "bob", CreateTime: timestamppb.New(start.Add(-age))}}
	}
	// setup returns a listing that waits for one order, and the order.
	setup := func() (*listing, *orderv1.Order) {
		request := wishlist{run: "r", seed: 1}.wish(0).request
		order := &orderv1.Order{
			Id: "ours", CustomerId: request.GetCustomerId(), Items: request.GetItems(),
			Total: total(request.GetItems()), Version: 1, CreateTime: timestamppb.New(start),
		}
		p := &purchase{wish: wish{request: request}, outcome: acknowledged, order: order}
		return newListing([]*purchase{p}, "shopper-r-"), order
	}

	t.Run("newer orders of others do not end the search", func(t *testing.T) {
		t.Parallel()
		l, ours := setup()
		require.True(t, l.take(foreign(-time.Hour)))
		require.True(t, l.take([]*orderv1.Order{ours}))
		require.Empty(t, l.placed["ours"].wrong)
	})

	t.Run("it ends with a page of others once everything was found", func(t *testing.T) {
		t.Parallel()
		l, ours := setup()
		require.True(t, l.take([]*orderv1.Order{ours}), "an order that nobody placed may follow")
		require.False(t, l.take(foreign(-time.Hour)))
	})

	t.Run("it does not go through the whole past for an order that is lost", func(t *testing.T) {
		t.Parallel()
		l, _ := setup()
		require.True(t, l.take(foreign(30*time.Second)), "clocks differ")
		require.False(t, l.take(foreign(2*time.Minute)))
		l.loseRest("gone")
		require.Equal(t, "gone", l.placed["ours"].lost)
	})

	t.Run("an empty page is the last", func(t *testing.T) {
		t.Parallel()
		l, _ := setup()
		require.False(t, l.take(nil))
	})
}
