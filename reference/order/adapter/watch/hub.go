// Package watch tells watchers of orders when to look again, with one small query at a time for all
// of them, however many there are.
package watch

import (
	"context"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/slipwayhq/slipway/platform/fault"
	"github.com/slipwayhq/slipway/reference/order/domain"
)

const (
	// interval is how soon a change on another replica is noticed; one on this replica is known at
	// once.
	interval = 250 * time.Millisecond
	// maxSubscriptions bounds what one replica holds open for watchers.
	maxSubscriptions = 10_000
)

// Versions reads the versions of orders.
type Versions interface {
	// Versions returns the version of each of the given orders that exists.
	Versions(ctx context.Context, ids []string) (map[string]int64, error)
}

// Hub implements the ports Changes and Listener of the use cases. While nobody watches, it asks
// nothing. It is safe for concurrent use.
type Hub struct {
	orders Versions
	logger *zap.Logger
	wake   chan struct{} // somebody watches again

	mu      sync.Mutex
	watched map[string]*watched
	open    int
}

// watched is an order that somebody watches.
type watched struct {
	version     int64
	subscribers map[chan struct{}]struct{}
}

// NewHub returns a hub that compares the versions in orders.
func NewHub(orders Versions, logger *zap.Logger) *Hub {
	return &Hub{orders: orders, logger: logger, wake: make(chan struct{}, 1), watched: map[string]*watched{}}
}

// Subscribe implements usecase.Changes.
func (h *Hub) Subscribe(id string) (<-chan struct{}, func(), error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.open >= maxSubscriptions {
		return nil, nil, fault.New(fault.ResourceExhausted, "too many watchers on this replica")
	}
	h.open++
	w, ok := h.watched[id]
	if !ok {
		w = &watched{subscribers: map[chan struct{}]struct{}{}}
		h.watched[id] = w
	}
	changed := make(chan struct{}, 1)
	w.subscribers[changed] = struct{}{}
	signal(h.wake)
	return changed, func() { h.unsubscribe(id, changed) }, nil
}

// OrderChanged implements usecase.Listener.
func (h *Hub) OrderChanged(_ context.Context, s domain.Snapshot) { h.seen(s.ID, s.Version) }

// Run compares versions until ctx ends. A failure is logged once until it is over; watchers wait
// that much longer.
func (h *Hub) Run(ctx context.Context) error {
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	failing := false
	for {
		ids := h.ids()
		if len(ids) == 0 {
			select {
			case <-h.wake:
				continue
			case <-ctx.Done():
				return nil
			}
		}
		err := h.compare(ctx, ids)
		if err != nil && !failing && ctx.Err() == nil {
			h.logger.Warn("watched orders are not followed", zap.Error(err))
		}
		failing = err != nil
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return nil
		}
	}
}

func (h *Hub) compare(ctx context.Context, ids []string) error {
	versions, err := h.orders.Versions(ctx, ids)
	if err != nil {
		return err
	}
	for id, version := range versions {
		h.seen(id, version)
	}
	return nil
}

// seen wakes the subscribers of an order that is newer than what they were told of.
func (h *Hub) seen(id string, version int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	w, ok := h.watched[id]
	if !ok || version <= w.version {
		return
	}
	w.version = version
	for changed := range w.subscribers {
		signal(changed)
	}
}

func (h *Hub) ids() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	ids := make([]string, 0, len(h.watched))
	for id := range h.watched {
		ids = append(ids, id)
	}
	return ids
}

func (h *Hub) unsubscribe(id string, changed chan struct{}) {
	h.mu.Lock()
	defer h.mu.Unlock()
	w, ok := h.watched[id]
	if !ok {
		return
	}
	if _, ok := w.subscribers[changed]; !ok {
		return
	}
	h.open--
	delete(w.subscribers, changed)
	if len(w.subscribers) == 0 {
		delete(h.watched, id)
	}
}

// signal leaves a value in a channel of one, if there is none yet.
func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
