package main

import (
	"context"
	"time"

	"golang.org/x/sync/errgroup"

	orderv1 "github.com/slipwayhq/slipway/gen/slipway/order/v1"
)

// readers is how many orders are read back at the same time.
const readers = 16

// reconcile reads back every order that was acknowledged, by id and in the lists. What is missing
// is lost, what differs is wrong; and so is an order of this run that nobody placed.
func (s *shopper) reconcile(ctx context.Context) {
	s.counts.phase.Store(phaseReading)
	ctx, cancel := context.WithTimeout(ctx, s.readingTime())
	defer cancel()
	var group errgroup.Group
	group.SetLimit(readers)
	for _, p := range s.purchases {
		if p.outcome == acknowledged {
			group.Go(func() error {
				s.readBack(ctx, p)
				return nil
			})
		}
	}
	_ = group.Wait()
	s.readLists(ctx)
}

// readingTime bounds how long one call for each order may take.
func (s *shopper) readingTime() time.Duration {
	return time.Minute + time.Duration(len(s.purchases))*10*time.Millisecond
}

// readBack compares what GetOrder shows with what was placed and with what was seen before.
func (s *shopper) readBack(ctx context.Context, p *purchase) {
	if ctx.Err() != nil {
		p.lose("there was no time left to read it back")
		return
	}
	var order *orderv1.Order
	before := p.version()
	err := s.call(ctx, func(ctx context.Context) error {
		response, err := s.orders.GetOrder(ctx, &orderv1.GetOrderRequest{OrderId: p.order.GetId()})
		order = response.GetOrder()
		return err
	})
	if err != nil {
		p.lose("GetOrder was answered with: %v", err)
		return
	}
	s.counts.readByID.Add(1)
	p.final = order
	if p.cancelled && order.GetStatus() != orderv1.OrderStatus_ORDER_STATUS_CANCELLED {
		p.blame("GetOrder shows status %s after the order was cancelled", order.GetStatus())
	}
	if p.refused != "" && order.GetStatus() == orderv1.OrderStatus_ORDER_STATUS_CONFIRMED {
		p.blame("GetOrder shows status %s although %s", order.GetStatus(), p.refused)
	}
	p.saw("GetOrder", order, before)
}

// readLists pages through the caller's orders, newest first, until all orders of this run were
// met and none can follow.
func (s *shopper) readLists(ctx context.Context) {
	l := newListing(s.purchases, s.wishes.customers())
	if len(l.placed) == 0 {
		return
	}
	for token := ""; ; {
		page, err := s.listPage(ctx, token)
		if err != nil {
			l.loseRest("ListOrders was answered with: %v", err)
			break
		}
		more := l.take(page.GetOrders())
		if token = page.GetNextPageToken(); token == "" || !more {
			l.loseRest("no page of ListOrders shows the order")
			break
		}
	}
	s.counts.readInList.Store(int64(len(l.listed)))
	s.unexpected = l.unexpected
}

func (s *shopper) listPage(ctx context.Context, token string) (page *orderv1.ListOrdersResponse, err error) {
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	err = s.call(ctx, func(ctx context.Context) error {
		page, err = s.orders.ListOrders(ctx, &orderv1.ListOrdersRequest{PageSize: 100, PageToken: token})
		return err
	})
	return page, err
}
