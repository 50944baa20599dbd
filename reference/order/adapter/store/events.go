package store

import (
	"fmt"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	orderv1 "github.com/slipwayhq/slipway/gen/slipway/order/v1"
	"github.com/slipwayhq/slipway/platform/outbox"
	"github.com/slipwayhq/slipway/reference/order/domain"
)

const (
	aggregateType = "order"
	schemaVersion = 1
)

// outboxEvents gives the events of one order the form in which they leave the service.
func outboxEvents(orderID string, events []domain.Event) ([]outbox.Event, error) {
	out := make([]outbox.Event, len(events))
	for i, e := range events {
		name, message := payload(e)
		encoded, err := proto.MarshalOptions{Deterministic: true}.Marshal(message)
		if err != nil {
			return nil, fmt.Errorf("encode event %s: %w", name, err)
		}
		out[i] = outbox.Event{
			AggregateType:    aggregateType,
			AggregateID:      orderID,
			AggregateVersion: e.Version(),
			Type:             name,
			Version:          schemaVersion,
			Payload:          encoded,
		}
	}
	return out, nil
}

func payload(e domain.Event) (name string, message proto.Message) {
	switch e := e.(type) {
	case domain.OrderPlaced:
		return "order.placed", &orderv1.OrderPlaced{Order: orderMessage(e.Order)}
	case domain.OrderConfirmed:
		return "order.confirmed", &orderv1.OrderConfirmed{
			OrderId: e.OrderID, OrderVersion: e.OrderVersion, Total: moneyMessage(e.Total), ConfirmTime: timestamppb.New(e.At),
		}
	case domain.OrderCancelled:
		return "order.cancelled", &orderv1.OrderCancelled{
			OrderId: e.OrderID, OrderVersion: e.OrderVersion, Reason: e.Reason, CancelTime: timestamppb.New(e.At),
		}
	}
	panic(fmt.Sprintf("event %T has no payload", e)) // A new event without a case here: a test places each.
}

// orderMessage is the order as it was placed; the event has no use for what may follow.
func orderMessage(s domain.Snapshot) *orderv1.Order {
	m := &orderv1.Order{
		Id:         s.ID,
		CustomerId: s.CustomerID,
		Status:     orderv1.OrderStatus_ORDER_STATUS_PENDING,
		Total:      moneyMessage(s.Total),
		Version:    s.Version,
		CreateTime: timestamppb.New(s.CreatedAt),
		UpdateTime: timestamppb.New(s.UpdatedAt),
	}
	for _, item := range s.Items {
		m.Items = append(m.Items, &orderv1.OrderItem{
			Sku: item.SKU, Quantity: item.Quantity, UnitPrice: moneyMessage(item.UnitPrice),
		})
	}
	return m
}

func moneyMessage(m domain.Money) *orderv1.Money {
	return &orderv1.Money{CurrencyCode: m.Currency, MinorUnits: m.Minor}
}
