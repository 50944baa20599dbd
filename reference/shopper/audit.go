package main

import (
	"context"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	orderv1 "github.com/slipwayhq/slipway/gen/slipway/order/v1"
	paymentv1 "github.com/slipwayhq/slipway/gen/slipway/payment/v1"
)

// audits tells whether payments or stock are checked.
func (s *shopper) audits() bool { return s.payments != nil || s.inventory != nil }

// audit asks what became of the orders, of their payments and of the stock, until all of it has come
// to rest or the wait is over: what follows a confirmation happens after the answer to the customer.
func (s *shopper) audit(ctx context.Context) {
	if !s.audits() {
		return
	}
	s.counts.phase.Store(phaseAuditing)
	ctx, cancel := context.WithTimeout(ctx, s.opts.wait+s.readingTime())
	defer cancel()
	deadline := time.Now().Add(s.opts.wait)
	for attempt := 0; ; attempt++ {
		s.look(ctx)
		if s.books().rest() || time.Now().After(deadline) || !wait(ctx, backoff(attempt)) {
			return
		}
	}
}

// look asks for everything that has not come to rest.
func (s *shopper) look(ctx context.Context) {
	var group errgroup.Group
	group.SetLimit(readers)
	for _, p := range s.purchases {
		if p.state() != nil && !p.rests(s.payments != nil) {
			group.Go(func() error {
				s.lookAt(ctx, p)
				return nil
			})
		}
	}
	_ = group.Wait()
	if s.inventory != nil {
		s.takeStock(ctx)
	}
}

// lookAt asks for the order before its payment, so that the payment is never older than what it is held
// against.
func (s *shopper) lookAt(ctx context.Context, p *purchase) {
	if !isFinal(p.state()) {
		before := p.version()
		err := s.call(ctx, func(ctx context.Context) error {
			response, err := s.orders.GetOrder(ctx, &orderv1.GetOrderRequest{OrderId: p.state().GetId()})
			if err == nil {
				p.final = response.GetOrder()
			}
			return err
		})
		if err == nil {
			p.saw("GetOrder", p.final, before)
		}
	}
	if s.payments == nil {
		return
	}
	p.unpaid = s.call(ctx, func(ctx context.Context) error {
		response, err := s.payments.GetPayment(ctx, &paymentv1.GetPaymentRequest{OrderId: p.state().GetId()})
		p.payment = response.GetPayment()
		if status.Code(err) == codes.NotFound {
			return nil
		}
		return err
	})
	p.asked = p.unpaid == nil
}

// rests tells whether nothing more is to happen to the order and to its payment.
func (p *purchase) rests(payment bool) bool {
	if !isFinal(p.state()) {
		return false
	}
	if !payment {
		return true
	}
	if !p.asked {
		return false
	}
	switch p.payment.GetStatus() {
	case paymentv1.PaymentStatus_PAYMENT_STATUS_AUTHORIZING, paymentv1.PaymentStatus_PAYMENT_STATUS_AUTHORIZED,
		paymentv1.PaymentStatus_PAYMENT_STATUS_VOIDING, paymentv1.PaymentStatus_PAYMENT_STATUS_CAPTURING,
		paymentv1.PaymentStatus_PAYMENT_STATUS_REFUNDING:
		return false
	default:
		return true
	}
}
