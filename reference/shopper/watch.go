package main

import (
	"context"
	"errors"
	"io"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	orderv1 "github.com/slipwayhq/slipway/gen/slipway/order/v1"
)

// watch follows an order until it is final, for at most the time that the options give. A stream
// that breaks, as it does when the server drains, is opened again where it was.
func (s *shopper) watch(ctx context.Context, p *purchase) {
	ctx, cancel := context.WithTimeout(ctx, s.opts.wait)
	defer cancel()
	select {
	case s.watchSlots <- struct{}{}:
		defer func() { <-s.watchSlots }()
	case <-ctx.Done():
		return
	}
	s.counts.watched.Add(1)
	s.counts.watching.Add(1)
	defer s.counts.watching.Add(-1)

	known := int64(0)
	for attempt := 0; ; attempt++ {
		before := known
		final, err := s.follow(ctx, p, &known)
		switch {
		case final:
			s.counts.settled.Add(1)
			return
		case ctx.Err() != nil || status.Code(err) == codes.DeadlineExceeded: // the server may be first
			return
		case errors.Is(err, io.EOF):
			p.blame("WatchOrder ended although the order was not final")
			return
		case !isRetryable(err):
			p.blame("WatchOrder was answered with: %v", err)
			return
		}
		if known > before {
			attempt = 0
		}
		if !wait(ctx, backoff(attempt)) {
			return
		}
		s.counts.reconnect.Add(1)
	}
}

// follow reads one stream and tells whether it came to a final state. known is the version that
// was seen last, and is moved on.
func (s *shopper) follow(ctx context.Context, p *purchase, known *int64) (final bool, err error) {
	s.counts.calls.Add(1)
	stream, err := s.streams.WatchOrder(ctx, &orderv1.WatchOrderRequest{OrderId: p.order.GetId(), KnownVersion: *known})
	if err != nil {
		return false, err
	}
	for {
		message, err := stream.Recv()
		if err != nil {
			return false, err
		}
		order := message.GetOrder()
		p.saw("WatchOrder", order, *known+1)
		*known = max(*known, order.GetVersion())
		if isFinal(order) {
			return true, nil
		}
	}
}
