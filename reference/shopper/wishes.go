package main

import (
	"fmt"
	"math/rand/v2"

	orderv1 "github.com/slipwayhq/slipway/gen/slipway/order/v1"
)

// customers is how many customers share the orders of a run.
const customers = 40

// ware is something to order, with its price in euro cents.
type ware struct {
	sku   string
	cents int64
}

var wares = []ware{
	{"KETTLE-STEEL", 3999},
	{"MUG-BLUE-350", 899},
	{"MUG-RED-350", 899},
	{"TEAPOT-1L", 2450},
	{"TEA-ASSAM-100", 595},
	{"TEA-SENCHA-100", 1190},
	{"TEA-EARLGREY-100", 640},
	{"COFFEE-BEANS-1000", 1890},
	{"FILTER-PAPER-4", 249},
	{"GRINDER-HAND", 5600},
	{"SCALE-DIGITAL", 3420},
	{"SPOON-WOOD", 350},
	{"TRAY-OAK", 4275},
	{"HONEY-500", 1099},
	{"BISCUITS-200", 275},
}

// currency turns euro cents into minor units of another currency.
type currency struct {
	code     string
	perMille int64
}

var currencies = []currency{{"EUR", 1000}, {"USD", 1080}, {"JPY", 1600}} // the yen has no cents

// wish is one order to be placed and what is to be done with it.
type wish struct {
	request *orderv1.PlaceOrderRequest
	repeat  bool // place it again with the same key ...
	atOnce  bool // ... at the same time instead of afterwards
	cancel  bool
}

// wishlist draws wishes. The same seed gives the same ones; the run keeps customers and
// idempotency keys of different runs apart.
type wishlist struct {
	run    string
	seed   uint64
	repeat float64
	cancel float64
}

// wish returns the i-th wish, whatever was drawn before.
func (l wishlist) wish(i int) wish {
	rng := rand.New(rand.NewPCG(l.seed, uint64(i)))
	w := wish{
		request: &orderv1.PlaceOrderRequest{
			IdempotencyKey: fmt.Sprintf("shopper-%s-%d", l.run, i),
			CustomerId:     fmt.Sprintf("%s%d", l.customers(), rng.IntN(customers)),
			Items:          items(rng),
			CardToken:      "tok_ok",
		},
		repeat: rng.Float64() < l.repeat,
		cancel: rng.Float64() < l.cancel,
	}
	w.atOnce = w.repeat && rng.IntN(2) == 0
	return w
}

// customers is the prefix of this run's customer ids.
func (l wishlist) customers() string { return "shopper-" + l.run + "-" }

// items draws one to five different wares in one currency; most are wanted once or twice.
func items(rng *rand.Rand) []*orderv1.OrderItem {
	paid := currencies[rng.IntN(len(currencies))]
	chosen := rng.Perm(len(wares))[:1+rng.IntN(5)]
	items := make([]*orderv1.OrderItem, len(chosen))
	for i, n := range chosen {
		quantity := 1 + rng.Int32N(3)
		if rng.IntN(20) == 0 {
			quantity = 10 + rng.Int32N(40)
		}
		items[i] = &orderv1.OrderItem{
			Sku:      wares[n].sku,
			Quantity: quantity,
			UnitPrice: &orderv1.Money{
				CurrencyCode: paid.code,
				MinorUnits:   wares[n].cents * paid.perMille / 1000,
			},
		}
	}
	return items
}

// total returns what the items cost together.
func total(items []*orderv1.OrderItem) *orderv1.Money {
	sum := &orderv1.Money{CurrencyCode: items[0].GetUnitPrice().GetCurrencyCode()}
	for _, item := range items {
		sum.MinorUnits += int64(item.GetQuantity()) * item.GetUnitPrice().GetMinorUnits()
	}
	return sum
}
