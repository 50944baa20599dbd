package usecase

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"time"

	"github.com/slipwayhq/slipway/reference/order/domain"
)

// PlaceOrder accepts orders.
type PlaceOrder struct {
	Orders    Placer
	Listeners []Listener
	// NewID draws the id of an order, a UUIDv7: lists are sorted by it.
	NewID func() string
	Now   func() time.Time
}

// PlaceOrderCommand is what a caller asks for.
type PlaceOrderCommand struct {
	Owner          string
	IdempotencyKey string
	CustomerID     string
	Items          []domain.Item
	// CardToken is what the payment provider knows the customer's card by.
	CardToken string
}

// Execute stores a pending order with its event and begins its checkout. Repeated with the same key and content it returns
// the first order; with other content it fails with domain.ErrIdempotencyMismatch.
func (p *PlaceOrder) Execute(ctx context.Context, cmd PlaceOrderCommand) (domain.Snapshot, error) {
	order, err := domain.Place(domain.NewOrder{
		ID: p.NewID(), Owner: cmd.Owner, CustomerID: cmd.CustomerID, Items: cmd.Items,
	}, p.Now())
	if err != nil {
		return domain.Snapshot{}, err
	}
	placed, err := p.Orders.Place(ctx, order, Idempotency{
		Owner: cmd.Owner, Key: cmd.IdempotencyKey, Hash: cmd.hash(),
	}, checkoutOf(order.Snapshot(), cmd.CardToken))
	if err != nil {
		return domain.Snapshot{}, err
	}
	tell(ctx, p.Listeners, placed)
	return placed, nil
}

func checkoutOf(o domain.Snapshot, cardToken string) Checkout {
	return Checkout{OrderID: o.ID, Owner: o.Owner, Items: o.Items, Total: o.Total, CardToken: cardToken}
}

// hash covers every field but the key, each with its length before it, so that no two requests look
// alike. It depends on nothing but the content: not on the encoding, not on unknown fields.
func (c PlaceOrderCommand) hash() []byte {
	var b []byte
	text := func(s string) { b = append(binary.AppendUvarint(b, uint64(len(s))), s...) }
	text("place-order/2")
	text(c.CustomerID)
	text(c.CardToken)
	b = binary.AppendUvarint(b, uint64(len(c.Items)))
	for _, item := range c.Items {
		text(item.SKU)
		b = binary.AppendVarint(b, int64(item.Quantity))
		text(item.UnitPrice.Currency)
		b = binary.AppendVarint(b, item.UnitPrice.Minor)
	}
	sum := sha256.Sum256(b)
	return sum[:]
}

func tell(ctx context.Context, listeners []Listener, s domain.Snapshot) {
	for _, l := range listeners {
		l.OrderChanged(ctx, s)
	}
}
