package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	paymentv1 "github.com/slipwayhq/slipway/gen/slipway/payment/v1"
)

// books are what is known of a run's orders, of their payments and of their stock.
type books struct {
	purchases          []*purchase
	unexpected         []string
	shelves            []*shelf
	payment, inventory bool // they were asked
}

// invariant is something that holds whatever goes wrong, and where it does not.
type invariant struct {
	Name string `json:"name"`
	// N is how many of what were looked at; Of names that.
	N      int      `json:"n"`
	Of     string   `json:"of"`
	Broken []breach `json:"broken,omitempty"`
}

// breach is an order, a key, an article or a currency that breaks an invariant.
type breach struct {
	Of      string `json:"of"`
	Problem string `json:"problem"`
}

func (b breach) String() string { return b.Of + ": " + b.Problem }

func (i *invariant) breaks(of, format string, args ...any) {
	i.Broken = append(i.Broken, breach{of, fmt.Sprintf(format, args...)})
}

func (s *shopper) books() *books {
	return &books{
		purchases: s.purchases, unexpected: s.unexpected, shelves: s.shelves,
		payment: s.payments != nil, inventory: s.inventory != nil,
	}
}

// rest tells whether nothing more is to happen.
func (b *books) rest() bool {
	for _, p := range b.known() {
		if !p.rests(b.payment) {
			return false
		}
	}
	for _, i := range []invariant{b.stockCommitted(), b.stockReleased()} {
		if len(i.Broken) > 0 {
			return false
		}
	}
	return true
}

// hidden are the invariants that no service tells about.
var hidden = []string{"captured once by the payment provider", "each committed event published, none else, in order per order"}

// invariants returns those that were looked at, and the names of the others.
func (b *books) invariants() (seen []invariant, unseen []string) {
	for _, i := range []struct {
		visible bool
		invariant
	}{
		{true, b.oneOrderPerKey()},
		{b.payment || b.inventory, b.ended()},
		{b.payment, b.captured()},
		{b.payment, b.voided()},
		{b.payment, b.sumOfCaptures()},
		{b.inventory, b.stockCommitted()},
		{b.inventory, b.stockReleased()},
		{b.inventory, b.stockConserved()},
	} {
		if i.visible {
			seen = append(seen, i.invariant)
		} else {
			unseen = append(unseen, i.Name)
		}
	}
	return seen, append(unseen, hidden...)
}

// known are the purchases that became orders.
func (b *books) known() []*purchase {
	return slices.DeleteFunc(slices.Clone(b.purchases), func(p *purchase) bool { return p.state() == nil })
}

func (b *books) oneOrderPerKey() invariant {
	i := invariant{Name: "one order per key", N: len(b.purchases), Of: "keys"}
	for _, p := range b.purchases {
		if p.double != "" {
			i.breaks(p.request.GetIdempotencyKey(), "orders %s and %s", p.order.GetId(), p.double)
		}
	}
	for _, id := range b.unexpected {
		i.breaks(id, "is an order of this run that belongs to no key")
	}
	return i
}

func (b *books) ended() invariant {
	known := b.known()
	i := invariant{Name: "each order is CONFIRMED or CANCELLED in the end", N: len(known), Of: "orders"}
	for _, p := range known {
		if !isFinal(p.state()) {
			i.breaks(p.state().GetId(), "is still %s", stateName(p.state()))
		}
	}
	return i
}

func (b *books) captured() invariant {
	i := invariant{Name: "CONFIRMED <=> captured with its total", Of: "orders"}
	for _, p := range b.known() {
		o := p.state()
		captured := p.payment.GetStatus() == paymentv1.PaymentStatus_PAYMENT_STATUS_CAPTURED
		switch {
		case isConfirmed(o):
			i.N++
			if price := money(o.GetTotal()); !captured || price != money(p.payment.GetAmount()) {
				i.breaks(o.GetId(), "is CONFIRMED and costs %s, and its payment %s", price, p.paid())
			}
		case captured:
			i.breaks(o.GetId(), "is %s, and its payment %s", stateName(o), p.paid())
		}
	}
	return i
}

func (b *books) voided() invariant {
	i := invariant{Name: "CANCELLED <=> authorization voided or absent", Of: "orders"}
	for _, p := range b.known() {
		if isCancelled(p.state()) {
			i.N++
		}
		if isFinal(p.state()) && p.letGo() != isCancelled(p.state()) {
			i.breaks(p.state().GetId(), "is %s, and its payment %s", stateName(p.state()), p.paid())
		}
	}
	return i
}

// letGo tells whether no money is held or transferred. A payment that was given back counts: that is
// what becomes of an authorization whose success is told too late.
func (p *purchase) letGo() bool {
	switch p.payment.GetStatus() {
	case paymentv1.PaymentStatus_PAYMENT_STATUS_DECLINED, paymentv1.PaymentStatus_PAYMENT_STATUS_VOIDED,
		paymentv1.PaymentStatus_PAYMENT_STATUS_REFUNDED:
		return true
	default:
		return p.payment == nil && p.asked
	}
}

// paid says what payment has for the order.
func (p *purchase) paid() string {
	switch {
	case p.unpaid != nil:
		return fmt.Sprintf("is not known: %v", p.unpaid)
	case p.payment == nil:
		return "is absent"
	}
	return fmt.Sprintf("is %s of %s", strings.TrimPrefix(p.payment.GetStatus().String(), "PAYMENT_STATUS_"), money(p.payment.GetAmount()))
}

func (b *books) sumOfCaptures() invariant {
	captured, confirmed := map[string]int64{}, map[string]int64{}
	for _, p := range b.known() {
		if total := p.state().GetTotal(); isConfirmed(p.state()) {
			confirmed[total.GetCurrencyCode()] += total.GetMinorUnits()
		}
		if amount := p.payment.GetAmount(); p.payment.GetStatus() == paymentv1.PaymentStatus_PAYMENT_STATUS_CAPTURED {
			captured[amount.GetCurrencyCode()] += amount.GetMinorUnits()
		}
	}
	i := invariant{Name: "sum of captures = sum of confirmed totals", Of: "currencies"}
	all := maps.Clone(captured)
	maps.Copy(all, confirmed)
	i.N = len(all)
	for _, currency := range slices.Sorted(maps.Keys(all)) {
		if captured[currency] != confirmed[currency] {
			i.breaks(currency, "%d captured, %d confirmed, in minor units", captured[currency], confirmed[currency])
		}
	}
	return i
}

func (b *books) stockCommitted() invariant {
	sold := map[string]int64{}
	for _, p := range b.known() {
		if isConfirmed(p.state()) {
			for _, item := range p.request.GetItems() {
				sold[item.GetSku()] += int64(item.GetQuantity())
			}
		}
	}
	return b.ofShelves("CONFIRMED <=> stock committed once", func(s *shelf) string {
		if committed := s.after.GetCommitted() - s.before.GetCommitted(); committed != sold[s.sku] {
			return fmt.Sprintf("%d committed, %d in confirmed orders", committed, sold[s.sku])
		}
		return ""
	})
}

func (b *books) stockReleased() invariant {
	return b.ofShelves("CANCELLED <=> stock released", func(s *shelf) string {
		if s.after.GetReserved() != 0 {
			return fmt.Sprintf("%d still reserved", s.after.GetReserved())
		}
		return ""
	})
}

func (b *books) stockConserved() invariant {
	return b.ofShelves("stock on hand + committed = initial stock", func(s *shelf) string {
		initial := s.before.GetOnHand() + s.before.GetCommitted()
		if s.after.GetOnHand()+s.after.GetCommitted() != initial {
			return fmt.Sprintf("%d on hand + %d committed, %d at the beginning", s.after.GetOnHand(), s.after.GetCommitted(), initial)
		}
		return ""
	})
}

// ofShelves asks problem about each shelf that was seen; "" is none.
func (b *books) ofShelves(name string, problem func(*shelf) string) invariant {
	i := invariant{Name: name, N: len(b.shelves), Of: "articles"}
	for _, s := range b.shelves {
		if s.after == nil {
			i.breaks(s.sku, "its stock is not known")
		} else if text := problem(s); text != "" {
			i.breaks(s.sku, "%s", text)
		}
	}
	return i
}

// amount is money of any of the services.
type amount interface {
	GetCurrencyCode() string
	GetMinorUnits() int64
}

// money says how much it is, in minor units.
func money(a amount) string { return fmt.Sprintf("%s %d", a.GetCurrencyCode(), a.GetMinorUnits()) }
