package main

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	orderv1 "github.com/slipwayhq/slipway/gen/slipway/order/v1"
)

// lateAfter is when an order that had to wait for a free place counts as started late.
const lateAfter = 50 * time.Millisecond

// The phases of a run.
const (
	phasePlacing  = "placing"
	phaseWatching = "watching"
	phaseReading  = "reading back"
	phaseAuditing = "checking payments and stock"
)

// shopper places the orders of one run and remembers them.
type shopper struct {
	*services

	opts   options
	wishes wishlist

	purchases  []*purchase
	latency    latencies
	counts     counts
	budget     atomic.Int64 // retries left for the whole run
	watchSlots chan struct{}
	begin      time.Time
	lastAnswer atomic.Int64 // Unix nanoseconds
	unexpected []string     // orders in the lists that nobody placed
	shelves    []*shelf
}

// counts are moved by many goroutines and read by the progress display.
type counts struct {
	calls, retries, placed, failed, late  atomic.Int64
	repeated, repeatedRight               atomic.Int64
	cancelled, tooLate                    atomic.Int64
	watched, watching, settled, reconnect atomic.Int64
	readByID, readInList                  atomic.Int64
	phase                                 atomic.Value // string
}

func newShopper(opts options, run string, clients *services) *shopper {
	s := &shopper{
		services:   clients,
		opts:       opts,
		wishes:     wishlist{run: run, seed: opts.seed, ownGoods: opts.inventory != "", shares: opts.shares},
		watchSlots: make(chan struct{}, opts.watch),
	}
	s.budget.Store(int64(opts.orders*max(opts.retries/4, 2) + 100))
	s.counts.phase.Store(phasePlacing)
	return s
}

// shop places the orders and sees them through until they are final or were watched for long
// enough. When ctx ends no order is started any more and nothing is watched; calls under way
// are finished.
func (s *shopper) shop(ctx context.Context) {
	var buyers, watchers sync.WaitGroup
	s.begin = time.Now()
	places := make(chan struct{}, s.opts.concurrency)
	pace(ctx, s.opts.orders, s.opts.rate, func(i int, due time.Time) {
		select {
		case places <- struct{}{}:
		case <-ctx.Done():
			return
		}
		if time.Since(due) > lateAfter {
			s.counts.late.Add(1)
		}
		p := &purchase{wish: s.wishes.wish(i), due: due}
		s.purchases = append(s.purchases, p)
		buyers.Go(func() {
			defer func() { <-places }()
			s.buy(ctx, p, &watchers)
		})
	})
	buyers.Wait()
	s.counts.phase.Store(phaseWatching)
	watchers.Wait()
}

// buy places one order and does with it what was wished for.
func (s *shopper) buy(ctx context.Context, p *purchase, watchers *sync.WaitGroup) {
	again := func() (*orderv1.Order, error) { return s.place(ctx, p) }
	if p.atOnce {
		again = async(again)
	}
	order, err := s.place(ctx, p)
	s.record(p, order, err)
	if p.repeat {
		s.recordRepeat(p, again)
	}
	s.count(p)
	if p.outcome != acknowledged {
		return
	}
	if s.opts.watch > 0 {
		watchers.Go(func() { s.watch(ctx, p) })
	}
	if p.cancel {
		s.cancel(ctx, p)
	}
}

// record keeps the answer to PlaceOrder.
func (s *shopper) record(p *purchase, order *orderv1.Order, err error) {
	switch {
	case err == nil:
		now := time.Now()
		s.latency.add(now.Sub(p.due))
		s.lastAnswer.Store(now.UnixNano())
		p.outcome = acknowledged
		p.saw("PlaceOrder", order, 0)
		p.order = order
	case isUnknown(err):
		p.outcome, p.reason = unanswered, err.Error()
	default:
		p.outcome, p.reason = rejected, err.Error()
	}
}

// recordRepeat checks that the same key gave the same order, or takes the order that only the
// repeated call was answered with.
func (s *shopper) recordRepeat(p *purchase, again func() (*orderv1.Order, error)) {
	s.counts.repeated.Add(1)
	order, err := again()
	switch {
	case err == nil && p.outcome != acknowledged:
		s.record(p, order, nil)
	case err == nil && order.GetId() == p.order.GetId():
		s.counts.repeatedRight.Add(1)
		p.saw("PlaceOrder with the same key", order, 0)
	case err == nil:
		p.double = order.GetId()
		p.blame("the same key gave order %s, too", order.GetId())
	case p.outcome == acknowledged && !isRetryable(err):
		p.blame("the same key was answered with: %v", err)
	}
}

func (s *shopper) count(p *purchase) {
	if p.outcome == acknowledged {
		s.counts.placed.Add(1)
	} else {
		s.counts.failed.Add(1)
	}
}

func (s *shopper) place(ctx context.Context, p *purchase) (order *orderv1.Order, err error) {
	err = s.call(ctx, func(ctx context.Context) error {
		response, err := s.orders.PlaceOrder(ctx, p.request)
		order = response.GetOrder()
		return err
	})
	return order, err
}

// async starts f now and returns a function that waits for its result.
func async[T any](f func() (T, error)) func() (T, error) {
	var value T
	var err error
	done := make(chan struct{})
	go func() {
		defer close(done)
		value, err = f()
	}()
	return func() (T, error) {
		<-done
		return value, err
	}
}
