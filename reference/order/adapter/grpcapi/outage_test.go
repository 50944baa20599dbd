package grpcapi_test

import (
	"fmt"
	"regexp"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	orderv1 "github.com/slipwayhq/slipway/gen/slipway/order/v1"
	"github.com/slipwayhq/slipway/platform/postgres/migrate"
	"github.com/slipwayhq/slipway/platform/postgres/postgrestest"
)

// internals are the words by which a status would tell how the service is built.
var internals = regexp.MustCompile(`(?i)sql|pgx|postgres|redis|dial|127\.0\.0\.1|localhost|connect|failed to|eof|broken pipe|` +
	`begin transaction|read order|list orders|idempotency key|orders_|\.go\b|(^|[\s"'])/\w+/|[a-z]:\\`)

// TestService_databaseLost calls every method while the database goes away and when it is gone.
func TestService_databaseLost(t *testing.T) {
	t.Parallel()
	database := postgrestest.StartServer(t)
	url := database.URL("postgres")
	_, err := migrate.Up(t.Context(), url, components()...)
	require.NoError(t, err)
	b := setupOn(t, url)
	id := b.place(t, "shop").GetId()
	requests := []proto.Message{
		tea(),
		&orderv1.GetOrderRequest{OrderId: id},
		&orderv1.ListOrdersRequest{},
		&orderv1.CancelOrderRequest{OrderId: id, Reason: "no"},
		&orderv1.WatchOrderRequest{OrderId: id},
	}
	require.NoError(t, database.Stop(t.Context()))

	for round := range 3 { // The first calls meet connections that have just broken.
		for _, req := range requests {
			err := call(as(t, "shop"), b, req)
			require.Equal(t, codes.Unavailable, status.Code(err), "%T", req)
			st := status.Convert(err)
			shown := fmt.Sprint(st.Message(), " ", st.Details())
			require.NotRegexp(t, internals, shown, "round %d: %T", round, req)
			t.Logf("%T: %s", req, st)
		}
	}

	require.NoError(t, database.Restart(t.Context()))
	require.Eventually(t, func() bool {
		_, err := b.GetOrder(as(t, "shop"), &orderv1.GetOrderRequest{OrderId: id})
		return err == nil
	}, patience, tick, "the service goes on when the database is back")
}
