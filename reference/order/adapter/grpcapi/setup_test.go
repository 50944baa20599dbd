package grpcapi_test

import (
	"context"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"go.uber.org/zap"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	orderv1 "github.com/slipwayhq/slipway/gen/slipway/order/v1"
	"github.com/slipwayhq/slipway/platform/fault"
	"github.com/slipwayhq/slipway/platform/grpcserver"
	"github.com/slipwayhq/slipway/platform/health"
	"github.com/slipwayhq/slipway/platform/outbox"
	"github.com/slipwayhq/slipway/platform/postgres"
	"github.com/slipwayhq/slipway/platform/postgres/migrate"
	"github.com/slipwayhq/slipway/platform/postgres/postgrestest"
	"github.com/slipwayhq/slipway/platform/redisdb"
	"github.com/slipwayhq/slipway/platform/redisdb/redistest"
	"github.com/slipwayhq/slipway/platform/saga/sagapg"
	"github.com/slipwayhq/slipway/reference/order/adapter/cache"
	"github.com/slipwayhq/slipway/reference/order/adapter/grpcapi"
	"github.com/slipwayhq/slipway/reference/order/adapter/store"
	"github.com/slipwayhq/slipway/reference/order/adapter/watch"
	"github.com/slipwayhq/slipway/reference/order/domain"
	"github.com/slipwayhq/slipway/reference/order/migrations"
	"github.com/slipwayhq/slipway/reference/order/usecase"
)

const (
	patience = 30 * time.Second
	tick     = 5 * time.Millisecond
	// unknownID is a well-formed id of no order.
	unknownID = "0190a5c2-7e1b-7c3a-9d2e-3f4a5b6c7d8e"
	principal = "x-test-principal"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(postgrestest.Closing(m)) }

// bundle is a client of the whole service: chain, use cases, database, cache and hub.
type bundle struct {
	orderv1.OrderServiceClient
	url      string
	server   *grpcserver.Server
	redis    *redistest.Server
	registry *prometheus.Registry
}

func components() []migrate.Component {
	return []migrate.Component{outbox.Migrations(), sagapg.Migrations(), {Name: "order", FS: migrations.FS}}
}

func setup(t *testing.T) bundle {
	t.Helper()
	return setupOn(t, postgrestest.New(t, components()...))
}

// setupOn serves on the database at url until the test ends.
func setupOn(t *testing.T, url string) bundle {
	t.Helper()
	b := bundle{url: url, redis: redistest.Start(t), registry: prometheus.NewRegistry()}
	client, err := redisdb.Open(redisdb.Config{
		URL: b.redis.URL(), DialTimeout: 5 * time.Second, ReadTimeout: 5 * time.Second, WriteTimeout: 5 * time.Second,
	}, nil, nil)
	require.NoError(t, err)
	t.Cleanup(func() { _ = client.Close() })
	orderCache, err := cache.New(client, zap.NewNop(), b.registry)
	require.NoError(t, err)
	orders := b.replica(t)
	hub := watch.NewHub(orders, zap.NewNop())
	background(t, hub.Run)

	b.server = serve(t, service(orders, orderCache, hub))
	conn, err := grpc.NewClient(b.server.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithDisableRetry())
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	b.OrderServiceClient = orderv1.NewOrderServiceClient(conn)
	return b
}

// replica returns a store as another process would have: nobody here hears of its changes.
func (b bundle) replica(t *testing.T) *store.Orders {
	t.Helper()
	pool, err := postgres.Open(t.Context(), postgres.Config{URL: b.url, MaxConns: 8}, nil, nil, nil)
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	return store.New(pool)
}

func service(orders *store.Orders, orderCache *cache.Orders, hub *watch.Hub) *grpcapi.Service {
	listeners := []usecase.Listener{orderCache, hub}
	return &grpcapi.Service{
		Place: &usecase.PlaceOrder{
			Orders: store.NewIntake(orders, (&usecase.CheckoutSteps{}).Definition(time.Minute), nil), Listeners: listeners, Now: now,
			NewID: func() string { return uuid.Must(uuid.NewV7()).String() },
		},
		Get:    &usecase.GetOrder{Orders: orders, Cache: orderCache},
		List:   &usecase.ListOrders{Orders: orders},
		Cancel: &usecase.CancelOrder{Orders: orders, Listeners: listeners, Now: now},
		Watch:  &usecase.WatchOrder{Orders: orders, Changes: hub},
	}
}

func serve(t *testing.T, s *grpcapi.Service) *grpcserver.Server {
	t.Helper()
	monitor, err := health.New(health.Config{}, nil, nil, nil)
	require.NoError(t, err)
	server, err := grpcserver.New(grpcserver.Config{Addr: "127.0.0.1:0"}, monitor,
		grpcserver.WithErrors(grpcapi.Errors), grpcserver.WithAuthenticator(authenticate))
	require.NoError(t, err)
	orderv1.RegisterOrderServiceServer(server, s)
	require.NoError(t, server.Listen())
	background(t, monitor.Run)
	background(t, server.Run)
	return server
}

// authenticate believes the metadata.
func authenticate(ctx context.Context, _ string) (grpcserver.Principal, error) {
	values := metadata.ValueFromIncomingContext(ctx, principal)
	if len(values) != 1 {
		return grpcserver.Principal{}, fault.New(fault.Unauthenticated, "who are you")
	}
	return grpcserver.Principal{ID: values[0]}, nil
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

// as is the context of a caller's call.
func as(t *testing.T, caller string) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return metadata.AppendToOutgoingContext(ctx, principal, caller)
}

// now has the precision of the database.
func now() time.Time { return time.Now().UTC().Truncate(time.Microsecond) }

func confirm(o *domain.Order) error { return o.Confirm(now()) }

// tea is a valid request under a key of its own.
func tea() *orderv1.PlaceOrderRequest {
	return &orderv1.PlaceOrderRequest{
		IdempotencyKey: uuid.NewString(),
		CustomerId:     "c-1",
		CardToken:      "tok_ok",
		Items: []*orderv1.OrderItem{
			{Sku: "TEA-1", Quantity: 2, UnitPrice: &orderv1.Money{CurrencyCode: "EUR", MinorUnits: 350}},
			{Sku: "CUP-9", Quantity: 1, UnitPrice: &orderv1.Money{CurrencyCode: "EUR", MinorUnits: 1200}},
		},
	}
}

// place returns a new order of the caller.
func (b bundle) place(t *testing.T, caller string) *orderv1.Order {
	t.Helper()
	resp, err := b.PlaceOrder(as(t, caller), tea())
	require.NoError(t, err)
	return resp.GetOrder()
}

func requireCode(t *testing.T, want codes.Code, err error) {
	t.Helper()
	require.Equal(t, want, status.Code(err), "%v", err)
}

// detail returns the detail of that type in a status.
func detail[T any](t *testing.T, err error) (found T) {
	t.Helper()
	for _, d := range status.Convert(err).Details() {
		if d, ok := d.(T); ok {
			return d
		}
	}
	require.Fail(t, "no such detail", "%T in %v", found, status.Convert(err).Details())
	return found
}

func requireReason(t *testing.T, want string, err error) {
	t.Helper()
	require.Equal(t, want, detail[*errdetails.ErrorInfo](t, err).GetReason())
}
