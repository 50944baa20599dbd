package grpcapi_test

import (
	"context"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	paymentv1 "github.com/slipwayhq/slipway/gen/slipway/payment/v1"
	"github.com/slipwayhq/slipway/platform/grpcserver"
	"github.com/slipwayhq/slipway/platform/health"
	"github.com/slipwayhq/slipway/platform/postgres"
	"github.com/slipwayhq/slipway/platform/postgres/migrate"
	"github.com/slipwayhq/slipway/platform/postgres/postgrestest"
	"github.com/slipwayhq/slipway/platform/saga/barrier"
	"github.com/slipwayhq/slipway/reference/payment/adapter/grpcapi"
	"github.com/slipwayhq/slipway/reference/payment/adapter/provider"
	"github.com/slipwayhq/slipway/reference/payment/adapter/store"
	"github.com/slipwayhq/slipway/reference/payment/migrations"
	"github.com/slipwayhq/slipway/reference/payment/providersim"
	"github.com/slipwayhq/slipway/reference/payment/usecase"
)

const (
	patience = 30 * time.Second
	// unknownID is a well-formed id of no order.
	unknownID = "0190a5c2-7e1b-7c3a-9d2e-3f4a5b6c7d8e"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(postgrestest.Closing(m)) }

// bundle is a client of the whole service: chain, use cases, database and provider.
type bundle struct {
	paymentv1.PaymentServiceClient
	pool     *pgxpool.Pool
	provider *providersim.Server
}

func setup(t *testing.T) bundle {
	t.Helper()
	url := postgrestest.New(t, barrier.Migrations(), migrate.Component{Name: "payment", FS: migrations.FS})
	pool, err := postgres.Open(t.Context(), postgres.Config{URL: url, MaxConns: 8}, nil, nil, nil)
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	sim, err := providersim.Listen("127.0.0.1:0", filepath.Join(t.TempDir(), "ledger.jsonl"))
	require.NoError(t, err)
	background(t, sim.Run)
	// Long enough for an answer, short enough for calls that get none.
	client, err := provider.New(provider.Config{URL: sim.URL(), Timeout: 2 * time.Second}, nil, nil)
	require.NoError(t, err)
	t.Cleanup(client.Close)

	conn, err := grpc.NewClient(serve(t, service(store.New(pool, time.Minute), client)),
		grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithDisableRetry())
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	return bundle{paymentv1.NewPaymentServiceClient(conn), pool, sim}
}

func service(payments *store.Payments, client *provider.Client) *grpcapi.Service {
	teller := &usecase.Teller{Payments: payments, Provider: client, Now: now}
	return &grpcapi.Service{
		Authorizing: &usecase.Authorize{
			Payments: payments, Teller: teller, Now: now,
			NewID: func() string { return uuid.Must(uuid.NewV7()).String() },
		},
		Voiding:   &usecase.Void{Payments: payments, Teller: teller, Now: now},
		Capturing: &usecase.Capture{Payments: payments, Teller: teller, Now: now},
		Refunding: &usecase.Refund{Payments: payments, Teller: teller, Now: now},
		Payments:  payments,
	}
}

// serve returns the address of a server that serves s until the test ends.
func serve(t *testing.T, s *grpcapi.Service) string {
	t.Helper()
	monitor, err := health.New(health.Config{}, nil, nil, nil)
	require.NoError(t, err)
	server, err := grpcserver.New(grpcserver.Config{Addr: "127.0.0.1:0"}, monitor, grpcserver.WithErrors(grpcapi.Errors))
	require.NoError(t, err)
	paymentv1.RegisterPaymentServiceServer(server, s)
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

// request is a valid one under a key and for an order of its own.
func request(card string) *paymentv1.AuthorizeRequest {
	return &paymentv1.AuthorizeRequest{
		IdempotencyKey: uuid.NewString() + "/authorize-payment",
		OrderId:        uuid.NewString(),
		Amount:         &paymentv1.Money{CurrencyCode: "EUR", MinorUnits: 700},
		CardToken:      card,
	}
}

// within bounds the calls of a test.
func within(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

func (b bundle) authorize(t *testing.T, req *paymentv1.AuthorizeRequest) *paymentv1.Payment {
	t.Helper()
	resp, err := b.Authorize(within(t), req)
	require.NoError(t, err)
	return resp.GetPayment()
}

// status reads the payment of an order.
func (b bundle) status(t *testing.T, orderID string) paymentv1.PaymentStatus {
	t.Helper()
	resp, err := b.GetPayment(within(t), &paymentv1.GetPaymentRequest{OrderId: orderID})
	require.NoError(t, err)
	return resp.GetPayment().GetStatus()
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
