package main

import (
	"context"
	"slices"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	inventoryv1 "github.com/slipwayhq/slipway/gen/slipway/inventory/v1"
	orderv1 "github.com/slipwayhq/slipway/gen/slipway/order/v1"
	paymentv1 "github.com/slipwayhq/slipway/gen/slipway/payment/v1"
)

// office is the payment and the inventory service of a fake. What they have follows from its orders.
type office struct {
	paymentv1.UnimplementedPaymentServiceServer
	inventoryv1.UnimplementedInventoryServiceServer

	lag       int                     // looks at a payment until it is captured or let go
	stolen    int64                   // pieces that vanish from each shelf
	forgotten paymentv1.PaymentStatus // what payments of confirmed orders are instead of CAPTURED
	down      bool                    // GetPayment fails

	shop  *fakeService
	mu    sync.Mutex
	looks map[string]int // by order id
	stock map[string]int64
}

func (o *office) serve(server *grpc.Server, shop *fakeService) {
	o.shop, o.looks, o.stock = shop, map[string]int{}, map[string]int64{}
	paymentv1.RegisterPaymentServiceServer(server, o)
	inventoryv1.RegisterInventoryServiceServer(server, o)
}

func (o *office) GetPayment(_ context.Context, r *paymentv1.GetPaymentRequest) (*paymentv1.GetPaymentResponse, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.shop.mu.Lock()
	defer o.shop.mu.Unlock()
	order, err := o.shop.find(r.GetOrderId())
	if err != nil {
		return nil, err
	}
	if o.down {
		return nil, status.Error(codes.Internal, "the books are on fire")
	}
	o.looks[order.GetId()]++
	payment := &paymentv1.Payment{OrderId: order.GetId(), Status: paymentv1.PaymentStatus_PAYMENT_STATUS_CAPTURED, Amount: &paymentv1.Money{
		CurrencyCode: order.GetTotal().GetCurrencyCode(), MinorUnits: order.GetTotal().GetMinorUnits(),
	}}
	switch {
	case o.looks[order.GetId()] <= o.lag:
		payment.Status = paymentv1.PaymentStatus_PAYMENT_STATUS_AUTHORIZED
	case isCancelled(order) && order.GetCancelReason() != changedMind:
		return nil, status.Error(codes.NotFound, "no such payment")
	case isCancelled(order):
		payment.Status = paymentv1.PaymentStatus_PAYMENT_STATUS_VOIDED
	case o.forgotten != 0:
		payment.Status = o.forgotten
	}
	return &paymentv1.GetPaymentResponse{Payment: payment}, nil
}

func (o *office) SetStock(_ context.Context, r *inventoryv1.SetStockRequest) (*inventoryv1.SetStockResponse, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.stock[r.GetSku()] = r.GetOnHand()
	return &inventoryv1.SetStockResponse{Stock: &inventoryv1.Stock{Sku: r.GetSku(), OnHand: r.GetOnHand()}}, nil
}

func (o *office) GetStock(_ context.Context, r *inventoryv1.GetStockRequest) (*inventoryv1.GetStockResponse, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.shop.mu.Lock()
	defer o.shop.mu.Unlock()
	response := &inventoryv1.GetStockResponse{}
	for sku, initial := range o.stock {
		if !slices.Contains(r.GetSkus(), sku) {
			continue
		}
		stock := &inventoryv1.Stock{Sku: sku, OnHand: initial - o.stolen}
		for _, order := range o.shop.orders {
			for _, item := range order.GetItems() {
				switch {
				case item.GetSku() != sku:
				case isConfirmed(order):
					stock.OnHand -= int64(item.GetQuantity())
					stock.Committed += int64(item.GetQuantity())
				case order.GetStatus() == orderv1.OrderStatus_ORDER_STATUS_PENDING:
					stock.Reserved += int64(item.GetQuantity())
				}
			}
		}
		response.Stocks = append(response.Stocks, stock)
	}
	return response, nil
}
