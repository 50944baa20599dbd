package grpcapi

import (
	"google.golang.org/protobuf/types/known/timestamppb"

	paymentv1 "github.com/slipwayhq/slipway/gen/slipway/payment/v1"
	"github.com/slipwayhq/slipway/reference/payment/domain"
)

var statusToProto = map[domain.Status]paymentv1.PaymentStatus{
	domain.Authorizing: paymentv1.PaymentStatus_PAYMENT_STATUS_AUTHORIZING,
	domain.Authorized:  paymentv1.PaymentStatus_PAYMENT_STATUS_AUTHORIZED,
	domain.Declined:    paymentv1.PaymentStatus_PAYMENT_STATUS_DECLINED,
	domain.Voiding:     paymentv1.PaymentStatus_PAYMENT_STATUS_VOIDING,
	domain.Voided:      paymentv1.PaymentStatus_PAYMENT_STATUS_VOIDED,
	domain.Capturing:   paymentv1.PaymentStatus_PAYMENT_STATUS_CAPTURING,
	domain.Captured:    paymentv1.PaymentStatus_PAYMENT_STATUS_CAPTURED,
	domain.Refunding:   paymentv1.PaymentStatus_PAYMENT_STATUS_REFUNDING,
	domain.Refunded:    paymentv1.PaymentStatus_PAYMENT_STATUS_REFUNDED,
}

func paymentToProto(s domain.Snapshot) *paymentv1.Payment {
	return &paymentv1.Payment{
		Id:            s.ID,
		OrderId:       s.OrderID,
		Status:        statusToProto[s.Status],
		Amount:        &paymentv1.Money{CurrencyCode: s.Amount.Currency, MinorUnits: s.Amount.Minor},
		DeclineReason: s.DeclineReason,
		Version:       s.Version,
		CreateTime:    timestamppb.New(s.CreatedAt),
		UpdateTime:    timestamppb.New(s.UpdatedAt),
	}
}

func moneyFromProto(m *paymentv1.Money) domain.Money {
	return domain.Money{Currency: m.GetCurrencyCode(), Minor: m.GetMinorUnits()}
}
