package grpcapi

import (
	"google.golang.org/protobuf/types/known/timestamppb"

	orderv1 "github.com/slipwayhq/slipway/gen/slipway/order/v1"
	"github.com/slipwayhq/slipway/reference/order/domain"
)

var statusToProto = map[domain.Status]orderv1.OrderStatus{
	domain.Pending:   orderv1.OrderStatus_ORDER_STATUS_PENDING,
	domain.Confirmed: orderv1.OrderStatus_ORDER_STATUS_CONFIRMED,
	domain.Cancelled: orderv1.OrderStatus_ORDER_STATUS_CANCELLED,
}

// statusFromProto returns "" for UNSPECIFIED; validation has refused everything unknown.
func statusFromProto(s orderv1.OrderStatus) domain.Status {
	for status, p := range statusToProto {
		if p == s {
			return status
		}
	}
	return ""
}

func orderToProto(s domain.Snapshot) *orderv1.Order {
	o := &orderv1.Order{
		Id:           s.ID,
		CustomerId:   s.CustomerID,
		Status:       statusToProto[s.Status],
		Items:        make([]*orderv1.OrderItem, len(s.Items)),
		Total:        moneyToProto(s.Total),
		Version:      s.Version,
		CreateTime:   timestamppb.New(s.CreatedAt),
		UpdateTime:   timestamppb.New(s.UpdatedAt),
		CancelReason: s.CancelReason,
	}
	for i, item := range s.Items {
		o.Items[i] = &orderv1.OrderItem{Sku: item.SKU, Quantity: item.Quantity, UnitPrice: moneyToProto(item.UnitPrice)}
	}
	return o
}

func itemsFromProto(items []*orderv1.OrderItem) []domain.Item {
	out := make([]domain.Item, len(items))
	for i, item := range items {
		out[i] = domain.Item{
			SKU:      item.GetSku(),
			Quantity: item.GetQuantity(),
			UnitPrice: domain.Money{
				Currency: item.GetUnitPrice().GetCurrencyCode(),
				Minor:    item.GetUnitPrice().GetMinorUnits(),
			},
		}
	}
	return out
}

func moneyToProto(m domain.Money) *orderv1.Money {
	return &orderv1.Money{CurrencyCode: m.Currency, MinorUnits: m.Minor}
}
