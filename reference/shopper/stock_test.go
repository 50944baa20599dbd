package main

import (
	"context"
	"net"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"

	inventoryv1 "github.com/slipwayhq/slipway/gen/slipway/inventory/v1"
)

// warehouse keeps stock in a map.
type warehouse struct {
	inventoryv1.UnimplementedInventoryServiceServer

	stock map[string]*inventoryv1.Stock
	set   int
}

func (w *warehouse) GetStock(_ context.Context, req *inventoryv1.GetStockRequest) (*inventoryv1.GetStockResponse, error) {
	resp := &inventoryv1.GetStockResponse{}
	for _, sku := range req.GetSkus() {
		if s, ok := w.stock[sku]; ok {
			resp.Stocks = append(resp.Stocks, s)
		}
	}
	return resp, nil
}

func (w *warehouse) SetStock(_ context.Context, req *inventoryv1.SetStockRequest) (*inventoryv1.SetStockResponse, error) {
	w.set++
	s, ok := w.stock[req.GetSku()]
	if !ok {
		s = &inventoryv1.Stock{Sku: req.GetSku()}
		w.stock[req.GetSku()] = s
	}
	s.OnHand = req.GetOnHand()
	return &inventoryv1.SetStockResponse{Stock: s}, nil
}

func TestStockUp(t *testing.T) {
	t.Parallel()
	sold, plenty := wares[0].sku, wares[1].sku
	w := &warehouse{stock: map[string]*inventoryv1.Stock{
		sold: {Sku: sold, OnHand: 7, Reserved: 7}, plenty: {Sku: plenty, OnHand: enough + 3, Reserved: 4},
	}}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	server := grpc.NewServer()
	inventoryv1.RegisterInventoryServiceServer(server, w)
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(listener) }()
	t.Cleanup(func() {
		server.Stop()
		require.NoError(t, <-ended)
	})
	opts := options{inventory: listener.Addr().String()}
	require.NoError(t, stockUp(t.Context(), opts))
	require.Len(t, w.stock, len(wares))
	require.EqualValues(t, enough+7, w.stock[sold].GetOnHand(), "what is promised stays promised")
	require.EqualValues(t, enough+3, w.stock[plenty].GetOnHand(), "what is enough stays as it is")
	set := w.set
	require.NoError(t, stockUp(t.Context(), opts))
	require.Equal(t, set, w.set, "a second time changes nothing")
}
