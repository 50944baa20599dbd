package main

import (
	"fmt"
	"math/rand/v2"
	"strings"

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

// soldOut is what the warehouse never has.
var soldOut = ware{"VASE-SOLD-OUT", 8900}

// mostOfOne is more than anybody orders of one article.
const mostOfOne = 50

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
	refused string // why the order must not be confirmed; empty if it may be
}

// Cards by what the payment provider makes of them. With those that are unclear it holds the money,
// but after errors, after a while, or without ever answering.
const goodCard = "tok_ok"

var (
	declinedCards = []string{"tok_declined", "tok_insufficient_funds", "tok_expired_card", "tok_stolen_card"}
	unclearCards  = []string{"tok_flaky", "tok_slow", "tok_late", "tok_timeout"}
)

// wishlist draws wishes. The same seed gives the same ones; the run keeps customers, idempotency
// keys and own goods of different runs apart.
type wishlist struct {
	run      string
	seed     uint64
	ownGoods bool // nobody else orders what this run does
	shares
}

// shares are how many of all orders something is done with, 0 to 1.
type shares struct {
	repeat, cancel    float64
	declined, unclear float64 // by their cards
	soldOut           float64
}

// wish returns the i-th wish, whatever was drawn before.
func (l wishlist) wish(i int) wish {
	rng := rand.New(rand.NewPCG(l.seed, uint64(i)))
	paid := currencies[rng.IntN(len(currencies))]
	w := wish{
		request: &orderv1.PlaceOrderRequest{
			IdempotencyKey: fmt.Sprintf("shopper-%s-%d", l.run, i),
			CustomerId:     fmt.Sprintf("%s%d", l.customers(), rng.IntN(customers)),
			Items:          l.items(rng, paid),
		},
		repeat: rng.Float64() < l.repeat,
		cancel: rng.Float64() < l.cancel,
	}
	w.atOnce = w.repeat && rng.IntN(2) == 0
	w.request.CardToken, w.refused = l.card(rng)
	if rng.Float64() < l.soldOut {
		w.request.Items = append(w.request.Items, l.item(soldOut, paid, 1))
		w.refused = "an article is sold out"
	}
	return w
}

// card draws a card, and says why it must be refused if it must.
func (l wishlist) card(rng *rand.Rand) (token, refused string) {
	switch drawn := rng.Float64(); {
	case drawn < l.declined:
		return declinedCards[rng.IntN(len(declinedCards))], "the card is declined"
	case drawn < l.declined+l.unclear:
		return unclearCards[rng.IntN(len(unclearCards))], ""
	default:
		return goodCard, ""
	}
}

// customers is the prefix of this run's customer ids.
func (l wishlist) customers() string { return "shopper-" + l.run + "-" }

// sku is what the warehouse knows a ware by.
func (l wishlist) sku(w ware) string {
	if l.ownGoods {
		return w.sku + "-" + strings.ToUpper(l.run)
	}
	return w.sku
}

// items draws one to five different wares; most are wanted once or twice.
func (l wishlist) items(rng *rand.Rand, paid currency) []*orderv1.OrderItem {
	chosen := rng.Perm(len(wares))[:1+rng.IntN(5)]
	items := make([]*orderv1.OrderItem, len(chosen))
	for i, n := range chosen {
		quantity := 1 + rng.Int32N(3)
		if rng.IntN(20) == 0 {
			quantity = 10 + rng.Int32N(mostOfOne-10)
		}
		items[i] = l.item(wares[n], paid, quantity)
	}
	return items
}

func (l wishlist) item(w ware, paid currency, quantity int32) *orderv1.OrderItem {
	return &orderv1.OrderItem{
		Sku:       l.sku(w),
		Quantity:  quantity,
		UnitPrice: &orderv1.Money{CurrencyCode: paid.code, MinorUnits: w.cents * paid.perMille / 1000},
	}
}

// total returns what the items cost together.
func total(items []*orderv1.OrderItem) *orderv1.Money {
	sum := &orderv1.Money{CurrencyCode: items[0].GetUnitPrice().GetCurrencyCode()}
	for _, item := range items {
		sum.MinorUnits += int64(item.GetQuantity()) * item.GetUnitPrice().GetMinorUnits()
	}
	return sum
}
