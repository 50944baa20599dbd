package main

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/require"

	inventoryv1 "github.com/slipwayhq/slipway/gen/slipway/inventory/v1"
	orderv1 "github.com/slipwayhq/slipway/gen/slipway/order/v1"
	paymentv1 "github.com/slipwayhq/slipway/gen/slipway/payment/v1"
)

// soundBooks are of an order that is CONFIRMED, one that was declined, one that the customer has
// cancelled, and one whose payment was given back because its success was told too late. Each is for
// three pieces of tea at 700.
func soundBooks() *books {
	b := &books{payment: true, inventory: true, shelves: []*shelf{{
		sku:    "TEA",
		before: &inventoryv1.Stock{OnHand: 100, Committed: 5},
		after:  &inventoryv1.Stock{OnHand: 97, Committed: 8},
	}}}
	add := func(id string, order orderv1.OrderStatus, payment paymentv1.PaymentStatus) {
		o := &orderv1.Order{Id: id, Status: order, Total: &orderv1.Money{CurrencyCode: "EUR", MinorUnits: 2100}}
		p := &purchase{order: o, final: o, asked: true}
		p.request = &orderv1.PlaceOrderRequest{IdempotencyKey: "key-" + id, Items: []*orderv1.OrderItem{{Sku: "TEA", Quantity: 3}}}
		if payment != 0 {
			p.payment = &paymentv1.Payment{Status: payment, Amount: &paymentv1.Money{CurrencyCode: "EUR", MinorUnits: 2100}}
		}
		b.purchases = append(b.purchases, p)
	}
	add("sold", orderv1.OrderStatus_ORDER_STATUS_CONFIRMED, paymentv1.PaymentStatus_PAYMENT_STATUS_CAPTURED)
	add("declined", orderv1.OrderStatus_ORDER_STATUS_CANCELLED, paymentv1.PaymentStatus_PAYMENT_STATUS_DECLINED)
	add("cancelled", orderv1.OrderStatus_ORDER_STATUS_CANCELLED, paymentv1.PaymentStatus_PAYMENT_STATUS_VOIDED)
	add("refunded", orderv1.OrderStatus_ORDER_STATUS_CANCELLED, paymentv1.PaymentStatus_PAYMENT_STATUS_REFUNDED)
	add("sold-out", orderv1.OrderStatus_ORDER_STATUS_CANCELLED, 0)
	b.purchases = append(b.purchases, &purchase{wish: b.purchases[0].wish, outcome: rejected})
	return b
}

func TestBooks_invariants(t *testing.T) {
	t.Parallel()
	const (
		key       = "one order per key"
		ended     = "each order is CONFIRMED or CANCELLED in the end"
		captured  = "CONFIRMED <=> captured with its total"
		voided    = "CANCELLED <=> authorization voided or absent"
		sum       = "sum of captures = sum of confirmed totals"
		committed = "CONFIRMED <=> stock committed once"
		released  = "CANCELLED <=> stock released"
		conserved = "stock on hand + committed = initial stock"
	)

	t.Run("all of them hold, and say of how many", func(t *testing.T) {
		t.Parallel()
		b := soundBooks()
		seen, unseen := b.invariants()
		n := map[string]int{}
		for _, i := range seen {
			require.Empty(t, i.Broken, i.Name)
			n[i.Name] = i.N
		}
		require.Equal(t, map[string]int{
			key: 6, ended: 5, captured: 1, voided: 4, sum: 1, committed: 1, released: 1, conserved: 1,
		}, n)
		require.Equal(t, hidden, unseen)
		require.True(t, b.rest())
	})

	for name, c := range map[string]struct {
		change func(b *books, sold, cancelled *purchase)
		broken map[string]breach
	}{
		"a confirmed order whose capture failed": {
			func(_ *books, sold, _ *purchase) {
				sold.payment.Status = paymentv1.PaymentStatus_PAYMENT_STATUS_AUTHORIZED
			},
			map[string]breach{
				captured: {"sold", "is CONFIRMED and costs EUR 2100, and its payment is AUTHORIZED of EUR 2100"},
				sum:      {"EUR", "0 captured, 2100 confirmed, in minor units"},
			},
		},
		"a confirmed order that was paid too low": {
			func(_ *books, sold, _ *purchase) { sold.payment.Amount.MinorUnits = 2099 },
			map[string]breach{
				captured: {"sold", "is CONFIRMED and costs EUR 2100, and its payment is CAPTURED of EUR 2099"},
				sum:      {"EUR", "2099 captured, 2100 confirmed, in minor units"},
			},
		},
		"a confirmed order that nobody paid": {
			func(_ *books, sold, _ *purchase) { sold.payment = nil },
			map[string]breach{
				captured: {"sold", "is CONFIRMED and costs EUR 2100, and its payment is absent"},
				voided:   {"sold", "is CONFIRMED, and its payment is absent"},
				sum:      {"EUR", "0 captured, 2100 confirmed, in minor units"},
			},
		},
		"a cancelled order that was paid": {
			func(_ *books, _, cancelled *purchase) {
				cancelled.payment.Status = paymentv1.PaymentStatus_PAYMENT_STATUS_CAPTURED
			},
			map[string]breach{
				captured: {"cancelled", "is CANCELLED, and its payment is CAPTURED of EUR 2100"},
				voided:   {"cancelled", "is CANCELLED, and its payment is CAPTURED of EUR 2100"},
				sum:      {"EUR", "4200 captured, 2100 confirmed, in minor units"},
			},
		},
		"a cancelled order whose money is still held": {
			func(_ *books, _, cancelled *purchase) {
				cancelled.payment.Status = paymentv1.PaymentStatus_PAYMENT_STATUS_AUTHORIZED
			},
			map[string]breach{voided: {"cancelled", "is CANCELLED, and its payment is AUTHORIZED of EUR 2100"}},
		},
		"a payment that nobody could look at": {
			func(_ *books, _, cancelled *purchase) {
				cancelled.payment, cancelled.asked, cancelled.unpaid = nil, false, errors.New("no answer")
			},
			map[string]breach{voided: {"cancelled", "is CANCELLED, and its payment is not known: no answer"}},
		},
		"an order without an end": {
			func(_ *books, _, cancelled *purchase) {
				cancelled.final.Status = orderv1.OrderStatus_ORDER_STATUS_PENDING
			},
			map[string]breach{ended: {"cancelled", "is still PENDING"}},
		},
		"a key with two orders": {
			func(_ *books, sold, _ *purchase) { sold.double = "sold-again" },
			map[string]breach{key: {"key-sold", "orders sold and sold-again"}},
		},
		"an order that belongs to no key": {
			func(b *books, _, _ *purchase) { b.unexpected = []string{"stray"} },
			map[string]breach{key: {"stray", "is an order of this run that belongs to no key"}},
		},
		"stock that was committed twice": {
			func(b *books, _, _ *purchase) { b.shelves[0].after = &inventoryv1.Stock{OnHand: 94, Committed: 11} },
			map[string]breach{committed: {"TEA", "6 committed, 3 in confirmed orders"}},
		},
		"stock that was committed for a cancelled order": {
			func(b *books, _, _ *purchase) { b.purchases = b.purchases[1:] },
			map[string]breach{committed: {"TEA", "3 committed, 0 in confirmed orders"}},
		},
		"stock that was not released": {
			func(b *books, _, _ *purchase) { b.shelves[0].after.Reserved = 3 },
			map[string]breach{released: {"TEA", "3 still reserved"}},
		},
		"stock that vanished": {
			func(b *books, _, _ *purchase) { b.shelves[0].after.OnHand = 96 },
			map[string]breach{conserved: {"TEA", "96 on hand + 8 committed, 105 at the beginning"}},
		},
	} {
		t.Run(name+" is reported", func(t *testing.T) {
			t.Parallel()
			b := soundBooks()
			c.change(b, b.purchases[0], b.purchases[2])
			seen, _ := b.invariants()
			broken := map[string]breach{}
			for _, i := range seen {
				for _, row := range i.Broken {
					broken[i.Name] = row
				}
			}
			require.Equal(t, c.broken, broken)
		})
	}
}

func TestBooks_rest(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(b *books){
		"an order is PENDING": func(b *books) { b.purchases[1].final.Status = orderv1.OrderStatus_ORDER_STATUS_PENDING },
		"a payment is held": func(b *books) {
			b.purchases[0].payment.Status = paymentv1.PaymentStatus_PAYMENT_STATUS_AUTHORIZED
		},
		"a payment is not known":    func(b *books) { b.purchases[0].asked = false },
		"stock is reserved":         func(b *books) { b.shelves[0].after.Reserved = 1 },
		"stock is not committed":    func(b *books) { b.shelves[0].after = b.shelves[0].before },
		"nobody has seen the stock": func(b *books) { b.shelves[0].after = nil },
	} {
		t.Run("not while "+name, func(t *testing.T) {
			t.Parallel()
			b := soundBooks()
			change(b)
			require.False(t, b.rest())
		})
	}
}
