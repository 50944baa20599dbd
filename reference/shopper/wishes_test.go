package main

import (
	"slices"
	"strings"
	"testing"

	"buf.build/go/protovalidate"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	orderv1 "github.com/slipwayhq/slipway/gen/slipway/order/v1"
)

func TestWishlist_wish(t *testing.T) {
	t.Parallel()
	list := wishlist{run: "a", seed: 1, shares: shares{repeat: 0.1, cancel: 0.2, declined: 0.1, unclear: 0.05, soldOut: 0.1}}

	t.Run("every wish is a valid request", func(t *testing.T) {
		t.Parallel()
		for i := range 1000 {
			require.NoError(t, protovalidate.Validate(list.wish(i).request))
		}
	})

	t.Run("wishes are varied", func(t *testing.T) {
		t.Parallel()
		keys, customers, currencies, sizes, skus, cards := set{}, set{}, set{}, set{}, set{}, set{}
		repeated, atOnce, cancelled, declined, unclear, missing := 0, 0, 0, 0, 0, 0
		for i := range 1000 {
			w := list.wish(i)
			keys[w.request.GetIdempotencyKey()] = true
			customers[w.request.GetCustomerId()] = true
			currencies[w.request.GetItems()[0].GetUnitPrice().GetCurrencyCode()] = true
			sizes[string(rune('0'+len(w.request.GetItems())))] = true
			for _, item := range w.request.GetItems() {
				skus[item.GetSku()] = true
			}
			repeated += one(w.repeat)
			atOnce += one(w.atOnce)
			cancelled += one(w.cancel)
			card, last := w.request.GetCardToken(), w.request.GetItems()[len(w.request.GetItems())-1]
			cards[card] = true
			isDeclined, isMissing := slices.Contains(declinedCards, card), last.GetSku() == soldOut.sku
			declined += one(isDeclined)
			unclear += one(slices.Contains(unclearCards, card))
			missing += one(isMissing)
			require.Equal(t, isDeclined || isMissing, w.refused != "")
		}
		require.Len(t, keys, 1000)
		require.Len(t, customers, 40)
		require.Equal(t, set{"EUR": true, "USD": true, "JPY": true}, currencies)
		require.Equal(t, set{"1": true, "2": true, "3": true, "4": true, "5": true, "6": true}, sizes)
		require.Len(t, skus, len(wares)+1)
		require.Len(t, cards, len(declinedCards)+len(unclearCards)+1)
		require.InDelta(t, 100, repeated, 30)
		require.InDelta(t, 50, atOnce, 25)
		require.InDelta(t, 200, cancelled, 40)
		require.InDelta(t, 100, declined, 30)
		require.InDelta(t, 50, unclear, 25)
		require.InDelta(t, 100, missing, 30)
	})

	t.Run("goods of its own have the name of the run", func(t *testing.T) {
		t.Parallel()
		own := list
		own.run, own.ownGoods = "1a2b3c4d", true
		for i := range 1000 {
			request := own.wish(i).request
			require.NoError(t, protovalidate.Validate(request))
			for _, item := range request.GetItems() {
				require.True(t, strings.HasSuffix(item.GetSku(), "-1A2B3C4D"))
			}
		}
	})

	t.Run("a seed gives the same goods, a run its own keys and customers", func(t *testing.T) {
		t.Parallel()
		same, other := list, list
		other.run = "b"
		require.True(t, proto.Equal(list.wish(5).request, same.wish(5).request))
		require.NotEqual(t, list.wish(5).request.GetIdempotencyKey(), other.wish(5).request.GetIdempotencyKey())
		require.NotEqual(t, list.wish(5).request.GetCustomerId(), other.wish(5).request.GetCustomerId())
		require.True(t, proto.Equal(
			&orderv1.Order{Items: list.wish(5).request.GetItems()},
			&orderv1.Order{Items: other.wish(5).request.GetItems()}))
		other.seed = 2
		require.NotEqual(t, total(list.wish(5).request.GetItems()).String(), total(other.wish(5).request.GetItems()).String())
	})
}

func TestTotal(t *testing.T) {
	t.Parallel()
	sum := total([]*orderv1.OrderItem{
		{Quantity: 2, UnitPrice: &orderv1.Money{CurrencyCode: "JPY", MinorUnits: 150}},
		{Quantity: 3, UnitPrice: &orderv1.Money{CurrencyCode: "JPY", MinorUnits: 1000}},
	})
	require.True(t, proto.Equal(&orderv1.Money{CurrencyCode: "JPY", MinorUnits: 3300}, sum))
}

type set map[string]bool

func one(b bool) int {
	if b {
		return 1
	}
	return 0
}
