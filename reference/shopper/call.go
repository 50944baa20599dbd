package main

import (
	"context"
	"math/rand/v2"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	orderv1 "github.com/slipwayhq/slipway/gen/slipway/order/v1"
)

const (
	firstBackoff = 50 * time.Millisecond
	lastBackoff  = 2 * time.Second
)

// changedMind is the reason that the customers give.
const changedMind = "changed my mind"

// isUnknown tells whether a call may have had its effect although it failed.
func isUnknown(err error) bool {
	switch status.Code(err) {
	case codes.Unavailable, codes.DeadlineExceeded, codes.Canceled:
		return true
	default:
		return false
	}
}

// isRetryable tells whether the same call may go well a moment later.
func isRetryable(err error) bool {
	return isUnknown(err) || status.Code(err) == codes.ResourceExhausted
}

// call runs one RPC and repeats it while its outcome is unknown or the service is busy, within what a call and
// the run may spend on retries. When ctx ends the attempt under way is finished and not
// repeated.
func (s *shopper) call(ctx context.Context, rpc func(context.Context) error) error {
	for attempt := 0; ; attempt++ {
		s.counts.calls.Add(1)
		bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.opts.callTimeout)
		err := rpc(bounded)
		cancel()
		if err == nil || !isRetryable(err) || attempt == s.opts.retries {
			return err
		}
		if !wait(ctx, backoff(attempt)) || s.budget.Add(-1) < 0 {
			return err
		}
		s.counts.retries.Add(1)
	}
}

// cancel cancels an order that was placed. One that is confirmed already cannot be cancelled.
func (s *shopper) cancel(ctx context.Context, p *purchase) {
	var order *orderv1.Order
	before := p.version()
	err := s.call(ctx, func(ctx context.Context) error {
		response, err := s.orders.CancelOrder(ctx, &orderv1.CancelOrderRequest{
			OrderId: p.order.GetId(), Reason: changedMind,
		})
		order = response.GetOrder()
		return err
	})
	switch {
	case err == nil:
		s.counts.cancelled.Add(1)
		p.markCancelled()
		p.saw("CancelOrder", order, before)
		if order.GetStatus() != orderv1.OrderStatus_ORDER_STATUS_CANCELLED {
			p.blame("CancelOrder answered with status %s", order.GetStatus())
		}
	case status.Code(err) == codes.FailedPrecondition:
		s.counts.tooLate.Add(1)
	case !isRetryable(err):
		p.blame("CancelOrder was answered with: %v", err)
	}
}

// backoff is half fixed and half random, doubles with each attempt and is capped.
func backoff(attempt int) time.Duration {
	d := min(lastBackoff, firstBackoff<<min(attempt, 10))
	return d/2 + rand.N(d/2)
}

// wait returns false if ctx ended first.
func wait(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}
