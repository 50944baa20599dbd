package main

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	inventoryv1 "github.com/slipwayhq/slipway/gen/slipway/inventory/v1"
	paymentv1 "github.com/slipwayhq/slipway/gen/slipway/payment/v1"
)

// auditedRun is a whole run with payments and stock, of a service with the given back office.
func auditedRun(t *testing.T, back *office, faulty faults, change func(*options)) *report {
	t.Helper()
	faulty.settle = true
	fake := &fakeService{faults: faulty, office: back}
	s := shopperAt(t, fake, func(o *options) {
		o.payment, o.inventory, o.wait = o.addr, o.addr, time.Hour
		o.shares = shares{repeat: 0.1, cancel: 0.2, declined: 0.2, unclear: 0.1, soldOut: 0.2}
		if change != nil {
			change(o)
		}
	})
	require.NoError(t, s.fill(t.Context()))
	s.shop(t.Context())
	s.reconcile(t.Context())
	s.audit(t.Context())
	return s.report("")
}

func TestShopper_audit(t *testing.T) {
	t.Parallel()

	t.Run("finds the books of a sound system in order", func(t *testing.T) {
		t.Parallel()
		r := auditedRun(t, &office{}, faults{}, nil)
		require.True(t, r.OK, r.Verdict)
		require.Equal(t, "OK: all 60 orders were placed and read back unchanged, and 8 invariants hold", r.Verdict)
		require.Len(t, r.Invariants, 8)
		for _, i := range r.Invariants {
			require.Positive(t, i.N, i.Name)
		}
		require.Positive(t, r.Ends.Declined)
		require.Positive(t, r.Ends.SoldOut)
		require.Positive(t, r.Ends.Customer)
		require.Zero(t, r.Ends.Other)
		require.Equal(t, r.States["CANCELLED"], r.Ends.Declined+r.Ends.SoldOut+r.Ends.Customer)
		require.Equal(t, hidden, r.Unseen)
	})

	t.Run("waits for what follows a confirmation", func(t *testing.T) {
		t.Parallel()
		back := &office{lag: 2}
		r := auditedRun(t, back, faults{}, nil)
		require.True(t, r.OK, r.Verdict)
		for id, looks := range back.looks {
			require.Equal(t, 3, looks, "order %s is left alone once it is done", id)
		}
	})

	t.Run("waits for orders that are not final", func(t *testing.T) {
		t.Parallel()
		fake := &fakeService{office: &office{}}
		s := shopperAt(t, fake, func(o *options) { o.payment, o.inventory, o.watch = o.addr, o.addr, 0 })
		require.NoError(t, s.fill(t.Context()))
		s.shop(t.Context())
		s.reconcile(t.Context())
		require.Positive(t, s.report("").States["PENDING"])
		for _, order := range fake.orders {
			if !isFinal(order) {
				fake.settle(order)
			}
		}
		s.opts.wait = patience
		s.audit(t.Context())
		r := s.report("")
		require.True(t, r.OK, r.Verdict)
		require.Zero(t, r.States["PENDING"])
	})

	for name, c := range map[string]struct {
		back    *office
		watch   int
		broken  string
		problem string
	}{
		"orders without an end": {
			&office{}, 0, "each order is CONFIRMED or CANCELLED in the end", "is still PENDING",
		},
		"payments that stay held": {
			&office{lag: 1 << 30}, 100, "CONFIRMED <=> captured with its total", "its payment is AUTHORIZED of ",
		},
		"payments that were voided": {
			&office{forgotten: paymentv1.PaymentStatus_PAYMENT_STATUS_VOIDED}, 100,
			"sum of captures = sum of confirmed totals", "0 captured, ",
		},
		"payments that nobody can tell about": {
			&office{down: true}, 100, "CANCELLED <=> authorization voided or absent", "the books are on fire",
		},
		"stock that vanishes": {
			&office{stolen: 1}, 100, "stock on hand + committed = initial stock", "at the beginning",
		},
	} {
		t.Run("reports "+name, func(t *testing.T) {
			t.Parallel()
			r := auditedRun(t, c.back, faults{}, func(o *options) {
				o.wait, o.watch = 300*time.Millisecond, c.watch
			})
			requireBroken(t, r, c.broken, c.problem)
		})
	}

	t.Run("reports orders that were confirmed although they had to be refused", func(t *testing.T) {
		t.Parallel()
		r := auditedRun(t, &office{}, faults{lenient: true}, nil)
		require.False(t, r.OK)
		requireFinding(t, r.Wrong, "although the card is declined")
		requireFinding(t, r.Wrong, "although an article is sold out")
	})

	t.Run("one service alone shows its own part", func(t *testing.T) {
		t.Parallel()
		r := auditedRun(t, &office{down: true}, faults{}, func(o *options) { o.payment = "" })
		require.True(t, r.OK, r.Verdict)
		require.Len(t, r.Invariants, 5)
		require.Contains(t, r.Unseen, "CONFIRMED <=> captured with its total")
		r = auditedRun(t, &office{stolen: 1}, faults{}, func(o *options) { o.inventory = "" })
		require.True(t, r.OK, r.Verdict)
		require.Len(t, r.Invariants, 5)
		require.Contains(t, r.Unseen, "stock on hand + committed = initial stock")
	})
}

func requireBroken(t *testing.T, r *report, name, problem string) {
	t.Helper()
	require.False(t, r.OK)
	require.Contains(t, r.Verdict, "invariants broken")
	for _, i := range r.Invariants {
		if i.Name != name {
			continue
		}
		require.NotEmpty(t, i.Broken, name)
		require.NotEmpty(t, i.Broken[0].Of)
		for _, b := range i.Broken {
			if strings.Contains(b.Problem, problem) {
				return
			}
		}
	}
	require.Fail(t, "no breach says "+problem, "%v", r.Invariants)
}

func TestShopper_fill(t *testing.T) {
	t.Parallel()

	t.Run("everything is there but what is sold out, under names of this run", func(t *testing.T) {
		t.Parallel()
		back := &office{}
		s := shopperAt(t, &fakeService{office: back}, func(o *options) { o.inventory = o.addr })
		require.NoError(t, s.fill(t.Context()))
		require.Len(t, back.stock, len(wares)+1)
		require.EqualValues(t, 60*mostOfOne, back.stock["TEAPOT-1L-TESTRUN"])
		require.Contains(t, back.stock, "VASE-SOLD-OUT-TESTRUN")
		require.Zero(t, back.stock["VASE-SOLD-OUT-TESTRUN"])
	})

	t.Run("a warehouse that is not there is named", func(t *testing.T) {
		t.Parallel()
		s := shopperAt(t, &fakeService{}, func(o *options) { o.inventory = o.addr })
		require.ErrorContains(t, s.fill(t.Context()), "fill the warehouse at "+s.opts.inventory)
	})

	t.Run("what the warehouse does not tell is a breach", func(t *testing.T) {
		t.Parallel()
		b := &books{inventory: true, shelves: []*shelf{{sku: "TEA", before: &inventoryv1.Stock{OnHand: 5}}}}
		for _, i := range []invariant{b.stockCommitted(), b.stockReleased(), b.stockConserved()} {
			require.Equal(t, []breach{{"TEA", "its stock is not known"}}, i.Broken, i.Name)
		}
	})
}
