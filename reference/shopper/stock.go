package main

import (
	"context"
	"fmt"

	"google.golang.org/grpc"

	inventoryv1 "github.com/slipwayhq/slipway/gen/slipway/inventory/v1"
	"github.com/slipwayhq/slipway/platform/grpcclient"
)

// enough is what the warehouse should have of everything that is ordered.
const enough = 1_000_000

// stockUp fills the warehouse of the inventory service.
func stockUp(ctx context.Context, opts options) error {
	conn, err := grpcclient.Dial(opts.client(opts.inventory))
	if err != nil {
		return err
	}
	defer conn.Close()
	return fill(ctx, conn)
}

// fill sees to it that nothing sells out: an article of which the warehouse has less than enough
// free gets so much more.
func fill(ctx context.Context, conn grpc.ClientConnInterface) error {
	client := inventoryv1.NewInventoryServiceClient(conn)
	for _, w := range wares {
		resp, err := client.GetStock(ctx, &inventoryv1.GetStockRequest{Skus: []string{w.sku}})
		if err != nil {
			return fmt.Errorf("look into the warehouse: %w", err)
		}
		set := &inventoryv1.SetStockRequest{Sku: w.sku, OnHand: enough}
		if known := resp.GetStocks(); len(known) > 0 {
			if known[0].GetOnHand()-known[0].GetReserved() >= enough/2 {
				continue
			}
			set.OnHand += known[0].GetReserved()
		}
		if _, err := client.SetStock(ctx, set); err != nil {
			return fmt.Errorf("fill the warehouse: %w", err)
		}
	}
	return nil
}
