package main

import (
	"context"
	"fmt"

	inventoryv1 "github.com/slipwayhq/slipway/gen/slipway/inventory/v1"
)

// shelf is where the warehouse keeps an article that only this run orders.
type shelf struct {
	sku           string
	before, after *inventoryv1.Stock // after is nil if inventory did not say
}

// fill puts goods of this run's own into the warehouse, if it may use it: enough of everything, and
// nothing of what is sold out.
func (s *shopper) fill(ctx context.Context) error {
	if s.inventory == nil {
		return nil
	}
	if err := s.setStock(ctx, soldOut, 0); err != nil {
		return err
	}
	for _, w := range wares {
		if err := s.setStock(ctx, w, int64(s.opts.orders)*mostOfOne); err != nil {
			return err
		}
	}
	return nil
}

func (s *shopper) setStock(ctx context.Context, w ware, pieces int64) error {
	request := &inventoryv1.SetStockRequest{Sku: s.wishes.sku(w), OnHand: pieces}
	var stock *inventoryv1.Stock
	err := s.call(ctx, func(ctx context.Context) error {
		response, err := s.inventory.SetStock(ctx, request)
		stock = response.GetStock()
		return err
	})
	if err != nil {
		return fmt.Errorf("fill the warehouse at %s: %w", s.opts.inventory, err)
	}
	s.shelves = append(s.shelves, &shelf{sku: request.GetSku(), before: stock})
	return nil
}

// takeStock looks what is on the shelves.
func (s *shopper) takeStock(ctx context.Context) {
	request := &inventoryv1.GetStockRequest{}
	for _, shelf := range s.shelves {
		request.Skus = append(request.Skus, shelf.sku)
	}
	var found []*inventoryv1.Stock
	_ = s.call(ctx, func(ctx context.Context) error { // a shelf that nobody saw is reported
		response, err := s.inventory.GetStock(ctx, request)
		found = response.GetStocks()
		return err
	})
	for _, shelf := range s.shelves {
		shelf.after = nil
		for _, stock := range found {
			if stock.GetSku() == shelf.sku {
				shelf.after = stock
			}
		}
	}
}
