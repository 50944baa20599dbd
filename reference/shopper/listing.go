package main

import (
	"strings"
	"time"

	orderv1 "github.com/slipwayhq/slipway/gen/slipway/order/v1"
)

// clockMargin is how far the clocks of replicas may be apart.
const clockMargin = time.Minute

// listing compares the pages of ListOrders with the purchases of a run.
type listing struct {
	customers  string               // prefix of this run's customer ids
	placed     map[string]*purchase // by order id
	unanswered []*purchase          // may be listed under an id that nobody knows
	listed     map[string]bool
	oldest     time.Time // when the run's first order was placed, by the service's clock
	unexpected []string  // ids of orders of this run that nobody placed
}

func newListing(purchases []*purchase, customers string) *listing {
	l := &listing{customers: customers, placed: map[string]*purchase{}, listed: map[string]bool{}}
	for _, p := range purchases {
		switch p.outcome {
		case acknowledged:
			l.placed[p.order.GetId()] = p
			created := p.order.GetCreateTime().AsTime()
			if l.oldest.IsZero() || created.Before(l.oldest) {
				l.oldest = created
			}
		case unanswered:
			l.unanswered = append(l.unanswered, p)
		case rejected:
		}
	}
	return l
}

// take compares one page and tells whether the next one may hold orders of this run.
func (l *listing) take(page []*orderv1.Order) (more bool) {
	ours := 0
	for _, order := range page {
		p, ok := l.placed[order.GetId()]
		switch {
		case ok && l.listed[order.GetId()]:
			p.blame("ListOrders shows the order twice")
		case ok:
			l.listed[order.GetId()] = true
			p.saw("ListOrders", order, 0)
		case strings.HasPrefix(order.GetCustomerId(), l.customers):
			l.claim(order)
		default:
			continue
		}
		ours++
	}
	if ours > 0 || len(page) == 0 {
		return len(page) > 0
	}
	last := page[len(page)-1].GetCreateTime().AsTime()
	return len(l.listed) < len(l.placed) && last.After(l.oldest.Add(-clockMargin))
}

// claim gives an order that was not acknowledged to a purchase that was not answered.
func (l *listing) claim(order *orderv1.Order) {
	for i, p := range l.unanswered {
		if p.differs(order) == "" {
			p.final = order
			l.unanswered = append(l.unanswered[:i], l.unanswered[i+1:]...)
			return
		}
	}
	l.unexpected = append(l.unexpected, order.GetId())
}

// loseRest notes why the orders that no page showed are lost.
func (l *listing) loseRest(format string, args ...any) {
	for id, p := range l.placed {
		if !l.listed[id] {
			p.lose(format, args...)
		}
	}
}
