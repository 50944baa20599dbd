package messaging_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"google.golang.org/protobuf/proto"

	orderv1 "github.com/slipwayhq/slipway/gen/slipway/order/v1"
	"github.com/slipwayhq/slipway/platform/broker"
	"github.com/slipwayhq/slipway/platform/inbox"
	"github.com/slipwayhq/slipway/platform/postgres"
	"github.com/slipwayhq/slipway/platform/postgres/migrate"
	"github.com/slipwayhq/slipway/platform/postgres/postgrestest"
	"github.com/slipwayhq/slipway/platform/saga/barrier"
	"github.com/slipwayhq/slipway/reference/inventory/adapter/messaging"
	"github.com/slipwayhq/slipway/reference/inventory/adapter/store"
	"github.com/slipwayhq/slipway/reference/inventory/domain"
	"github.com/slipwayhq/slipway/reference/inventory/migrations"
	"github.com/slipwayhq/slipway/reference/inventory/usecase"
)

const article = "TEA-1"

func TestMain(m *testing.M) { goleak.VerifyTestMain(postgrestest.Closing(m)) }

// feed is a broker that hands over what the test gives it.
type feed chan handover

type handover struct {
	message broker.Message
	verdict chan broker.Verdict
}

func (f feed) Subscribe(ctx context.Context, _ broker.Subscription, handle broker.Handler) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case h := <-f:
			h.verdict <- handle(context.WithoutCancel(ctx), broker.Delivery{Message: h.message, Attempt: 1})
		}
	}
}

// bundle is a consumer with a database of its own, which has ten pieces of the article.
type bundle struct {
	feed
	pool         *pgxpool.Pool
	reservations *store.Reservations
	warehouse    *store.Warehouse
	// fail is what goes wrong after the reservation is committed.
	fail error
}

func setup(t *testing.T) *bundle {
	t.Helper()
	url := postgrestest.New(t, inbox.Migrations(), barrier.Migrations(), migrate.Component{Name: "inventory", FS: migrations.FS})
	pool, err := postgres.Open(t.Context(), postgres.Config{URL: url}, nil, nil, nil)
	require.NoError(t, err)
	b := &bundle{feed: make(feed), pool: pool, reservations: store.NewReservations(pool), warehouse: store.NewWarehouse(pool)}
	_, err = b.warehouse.UpdateStock(t.Context(), article, func(s domain.Stock) (domain.Stock, error) { return s.Set(10, 0, now()) })
	require.NoError(t, err)
	commit := &messaging.Commit{Execute: func(ctx context.Context, tx pgx.Tx, orderID string) (domain.Snapshot, error) {
		s, err := (&usecase.Commit{Reservations: b.reservations.In(tx), Now: now}).Execute(ctx, orderID)
		return s, errors.Join(err, b.fail)
	}}
	cfg := inbox.Config{Name: "inventory", Subjects: []string{messaging.Subject}}
	consumer, err := inbox.NewConsumer(pool, b.feed, cfg, commit.Handle, nil, nil, nil)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- consumer.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		require.NoError(t, <-ended)
		pool.Close()
	})
	return b
}

func now() time.Time { return time.Now().UTC().Truncate(time.Microsecond) }

// reserve holds two pieces for an order, under the order's id as the key.
func (b *bundle) reserve(t *testing.T, orderID string) {
	t.Helper()
	reserve := &usecase.Reserve{Reservations: b.reservations, NewID: uuid.NewString, Now: now}
	_, err := reserve.Execute(t.Context(), usecase.ReserveCommand{Key: orderID, OrderID: orderID, Lines: []domain.Line{{SKU: article, Quantity: 2}}})
	require.NoError(t, err)
}

func (b *bundle) release(t *testing.T, orderID string) {
	t.Helper()
	release := &usecase.Release{Reservations: b.reservations, Now: now}
	_, found, err := release.Execute(t.Context(), usecase.ReleaseCommand{Key: orderID, OrderID: orderID})
	require.NoError(t, err)
	require.True(t, found)
}

// stock reads the article as on hand/reserved/committed.
func (b *bundle) stock(t *testing.T) string {
	t.Helper()
	stocks, err := b.warehouse.Stocks(t.Context(), []string{article})
	require.NoError(t, err)
	require.Len(t, stocks, 1)
	return fmt.Sprintf("%d/%d/%d", stocks[0].OnHand, stocks[0].Reserved, stocks[0].Committed)
}

func message(subject, version string, payload []byte) broker.Message {
	return broker.Message{
		ID: uuid.Must(uuid.NewV7()).String(), Subject: subject, Key: "order/1",
		Headers: map[string]string{broker.HeaderEventVersion: version}, Payload: payload,
	}
}

func (b *bundle) deliver(m broker.Message) broker.Verdict {
	h := handover{message: m, verdict: make(chan broker.Verdict, 1)}
	b.feed <- h
	return <-h.verdict
}

// send delivers a message, which must be settled: applied, or a dead letter whose text it returns.
func (b *bundle) send(t *testing.T, m broker.Message) (dead string) {
	t.Helper()
	for range 2 { // The second time it is a duplicate, whatever became of the first.
		require.Equal(t, broker.Ack(), b.deliver(m))
	}
	err := b.pool.QueryRow(t.Context(), "SELECT class || ': ' || error FROM slipway.inbox_dead WHERE message_id = $1", m.ID).Scan(&dead)
	if err != nil {
		require.ErrorIs(t, err, pgx.ErrNoRows)
	}
	return dead
}

func confirmed(t *testing.T, orderID string) []byte {
	t.Helper()
	payload, err := proto.Marshal(&orderv1.OrderConfirmed{OrderId: orderID, OrderVersion: 2})
	require.NoError(t, err)
	return payload
}

func TestCommit_Handle(t *testing.T) {
	t.Parallel()

	t.Run("what is confirmed leaves the stock, once", func(t *testing.T) {
		t.Parallel()
		b := setup(t)
		order := uuid.NewString()
		b.reserve(t, order)
		require.Empty(t, b.send(t, message(messaging.Subject, "1", confirmed(t, order))))
		require.Equal(t, "8/0/2", b.stock(t))
		require.Empty(t, b.send(t, message(messaging.Subject, "1", confirmed(t, order))), "another event of the same kind")
		require.Equal(t, "8/0/2", b.stock(t))
	})

	t.Run("a broken promise is a dead letter that says so", func(t *testing.T) {
		t.Parallel()
		b := setup(t)
		unknown, released := uuid.NewString(), uuid.NewString()
		b.reserve(t, released)
		b.release(t, released)
		for order, want := range map[string]string{
			unknown: "permanent: order \"" + unknown + "\" is confirmed and holds no stock: order has no reservation",
			"":      `permanent: order "" is confirmed and holds no stock: order has no reservation`,
			released: "permanent: order \"" + released + "\" is confirmed and holds no stock: " +
				"reservation is in a state that does not allow this: it is RELEASED and cannot become COMMITTED",
		} {
			require.Equal(t, want, b.send(t, message(messaging.Subject, "1", confirmed(t, order))))
		}
		require.Equal(t, "10/0/0", b.stock(t))
	})

	t.Run("what cannot be read is a dead letter, and the next one is applied", func(t *testing.T) {
		t.Parallel()
		b := setup(t)
		order := uuid.NewString()
		b.reserve(t, order)
		require.Contains(t, b.send(t, message(messaging.Subject, "2", confirmed(t, order))), `version "2" of order.confirmed is unknown`)
		require.Contains(t, b.send(t, message(messaging.Subject, "1", []byte("not a message"))), "read event order.confirmed")
		require.Equal(t, "10/2/0", b.stock(t))
		require.Empty(t, b.send(t, message(messaging.Subject, "1", confirmed(t, order))))
		require.Equal(t, "8/0/2", b.stock(t))
	})

	t.Run("what goes wrong for now is tried again, with nothing changed", func(t *testing.T) {
		t.Parallel()
		b := setup(t)
		order := uuid.NewString()
		b.reserve(t, order)
		m := message(messaging.Subject, "1", confirmed(t, order))
		b.fail = errors.New("disk on fire")
		require.NotEqual(t, broker.Ack(), b.deliver(m))
		require.Equal(t, "10/2/0", b.stock(t))
		b.fail = nil
		require.Empty(t, b.send(t, m))
		require.Equal(t, "8/0/2", b.stock(t))
	})
}

// TestCommit_golden replays every payload of an order's events that was ever published: a confirmed one
// is committed, the others change nothing.
func TestCommit_golden(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("../../../order/testdata/events/*.binpb")
	require.NoError(t, err)
	require.Greater(t, len(files), 2)
	name := regexp.MustCompile(`^(.*)\.v(\d+)\.binpb$`)
	for _, file := range files {
		payload, err := os.ReadFile(file)
		require.NoError(t, err)
		parts := name.FindStringSubmatch(filepath.Base(file))
		b := setup(t)
		order, want := uuid.NewString(), "10/2/0"
		if strings.HasPrefix(parts[1], "order.confirmed") {
			var event orderv1.OrderConfirmed
			require.NoError(t, proto.Unmarshal(payload, &event))
			order, want = event.GetOrderId(), "8/0/2"
		}
		b.reserve(t, order)
		require.Empty(t, b.send(t, message(parts[1], parts[2], payload)), file)
		require.Equal(t, want, b.stock(t), file)
	}
}
