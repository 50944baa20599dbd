// Package messaging has reservations follow the events of orders: what is confirmed is committed.
package messaging

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"google.golang.org/protobuf/proto"

	orderv1 "github.com/slipwayhq/slipway/gen/slipway/order/v1"
	"github.com/slipwayhq/slipway/platform/broker"
	"github.com/slipwayhq/slipway/platform/inbox"
	"github.com/slipwayhq/slipway/reference/inventory/domain"
)

// Subject is what is consumed.
const Subject = "order.confirmed"

// schemaVersion is the version of the payload that is understood.
const schemaVersion = "1"

// Commit commits the reservations of confirmed orders.
type Commit struct {
	// Execute commits the reservation of an order in tx.
	Execute func(ctx context.Context, tx pgx.Tx, orderID string) (domain.Snapshot, error)
}

// Handle is the handler of the inbox: the stock changes in the transaction that marks the message as
// applied. A confirmed order for which nothing is held breaks a promise between services: no further
// attempt mends it. Other events of orders change nothing; what a cancelled one held is released by the
// checkout.
func (c *Commit) Handle(ctx context.Context, tx pgx.Tx, m broker.Message) error {
	if m.Subject != Subject {
		return nil
	}
	if version := m.Headers[broker.HeaderEventVersion]; version != schemaVersion {
		return inbox.Permanent(fmt.Errorf("version %q of %s is unknown", version, m.Subject))
	}
	var confirmed orderv1.OrderConfirmed
	if err := proto.Unmarshal(m.Payload, &confirmed); err != nil {
		return inbox.Permanent(fmt.Errorf("read event %s: %w", m.Subject, err))
	}
	_, err := c.Execute(ctx, tx, confirmed.GetOrderId())
	if errors.Is(err, domain.ErrNotFound) || errors.Is(err, domain.ErrInvalidTransition) {
		return inbox.Permanent(fmt.Errorf("order %q is confirmed and holds no stock: %w", confirmed.GetOrderId(), err))
	}
	return err
}
