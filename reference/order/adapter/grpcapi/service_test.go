package grpcapi_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	orderv1 "github.com/slipwayhq/slipway/gen/slipway/order/v1"
)

func TestService_PlaceOrder(t *testing.T) {
	t.Parallel()
	b := setup(t)

	t.Run("answers with the pending order", func(t *testing.T) {
		t.Parallel()
		req := tea()
		resp, err := b.PlaceOrder(as(t, "shop"), req)
		require.NoError(t, err)
		o := resp.GetOrder()
		require.NotEmpty(t, o.GetId())
		require.Equal(t, req.GetCustomerId(), o.GetCustomerId())
		require.Equal(t, orderv1.OrderStatus_ORDER_STATUS_PENDING, o.GetStatus())
		require.EqualValues(t, 1, o.GetVersion())
		require.True(t, proto.Equal(&orderv1.Money{CurrencyCode: "EUR", MinorUnits: 1900}, o.GetTotal()), "%v", o.GetTotal())
		require.Len(t, o.GetItems(), 2)
		for i, item := range req.GetItems() {
			require.True(t, proto.Equal(item, o.GetItems()[i]))
		}
		require.WithinDuration(t, now(), o.GetCreateTime().AsTime(), patience)
		require.Equal(t, o.GetCreateTime().AsTime(), o.GetUpdateTime().AsTime())
	})

	t.Run("the same key and request gives the same order", func(t *testing.T) {
		t.Parallel()
		req := tea()
		first, err := b.PlaceOrder(as(t, "repeater"), req)
		require.NoError(t, err)
		again, err := b.PlaceOrder(as(t, "repeater"), req)
		require.NoError(t, err)
		require.True(t, proto.Equal(first, again), "%v, then %v", first, again)
		list, err := b.ListOrders(as(t, "repeater"), &orderv1.ListOrdersRequest{})
		require.NoError(t, err)
		require.Len(t, list.GetOrders(), 1)
	})

	t.Run("the same key and another request is refused, whatever differs", func(t *testing.T) {
		t.Parallel()
		req := tea()
		_, err := b.PlaceOrder(as(t, "shop"), req)
		require.NoError(t, err)
		for name, change := range map[string]func(*orderv1.PlaceOrderRequest){
			"customer": func(r *orderv1.PlaceOrderRequest) { r.CustomerId = "c-2" },
			"quantity": func(r *orderv1.PlaceOrderRequest) { r.Items[0].Quantity++ },
			"price":    func(r *orderv1.PlaceOrderRequest) { r.Items[0].UnitPrice.MinorUnits++ },
			"order":    func(r *orderv1.PlaceOrderRequest) { slices.Reverse(r.Items) },
			"items":    func(r *orderv1.PlaceOrderRequest) { r.Items = r.Items[:1] },
		} {
			other := proto.CloneOf(req)
			change(other)
			_, err := b.PlaceOrder(as(t, "shop"), other)
			require.Error(t, err, name)
			requireCode(t, codes.FailedPrecondition, err)
			requireReason(t, "IDEMPOTENCY_KEY_REUSED", err)
		}
	})

	t.Run("the same key of another caller is another order", func(t *testing.T) {
		t.Parallel()
		req := tea()
		one, err := b.PlaceOrder(as(t, "shop"), req)
		require.NoError(t, err)
		two, err := b.PlaceOrder(as(t, "till"), req)
		require.NoError(t, err)
		require.NotEqual(t, one.GetOrder().GetId(), two.GetOrder().GetId())
	})
}

// TestService_notFound covers every method that takes an id.
func TestService_notFound(t *testing.T) {
	t.Parallel()
	b := setup(t)
	foreign := b.place(t, "till").GetId()
	_, err := b.GetOrder(as(t, "till"), &orderv1.GetOrderRequest{OrderId: foreign})
	require.NoError(t, err, "the cache has it")
	for name, id := range map[string]string{"an unknown order": unknownID, "another caller's order": foreign} {
		for _, req := range []proto.Message{
			&orderv1.GetOrderRequest{OrderId: id},
			&orderv1.CancelOrderRequest{OrderId: id, Reason: "mine"},
			&orderv1.WatchOrderRequest{OrderId: id},
		} {
			t.Run(name+" is not there: "+string(req.ProtoReflect().Descriptor().Name()), func(t *testing.T) {
				t.Parallel()
				err := call(as(t, "shop"), b, req)
				requireCode(t, codes.NotFound, err)
				requireReason(t, "ORDER_NOT_FOUND", err)
			})
		}
	}
}

func TestService_ListOrders(t *testing.T) {
	t.Parallel()
	b := setup(t)

	t.Run("pages give each order once, newest first, while orders are placed", func(t *testing.T) {
		t.Parallel()
		var placed, listed []string
		for range 7 {
			placed = append(placed, b.place(t, "pager").GetId())
		}
		var sizes []int
		for req := (&orderv1.ListOrdersRequest{PageSize: 3}); ; {
			page, err := b.ListOrders(as(t, "pager"), req)
			require.NoError(t, err)
			sizes = append(sizes, len(page.GetOrders()))
			for _, o := range page.GetOrders() {
				listed = append(listed, o.GetId())
			}
			if req.PageToken = page.GetNextPageToken(); req.GetPageToken() == "" {
				break
			}
			b.place(t, "pager")
		}
		slices.Reverse(placed)
		require.Equal(t, placed, listed)
		require.Equal(t, []int{3, 3, 1}, sizes)
	})

	t.Run("a page that takes all is the last", func(t *testing.T) {
		t.Parallel()
		for range 21 {
			b.place(t, "exact")
		}
		page, err := b.ListOrders(as(t, "exact"), &orderv1.ListOrdersRequest{PageSize: 21})
		require.NoError(t, err)
		require.Len(t, page.GetOrders(), 21)
		require.Empty(t, page.GetNextPageToken())

		page, err = b.ListOrders(as(t, "exact"), &orderv1.ListOrdersRequest{})
		require.NoError(t, err)
		require.Len(t, page.GetOrders(), 20, "without a size")
		require.NotEmpty(t, page.GetNextPageToken())
	})

	t.Run("status and customer select, with their own tokens", func(t *testing.T) {
		t.Parallel()
		var pending []string
		for i := range 4 {
			req := tea()
			req.CustomerId = []string{"c-1", "c-2"}[i%2]
			resp, err := b.PlaceOrder(as(t, "filterer"), req)
			require.NoError(t, err)
			if req.GetCustomerId() == "c-2" {
				pending = append(pending, resp.GetOrder().GetId())
			}
		}
		other := b.place(t, "filterer").GetId()
		_, err := b.CancelOrder(as(t, "filterer"), &orderv1.CancelOrderRequest{OrderId: other, Reason: "no"})
		require.NoError(t, err)

		req := &orderv1.ListOrdersRequest{PageSize: 1, CustomerId: "c-2", Status: orderv1.OrderStatus_ORDER_STATUS_PENDING}
		first, err := b.ListOrders(as(t, "filterer"), req)
		require.NoError(t, err)
		req.PageToken = first.GetNextPageToken()
		second, err := b.ListOrders(as(t, "filterer"), req)
		require.NoError(t, err)
		require.Empty(t, second.GetNextPageToken())
		require.Equal(t, []string{pending[1], pending[0]}, []string{first.GetOrders()[0].GetId(), second.GetOrders()[0].GetId()})

		cancelled, err := b.ListOrders(as(t, "filterer"), &orderv1.ListOrdersRequest{Status: orderv1.OrderStatus_ORDER_STATUS_CANCELLED})
		require.NoError(t, err)
		require.Len(t, cancelled.GetOrders(), 1)
		require.Equal(t, other, cancelled.GetOrders()[0].GetId())
	})

	t.Run("nobody sees the orders of another", func(t *testing.T) {
		t.Parallel()
		b.place(t, "shop")
		page, err := b.ListOrders(as(t, "stranger"), &orderv1.ListOrdersRequest{})
		require.NoError(t, err)
		require.Empty(t, page.GetOrders())
	})
}

func TestService_CancelOrder(t *testing.T) {
	t.Parallel()
	b := setup(t)

	t.Run("another version than expected aborts, the expected one cancels", func(t *testing.T) {
		t.Parallel()
		id := b.place(t, "shop").GetId()
		_, err := b.CancelOrder(as(t, "shop"), &orderv1.CancelOrderRequest{OrderId: id, Reason: "no", ExpectedVersion: 2})
		requireCode(t, codes.Aborted, err)
		requireReason(t, "ORDER_VERSION_CONFLICT", err)
		resp, err := b.CancelOrder(as(t, "shop"), &orderv1.CancelOrderRequest{OrderId: id, Reason: "no", ExpectedVersion: 1})
		require.NoError(t, err)
		require.Equal(t, orderv1.OrderStatus_ORDER_STATUS_CANCELLED, resp.GetOrder().GetStatus())
	})

	t.Run("repeated, it gives the same order and keeps the reason", func(t *testing.T) {
		t.Parallel()
		placed := b.place(t, "shop")
		req := &orderv1.CancelOrderRequest{OrderId: placed.GetId(), Reason: "too slow", ExpectedVersion: 1}
		first, err := b.CancelOrder(as(t, "shop"), req)
		require.NoError(t, err)
		require.Equal(t, "too slow", first.GetOrder().GetCancelReason())
		require.EqualValues(t, 2, first.GetOrder().GetVersion())
		require.True(t, first.GetOrder().GetUpdateTime().AsTime().After(placed.GetUpdateTime().AsTime()))
		req.Reason = "too late"
		again, err := b.CancelOrder(as(t, "shop"), req)
		require.NoError(t, err)
		require.True(t, proto.Equal(first, again), "%v, then %v", first, again)
	})

	t.Run("a confirmed order stays confirmed", func(t *testing.T) {
		t.Parallel()
		id := b.place(t, "shop").GetId()
		_, err := b.replica(t).Update(t.Context(), "shop", id, confirm)
		require.NoError(t, err)
		_, err = b.CancelOrder(as(t, "shop"), &orderv1.CancelOrderRequest{OrderId: id, Reason: "no"})
		requireCode(t, codes.FailedPrecondition, err)
		requireReason(t, "ORDER_STATE", err)
		got, err := b.GetOrder(as(t, "shop"), &orderv1.GetOrderRequest{OrderId: id})
		require.NoError(t, err)
		require.Equal(t, orderv1.OrderStatus_ORDER_STATUS_CONFIRMED, got.GetOrder().GetStatus())
	})
}

func TestService_GetOrder(t *testing.T) {
	t.Parallel()

	t.Run("the second read comes from the cache, the one after a change does not", func(t *testing.T) {
		t.Parallel()
		b := setup(t)
		placed := b.place(t, "shop")
		get := func(id string) *orderv1.Order {
			resp, err := b.GetOrder(as(t, "shop"), &orderv1.GetOrderRequest{OrderId: id})
			require.NoError(t, err)
			return resp.GetOrder()
		}
		for range 2 {
			got := get(placed.GetId())
			require.True(t, proto.Equal(placed, got), "placed %v, got %v", placed, got)
		}
		require.Equal(t, map[string]int{"hit": 1, "miss": 1, "bypass": 0, "error": 0}, cacheRequests(t, b.registry))
		require.Equal(t, placed.GetId(), get(strings.ToUpper(placed.GetId())).GetId(), "an id in capitals is the same id")

		cancelled, err := b.CancelOrder(as(t, "shop"), &orderv1.CancelOrderRequest{OrderId: placed.GetId(), Reason: "no"})
		require.NoError(t, err)
		for _, id := range []string{placed.GetId(), strings.ToUpper(placed.GetId())} {
			got := get(id)
			require.True(t, proto.Equal(cancelled.GetOrder(), got), "cancelled %v, got %v", cancelled.GetOrder(), got)
		}
	})

	t.Run("without Redis every method goes on", func(t *testing.T) {
		t.Parallel()
		b := setup(t)
		placed := b.place(t, "shop")
		get := &orderv1.GetOrderRequest{OrderId: placed.GetId()}
		_, err := b.GetOrder(as(t, "shop"), get)
		require.NoError(t, err)

		b.redis.Stop()
		got, err := b.GetOrder(as(t, "shop"), get)
		require.NoError(t, err)
		require.True(t, proto.Equal(placed, got.GetOrder()), "placed %v, got %v", placed, got.GetOrder())
		_, err = b.CancelOrder(as(t, "shop"), &orderv1.CancelOrderRequest{OrderId: placed.GetId(), Reason: "no"})
		require.NoError(t, err)
		got, err = b.GetOrder(as(t, "shop"), get)
		require.NoError(t, err)
		require.Equal(t, orderv1.OrderStatus_ORDER_STATUS_CANCELLED, got.GetOrder().GetStatus())
		b.place(t, "shop")
	})
}

func TestService_callerUnknown(t *testing.T) {
	t.Parallel()
	b := setup(t)
	_, err := b.ListOrders(t.Context(), &orderv1.ListOrdersRequest{})
	requireCode(t, codes.Unauthenticated, err)
}

// cacheRequests counts the reads by what became of them.
func cacheRequests(t *testing.T, reg prometheus.Gatherer) map[string]int {
	t.Helper()
	families, err := reg.Gather()
	require.NoError(t, err)
	counts := map[string]int{}
	for _, family := range families {
		if family.GetName() != "cache_requests_total" {
			continue
		}
		for _, metric := range family.GetMetric() {
			for _, label := range metric.GetLabel() {
				if label.GetName() == "result" {
					counts[label.GetValue()] += int(metric.GetCounter().GetValue())
				}
			}
		}
	}
	return counts
}
