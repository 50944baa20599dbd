package grpcapi_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	inventoryv1 "github.com/slipwayhq/slipway/gen/slipway/inventory/v1"
	"github.com/slipwayhq/slipway/platform/grpcserver"
	"github.com/slipwayhq/slipway/platform/health"
	"github.com/slipwayhq/slipway/platform/postgres"
	"github.com/slipwayhq/slipway/platform/postgres/migrate"
	"github.com/slipwayhq/slipway/platform/postgres/postgrestest"
	"github.com/slipwayhq/slipway/platform/saga/barrier"
	"github.com/slipwayhq/slipway/reference/inventory/adapter/grpcapi"
	"github.com/slipwayhq/slipway/reference/inventory/adapter/store"
	"github.com/slipwayhq/slipway/reference/inventory/migrations"
	"github.com/slipwayhq/slipway/reference/inventory/usecase"
)

const (
	patience = 30 * time.Second
	// unknownID is a well-formed id of no order.
	unknownID = "0190a5c2-7e1b-7c3a-9d2e-3f4a5b6c7d8e"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(postgrestest.Closing(m)) }

// bundle is a client of the whole service: chain, use cases and database.
type bundle struct {
	inventoryv1.InventoryServiceClient
}

func setup(t *testing.T) bundle {
	t.Helper()
	url := postgrestest.New(t, barrier.Migrations(), migrate.Component{Name: "inventory", FS: migrations.FS})
	pool, err := postgres.Open(t.Context(), postgres.Config{URL: url, MaxConns: 8}, nil, nil, nil)
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	reservations, warehouse := store.NewReservations(pool), store.NewWarehouse(pool)
	address := serve(t, &grpcapi.Service{
		Reserving: &usecase.Reserve{
			Reservations: reservations, Now: now,
			NewID: func() string { return uuid.Must(uuid.NewV7()).String() },
		},
		Releasing:  &usecase.Release{Reservations: reservations, Now: now},
		Committing: &usecase.Commit{Reservations: reservations, Now: now},
		Setting:    &usecase.SetStock{Warehouse: warehouse, Now: now},
		Warehouse:  warehouse,
	})
	conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithDisableRetry())
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	return bundle{inventoryv1.NewInventoryServiceClient(conn)}
}

// serve returns the address of a server that serves s until the test ends.
func serve(t *testing.T, s *grpcapi.Service) string {
	t.Helper()
	monitor, err := health.New(health.Config{}, nil, nil, nil)
	require.NoError(t, err)
	server, err := grpcserver.New(grpcserver.Config{Addr: "127.0.0.1:0"}, monitor, grpcserver.WithErrors(grpcapi.Errors))
	require.NoError(t, err)
	inventoryv1.RegisterInventoryServiceServer(server, s)
	require.NoError(t, server.Listen())
	background(t, monitor.Run)
	background(t, server.Run)
	return server.Addr().String()
}

// background runs f until the test ends, and waits for it.
func background(t *testing.T, f func(context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = f(ctx)
	}()
	t.Cleanup(func() {
		cancel()
		<-ended
	})
}

// now has the precision of the database.
func now() time.Time { return time.Now().UTC().Truncate(time.Microsecond) }

// within bounds the calls of a test.
func within(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

// request is a valid one under a key and for an order of its own.
func request(sku string, quantity int64) *inventoryv1.ReserveRequest {
	return &inventoryv1.ReserveRequest{
		IdempotencyKey: uuid.NewString() + "/reserve-stock", OrderId: uuid.NewString(),
		Lines: []*inventoryv1.Line{{Sku: sku, Quantity: quantity}},
	}
}

func (b bundle) set(t *testing.T, sku string, onHand int64) *inventoryv1.Stock {
	t.Helper()
	resp, err := b.SetStock(within(t), &inventoryv1.SetStockRequest{Sku: sku, OnHand: onHand})
	require.NoError(t, err)
	return resp.GetStock()
}

// stock reads an article as on hand/reserved/committed.
func (b bundle) stock(t *testing.T, sku string) string {
	t.Helper()
	resp, err := b.GetStock(within(t), &inventoryv1.GetStockRequest{Skus: []string{sku}})
	require.NoError(t, err)
	require.Len(t, resp.GetStocks(), 1)
	s := resp.GetStocks()[0]
	return fmt.Sprintf("%d/%d/%d", s.GetOnHand(), s.GetReserved(), s.GetCommitted())
}

func (b bundle) reserve(t *testing.T, req *inventoryv1.ReserveRequest) *inventoryv1.Reservation {
	t.Helper()
	resp, err := b.Reserve(within(t), req)
	require.NoError(t, err)
	return resp.GetReservation()
}

func requireCode(t *testing.T, want codes.Code, reason string, err error) {
	t.Helper()
	require.Equal(t, want, status.Code(err), "%v", err)
	for _, d := range status.Convert(err).Details() {
		if info, ok := d.(*errdetails.ErrorInfo); ok {
			require.Equal(t, reason, info.GetReason())
			return
		}
	}
	require.Empty(t, reason, "no reason in %v", status.Convert(err).Details())
}
