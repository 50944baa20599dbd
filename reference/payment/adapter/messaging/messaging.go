// Package messaging has payments follow the events of orders: what is confirmed is captured.
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
	"github.com/slipwayhq/slipway/reference/payment/domain"
)

// Subject is what is consumed.
const Subject = "order.confirmed"

// schemaVersion is the version of the payload that is understood.
const schemaVersion = "1"

// Capture takes up the capture of an order's payment.
type Capture struct {
	// Begin notes in tx that the payment of an order is to be captured.
	Begin func(ctx context.Context, tx pgx.Tx, orderID string) (domain.Snapshot, error)
	// Wake says that there is something to settle when the transaction is over.
	Wake func()
}

// Handle is the handler of the inbox. What it notes is in the transaction that marks the message as
// applied; the provider is called after that, by whoever settles payments. A confirmed order without
// an authorized payment breaks a promise between services: no further attempt mends it.
func (c *Capture) Handle(ctx context.Context, tx pgx.Tx, m broker.Message) error {
	if version := m.Headers[broker.HeaderEventVersion]; version != schemaVersion {
		return inbox.Permanent(fmt.Errorf("version %q of %s is unknown", version, m.Subject))
	}
	var confirmed orderv1.OrderConfirmed
	if err := proto.Unmarshal(m.Payload, &confirmed); err != nil {
		return inbox.Permanent(fmt.Errorf("read event %s: %w", m.Subject, err))
	}
	payment, err := c.Begin(ctx, tx, confirmed.GetOrderId())
	switch {
	case errors.Is(err, domain.ErrNotFound), errors.Is(err, domain.ErrInvalidTransition), errors.Is(err, domain.ErrPending):
		return inbox.Permanent(fmt.Errorf("order %s is confirmed and has no authorized payment: %w", confirmed.GetOrderId(), err))
	case err != nil:
		return err
	}
	if total := money(confirmed.GetTotal()); payment.Amount != total {
		return inbox.Permanent(fmt.Errorf("order %s is confirmed with %d %s, but its payment is of %d %s",
			confirmed.GetOrderId(), total.Minor, total.Currency, payment.Amount.Minor, payment.Amount.Currency))
	}
	c.Wake()
	return nil
}

func money(m *orderv1.Money) domain.Money {
	return domain.Money{Currency: m.GetCurrencyCode(), Minor: m.GetMinorUnits()}
}
