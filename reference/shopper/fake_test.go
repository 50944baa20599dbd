package main

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	orderv1 "github.com/slipwayhq/slipway/gen/slipway/order/v1"
)

// fakeService is an order service in memory that does what it should, but for its faults.
type fakeService struct {
	orderv1.UnimplementedOrderServiceServer
	faults faults

	mu     sync.Mutex
	calls  int // of PlaceOrder
	orders []*orderv1.Order
	byKey  map[string]*orderv1.Order
	moved  chan struct{} // closed when an order changes
	tokens []string
	cards  map[string]string // by order id
	office *office           // nil unless there are payments and stock, too
}

// faults says what goes wrong. A number n means: with every n-th order (or call).
type faults struct {
	lose        int  // acknowledged and forgotten
	change      int  // stored with another quantity
	discount    int  // stored with another total
	answerLost  int  // stored, and the answer is lost
	busy        int  // answered with RESOURCE_EXHAUSTED
	refuse      int  // answered with INVALID_ARGUMENT
	twice       int  // stored twice
	hide        int  // left out of the lists
	listTwice   int  // shown twice in the lists
	getWrong    bool // GetOrder shows another customer
	listWrong   bool // ListOrders shows another customer
	forgetKeys  bool
	forgetStop  bool // a cancellation is acknowledged and forgotten
	breakStream int  // every n-th stream breaks after each message
	endStream   bool // streams end before the order is final
	repeatEvent bool // streams show the version that the caller knows already
	settle      bool // orders are confirmed or refused once they are watched
	lenient     bool // and none is refused
}

func nth(n, every int) bool { return every > 0 && n%every == 0 }

// start serves the fake and returns its address.
func (f *fakeService) start(t *testing.T) string {
	t.Helper()
	f.byKey, f.cards, f.moved = map[string]*orderv1.Order{}, map[string]string{}, make(chan struct{})
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	server := grpc.NewServer()
	orderv1.RegisterOrderServiceServer(server, f)
	if f.office != nil {
		f.office.serve(server, f)
	}
	ready := health.NewServer()
	ready.SetServingStatus("readiness", healthpb.HealthCheckResponse_SERVING)
	healthpb.RegisterHealthServer(server, ready)
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = server.Serve(listener)
	}()
	t.Cleanup(func() {
		server.Stop()
		<-served
	})
	return listener.Addr().String()
}

func (f *fakeService) PlaceOrder(ctx context.Context, r *orderv1.PlaceOrderRequest) (*orderv1.PlaceOrderResponse, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if md, ok := metadata.FromIncomingContext(ctx); ok {
		f.tokens = append(f.tokens, md.Get("authorization")...)
	}
	f.calls++
	if known := f.byKey[r.GetIdempotencyKey()]; known != nil && !f.faults.forgetKeys {
		return &orderv1.PlaceOrderResponse{Order: clone(known)}, nil
	}
	if nth(f.calls, f.faults.busy) {
		return nil, status.Error(codes.ResourceExhausted, "too many orders")
	}
	order := f.newOrder(r)
	f.byKey[r.GetIdempotencyKey()], f.cards[order.GetId()] = order, r.GetCardToken()
	answer := clone(order)
	n := len(f.byKey)
	if nth(n, f.faults.refuse) {
		return nil, status.Error(codes.InvalidArgument, "the order is not valid")
	}
	if nth(n, f.faults.change) {
		order.Items[0].Quantity++
	}
	if nth(n, f.faults.discount) {
		order.Total.MinorUnits--
	}
	if !nth(n, f.faults.lose) {
		f.orders = append(f.orders, order)
	}
	if nth(n, f.faults.twice) {
		f.orders = append(f.orders, f.newOrder(r))
	}
	if nth(n, f.faults.answerLost) {
		return nil, status.Error(codes.Unavailable, "connection lost")
	}
	return &orderv1.PlaceOrderResponse{Order: answer}, nil
}

func (f *fakeService) newOrder(r *orderv1.PlaceOrderRequest) *orderv1.Order {
	return clone(&orderv1.Order{
		Id:         fmt.Sprintf("order-%d-%d", len(f.byKey), len(f.orders)),
		CustomerId: r.GetCustomerId(),
		Status:     orderv1.OrderStatus_ORDER_STATUS_PENDING,
		Items:      r.GetItems(),
		Total:      total(r.GetItems()),
		Version:    1,
		CreateTime: timestamppb.Now(),
	})
}

func (f *fakeService) GetOrder(_ context.Context, r *orderv1.GetOrderRequest) (*orderv1.GetOrderResponse, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	order, err := f.find(r.GetOrderId())
	if err != nil {
		return nil, err
	}
	order = clone(order)
	if f.faults.getWrong {
		order.CustomerId = "somebody else"
	}
	return &orderv1.GetOrderResponse{Order: order}, nil
}

func (f *fakeService) find(id string) (*orderv1.Order, error) {
	for _, order := range f.orders {
		if order.GetId() == id {
			return order, nil
		}
	}
	return nil, status.Error(codes.NotFound, "no such order")
}

func (f *fakeService) ListOrders(_ context.Context, r *orderv1.ListOrdersRequest) (*orderv1.ListOrdersResponse, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var listed []*orderv1.Order
	for i, order := range slices.Backward(f.orders) {
		if nth(i+1, f.faults.hide) {
			continue
		}
		order = clone(order)
		if f.faults.listWrong {
			order.CustomerId = "somebody else"
		}
		listed = append(listed, order)
		if nth(i+1, f.faults.listTwice) {
			listed = append(listed, clone(order))
		}
	}
	from, _ := strconv.Atoi(r.GetPageToken())
	to := min(from+int(r.GetPageSize()), len(listed))
	response := &orderv1.ListOrdersResponse{Orders: listed[from:to]}
	if to < len(listed) {
		response.NextPageToken = strconv.Itoa(to)
	}
	return response, nil
}

func (f *fakeService) CancelOrder(_ context.Context, r *orderv1.CancelOrderRequest) (*orderv1.CancelOrderResponse, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	order, err := f.find(r.GetOrderId())
	if err != nil {
		return nil, err
	}
	if order.GetStatus() == orderv1.OrderStatus_ORDER_STATUS_CONFIRMED {
		return nil, status.Error(codes.FailedPrecondition, "the order is confirmed")
	}
	if f.faults.forgetStop {
		order = clone(order)
	}
	if order.GetStatus() == orderv1.OrderStatus_ORDER_STATUS_PENDING {
		f.move(order, orderv1.OrderStatus_ORDER_STATUS_CANCELLED, r.GetReason())
	}
	return &orderv1.CancelOrderResponse{Order: clone(order)}, nil
}

// settle ends the checkout of an order.
func (f *fakeService) settle(order *orderv1.Order) {
	confirmed, cancelled := orderv1.OrderStatus_ORDER_STATUS_CONFIRMED, orderv1.OrderStatus_ORDER_STATUS_CANCELLED
	switch {
	case f.faults.lenient:
		f.move(order, confirmed, "")
	case slices.Contains(declinedCards, f.cards[order.GetId()]):
		f.move(order, cancelled, "payment declined: "+f.cards[order.GetId()])
	case strings.HasPrefix(order.GetItems()[len(order.GetItems())-1].GetSku(), soldOut.sku):
		f.move(order, cancelled, "out of stock: "+soldOut.sku)
	default:
		f.move(order, confirmed, "")
	}
}

// move changes an order's state and wakes the streams.
func (f *fakeService) move(order *orderv1.Order, to orderv1.OrderStatus, reason string) {
	order.Status, order.CancelReason = to, reason
	order.Version++
	close(f.moved)
	f.moved = make(chan struct{})
}

func (f *fakeService) WatchOrder(r *orderv1.WatchOrderRequest, stream grpc.ServerStreamingServer[orderv1.WatchOrderResponse]) error {
	known := r.GetKnownVersion()
	f.mu.Lock()
	f.calls++
	broken := nth(f.calls, f.faults.breakStream)
	f.mu.Unlock()
	if f.faults.repeatEvent {
		known = 0
	}
	for {
		f.mu.Lock()
		order, err := f.find(r.GetOrderId())
		if err != nil {
			f.mu.Unlock()
			return err
		}
		shown, moved := clone(order), f.moved
		if f.faults.settle && order.GetStatus() == orderv1.OrderStatus_ORDER_STATUS_PENDING {
			f.settle(order)
		}
		f.mu.Unlock()
		if shown.GetVersion() > known {
			known = shown.GetVersion()
			if err := stream.Send(&orderv1.WatchOrderResponse{Order: shown}); err != nil {
				return err
			}
			switch {
			case broken || f.faults.repeatEvent:
				return status.Error(codes.Unavailable, "server is draining")
			case isFinal(shown) || f.faults.endStream:
				return nil
			}
		}
		select {
		case <-moved:
		case <-stream.Context().Done():
			return stream.Context().Err()
		}
	}
}

func clone(o *orderv1.Order) *orderv1.Order { return proto.CloneOf(o) }

// shopperAt returns a shopper for the fake: the defaults of these options are quick.
func shopperAt(t *testing.T, fake *fakeService, change func(*options)) *shopper {
	t.Helper()
	opts := options{
		addr: fake.start(t), orders: 60, rate: 5000, seed: 7, shares: shares{repeat: 0.3, cancel: 0.2},
		watch: 100, wait: 30 * time.Millisecond, retries: 3, concurrency: 20, callTimeout: 30 * time.Second,
	}
	if change != nil {
		change(&opts)
	}
	clients, err := dial(opts)
	require.NoError(t, err)
	t.Cleanup(clients.close)
	return newShopper(opts, "testrun", clients)
}

// shopAt does a whole run.
func shopAt(t *testing.T, fake *fakeService, change func(*options)) *report {
	t.Helper()
	s := shopperAt(t, fake, change)
	require.NoError(t, s.fill(t.Context()))
	s.shop(t.Context())
	s.reconcile(t.Context())
	s.audit(t.Context())
	return s.report("")
}
