package main

import (
	"cmp"
	"fmt"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"

	orderv1 "github.com/slipwayhq/slipway/gen/slipway/order/v1"
	paymentv1 "github.com/slipwayhq/slipway/gen/slipway/payment/v1"
)

// outcome is what the shopper knows of a purchase.
type outcome string

const (
	acknowledged outcome = "placed"     // the service answered with an order
	rejected     outcome = "rejected"   // the service refused it
	unanswered   outcome = "unanswered" // it may or may not have been placed
)

// purchase is one order from the wish to what was read back.
type purchase struct {
	wish

	due     time.Time
	outcome outcome
	reason  string         // why it is not acknowledged
	order   *orderv1.Order // as acknowledged
	final   *orderv1.Order // as read back by id; nil if it was not
	double  string         // another order that the same key gave

	payment *paymentv1.Payment // nil if there is none
	asked   bool               // payment has said so
	unpaid  error              // why it did not

	mu        sync.Mutex
	seen      int64 // highest version that the service showed
	cancelled bool  // the service acknowledged the cancellation
	lost      string
	wrong     string
}

// lose notes that the acknowledged order cannot be read; the first reason stays.
func (p *purchase) lose(format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.lost == "" {
		p.lost = fmt.Sprintf(format, args...)
	}
}

// blame notes that the service did something wrong with the order; the first reason stays.
func (p *purchase) blame(format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.wrong == "" {
		p.wrong = fmt.Sprintf(format, args...)
	}
}

// saw compares an order that the service showed with what was placed, and with the versions
// that it showed before the call that this is the answer of.
func (p *purchase) saw(where string, o *orderv1.Order, before int64) {
	if difference := p.differs(o); difference != "" {
		p.blame("%s shows %s", where, difference)
	}
	if o.GetVersion() < before {
		p.blame("%s shows version %d after version %d was seen", where, o.GetVersion(), before)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.seen = max(p.seen, o.GetVersion())
}

// version returns the highest version that was seen so far.
func (p *purchase) version() int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.seen
}

func (p *purchase) markCancelled() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cancelled = true
}

// differs says in which way o is not the order that was wished for, or "".
func (p *purchase) differs(o *orderv1.Order) string {
	want := p.request
	switch {
	case p.order != nil && o.GetId() != p.order.GetId():
		return fmt.Sprintf("order %s instead of %s", o.GetId(), p.order.GetId())
	case o.GetId() == "":
		return "no order id"
	case o.GetCustomerId() != want.GetCustomerId():
		return fmt.Sprintf("customer %q instead of %q", o.GetCustomerId(), want.GetCustomerId())
	case len(o.GetItems()) != len(want.GetItems()):
		return fmt.Sprintf("%d items instead of %d", len(o.GetItems()), len(want.GetItems()))
	}
	for i, item := range want.GetItems() {
		if !proto.Equal(item, o.GetItems()[i]) {
			return fmt.Sprintf("item %d as {%v} instead of {%v}", i+1, o.GetItems()[i], item)
		}
	}
	if sum := total(want.GetItems()); !proto.Equal(sum, o.GetTotal()) {
		return fmt.Sprintf("the total {%v} instead of {%v}", o.GetTotal(), sum)
	}
	return ""
}

// state returns the order as it was seen last, or nil if it is not known.
func (p *purchase) state() *orderv1.Order { return cmp.Or(p.final, p.order) }

func isFinal(o *orderv1.Order) bool { return isConfirmed(o) || isCancelled(o) }

func isConfirmed(o *orderv1.Order) bool {
	return o.GetStatus() == orderv1.OrderStatus_ORDER_STATUS_CONFIRMED
}

func isCancelled(o *orderv1.Order) bool {
	return o.GetStatus() == orderv1.OrderStatus_ORDER_STATUS_CANCELLED
}
