package messaging_test

import (
	"context"
	"os"
	"path/filepath"
	"regexp"
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
	"github.com/slipwayhq/slipway/reference/payment/adapter/messaging"
	"github.com/slipwayhq/slipway/reference/payment/adapter/store"
	"github.com/slipwayhq/slipway/reference/payment/domain"
	"github.com/slipwayhq/slipway/reference/payment/migrations"
	"github.com/slipwayhq/slipway/reference/payment/usecase"
)

var price = domain.Money{Currency: "EUR", Minor: 700}

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

// bundle is a consumer with the payments of a database of its own.
type bundle struct {
	feed
	pool     *pgxpool.Pool
	payments *store.Payments
	woken    *int
}

func setup(t *testing.T) bundle {
	t.Helper()
	url := postgrestest.New(t, inbox.Migrations(), barrier.Migrations(), migrate.Component{Name: "payment", FS: migrations.FS})
	pool, err := postgres.Open(t.Context(), postgres.Config{URL: url}, nil, nil, nil)
	require.NoError(t, err)
	b := bundle{feed: make(feed), pool: pool, payments: store.New(pool, time.Hour), woken: new(int)}
	capture := &messaging.Capture{
		Wake: func() { *b.woken++ },
		Begin: func(ctx context.Context, tx pgx.Tx, orderID string) (domain.Snapshot, error) {
			return (&usecase.Capture{Payments: b.payments.In(tx), Now: now}).Begin(ctx, orderID)
		},
	}
	cfg := inbox.Config{Name: "payment", Subjects: []string{messaging.Subject}}
	consumer, err := inbox.NewConsumer(pool, b.feed, cfg, capture.Handle, nil, nil, nil)
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

// pay opens a payment of an order and has it learn the charges.
func (b bundle) pay(t *testing.T, orderID string, charges ...domain.Charge) {
	t.Helper()
	p, err := domain.Open(domain.NewPayment{ID: uuid.Must(uuid.NewV7()).String(), Key: uuid.NewString(), OrderID: orderID, Amount: price}, now())
	require.NoError(t, err)
	s, _, err := b.payments.Open(t.Context(), p)
	require.NoError(t, err)
	for _, c := range charges {
		_, err := b.payments.Update(t.Context(), s.ID, func(p *domain.Payment) error { return p.Learn(domain.Answer{Charge: c}, now()) })
		require.NoError(t, err)
	}
}

// send hands over a message, which must be settled: applied or a dead letter.
func (b bundle) send(t *testing.T, version string, payload []byte) (dead string) {
	t.Helper()
	m := broker.Message{
		ID: uuid.Must(uuid.NewV7()).String(), Subject: messaging.Subject, Key: "order/1",
		Headers: map[string]string{broker.HeaderEventVersion: version}, Payload: payload,
	}
	for range 2 { // The second time it is a duplicate, whatever became of the first.
		h := handover{message: m, verdict: make(chan broker.Verdict, 1)}
		b.feed <- h
		require.Equal(t, broker.Ack(), <-h.verdict)
	}
	err := b.pool.QueryRow(t.Context(), "SELECT class || ': ' || error FROM slipway.inbox_dead WHERE message_id = $1", m.ID).Scan(&dead)
	if err != nil {
		require.ErrorIs(t, err, pgx.ErrNoRows)
	}
	return dead
}

func (b bundle) status(t *testing.T, orderID string) domain.Status {
	t.Helper()
	s, err := b.payments.OfOrder(t.Context(), orderID)
	require.NoError(t, err)
	return s.Status
}

func confirmed(t *testing.T, orderID string, total int64) []byte {
	t.Helper()
	payload, err := proto.Marshal(&orderv1.OrderConfirmed{
		OrderId: orderID, OrderVersion: 2, Total: &orderv1.Money{CurrencyCode: "EUR", MinorUnits: total},
	})
	require.NoError(t, err)
	return payload
}

func TestCapture_Handle(t *testing.T) {
	t.Parallel()

	t.Run("notes the capture, once, to be taken up at once", func(t *testing.T) {
		t.Parallel()
		b := setup(t)
		order := uuid.NewString()
		b.pay(t, order, domain.ChargeHeld)
		require.Empty(t, b.send(t, "1", confirmed(t, order, 700)))
		require.Equal(t, domain.Capturing, b.status(t, order))
		require.Equal(t, 1, *b.woken)
		claimed, err := b.payments.Claim(t.Context(), usecase.Claim{Limit: 1, Pause: time.Hour, LongestPause: time.Hour, Watch: time.Hour})
		require.NoError(t, err)
		require.Len(t, claimed, 1)
		require.Empty(t, b.send(t, "1", confirmed(t, order, 700)), "another event of the same kind changes nothing")
	})

	t.Run("a broken promise is a dead letter that says so", func(t *testing.T) {
		t.Parallel()
		b := setup(t)
		unpaid, asking, declined, cheap := uuid.NewString(), uuid.NewString(), uuid.NewString(), uuid.NewString()
		b.pay(t, asking)
		b.pay(t, declined, domain.ChargeDeclined)
		b.pay(t, cheap, domain.ChargeHeld)
		for order, want := range map[string]string{
			unpaid:   "permanent: order " + unpaid + " is confirmed and has no authorized payment: payment not found",
			asking:   "permanent: order " + asking + " is confirmed and has no authorized payment: capture payment: answer of the payment provider is outstanding",
			declined: "permanent: order " + declined + " is confirmed and has no authorized payment: payment is in a state that does not allow this: DECLINED cannot be captured",
			cheap:    "permanent: order " + cheap + " is confirmed with 701 EUR, but its payment is of 700 EUR",
		} {
			require.Equal(t, want, b.send(t, "1", confirmed(t, order, 701)))
		}
		require.Equal(t, domain.Authorizing, b.status(t, asking))
		require.Equal(t, domain.Authorized, b.status(t, cheap))
		require.Zero(t, *b.woken)
	})

	t.Run("what cannot be read is a dead letter", func(t *testing.T) {
		t.Parallel()
		b := setup(t)
		require.Contains(t, b.send(t, "2", confirmed(t, uuid.NewString(), 700)), `version "2" of order.confirmed is unknown`)
		require.Contains(t, b.send(t, "1", []byte("not a message")), "read event order.confirmed")
	})
}

// TestCapture_golden replays every payload of the event that was ever published.
func TestCapture_golden(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("../../../order/testdata/events/order.confirmed.v*.binpb")
	require.NoError(t, err)
	require.NotEmpty(t, files)
	for _, file := range files {
		payload, err := os.ReadFile(file)
		require.NoError(t, err)
		version := regexp.MustCompile(`\.v(\d+)\.binpb$`).FindStringSubmatch(file)[1]
		var event orderv1.OrderConfirmed
		require.NoError(t, proto.Unmarshal(payload, &event))
		b := setup(t)
		b.pay(t, event.GetOrderId(), domain.ChargeHeld)
		require.Empty(t, b.send(t, version, payload), file)
		require.Equal(t, domain.Capturing, b.status(t, event.GetOrderId()))
	}
}
