package clients

import (
	"context"

	inventoryv1 "github.com/slipwayhq/slipway/gen/slipway/inventory/v1"
	"github.com/slipwayhq/slipway/reference/order/domain"
	"github.com/slipwayhq/slipway/reference/order/usecase"
)

// Inventory implements the port of the use cases. It is safe for concurrent use.
type Inventory struct {
	service inventoryv1.InventoryServiceClient
}

// NewInventory returns the inventory that service is.
func NewInventory(service inventoryv1.InventoryServiceClient) *Inventory {
	return &Inventory{service: service}
}

var inventoryRefusals = refusals{
	"OUT_OF_STOCK":         usecase.OutOfStock,
	"RESERVATION_RELEASED": "the reservation was released",
}

// Reserve implements usecase.Inventory.
func (i *Inventory) Reserve(ctx context.Context, key, orderID string, items []domain.Item) error {
	req := &inventoryv1.ReserveRequest{IdempotencyKey: key, OrderId: orderID}
	for _, item := range items {
		req.Lines = append(req.Lines, &inventoryv1.Line{Sku: item.SKU, Quantity: int64(item.Quantity)})
	}
	_, err := i.service.Reserve(ctx, req)
	return inventoryRefusals.mark("reserve stock", err)
}

// Release implements usecase.Inventory.
func (i *Inventory) Release(ctx context.Context, key, orderID string) error {
	_, err := i.service.Release(ctx, &inventoryv1.ReleaseRequest{IdempotencyKey: key, OrderId: orderID})
	return inventoryRefusals.mark("release stock", err)
}
