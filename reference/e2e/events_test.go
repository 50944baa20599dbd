package e2e_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/attribute"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.uber.org/zap/zaptest"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"

	orderv1 "github.com/slipwayhq/slipway/gen/slipway/order/v1"
	"github.com/slipwayhq/slipway/platform/broker"
	"github.com/slipwayhq/slipway/platform/broker/nats"
	"github.com/slipwayhq/slipway/platform/inbox"
	"github.com/slipwayhq/slipway/platform/outbox"
	"github.com/slipwayhq/slipway/platform/postgres"
	"github.com/slipwayhq/slipway/platform/postgres/postgrestest"
)

// shipping is a service that consumes the events of orders: it notes each in a table of its own
// database that takes duplicates.
type shipping struct {
	db    *pgxpool.Pool
	spans *tracetest.InMemoryExporter
}

const parcels = "CREATE TABLE parcel (n bigint GENERATED ALWAYS AS IDENTITY, event uuid, key text, version text, type text, total bigint)"

// startShipping runs a consumer until the test ends.
func (s *system) startShipping(t *testing.T) *shipping {
	t.Helper()
	url := postgrestest.New(t, inbox.Migrations())
	db, err := postgres.Open(t.Context(), postgres.Config{URL: url}, nil, nil, nil)
	require.NoError(t, err)
	_, err = db.Exec(t.Context(), parcels)
	require.NoError(t, err)
	conn, err := nats.Connect(nats.Config{URL: s.broker.url(), Name: "shipping"}, zaptest.NewLogger(t))
	require.NoError(t, err)
	c := &shipping{db: db, spans: tracetest.NewInMemoryExporter()}
	tracers := sdktrace.NewTracerProvider(sdktrace.WithSyncer(c.spans))
	cfg := inbox.Config{Name: "shipping", Subjects: []string{"order.>"}, Mode: inbox.ByVersion, Poll: 100 * time.Millisecond}
	consumer, err := inbox.NewConsumer(db, nats.NewSubscriber(conn, nats.SubscriberConfig{Stream: "order"}), cfg, ship, zaptest.NewLogger(t), nil, tracers)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- consumer.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		require.NoError(t, <-done)
		conn.Close()
		db.Close()
	})
	return c
}

// ship is its handler.
func ship(ctx context.Context, tx pgx.Tx, m broker.Message) error {
	if version := m.Headers[broker.HeaderEventVersion]; version != "1" {
		return inbox.Permanent(fmt.Errorf("version %q of %s is unknown", version, m.Subject))
	}
	var total int64
	if m.Subject == "order.placed" {
		var placed orderv1.OrderPlaced
		if err := proto.Unmarshal(m.Payload, &placed); err != nil {
			return inbox.Permanent(fmt.Errorf("read event: %w", err))
		}
		total = placed.GetOrder().GetTotal().GetMinorUnits()
	}
	_, err := tx.Exec(ctx, "INSERT INTO parcel (event, key, version, type, total) VALUES ($1, $2, $3, $4, $5)",
		m.ID, m.Key, m.Headers[broker.HeaderAggregateVersion], m.Subject, total)
	return err
}

func (c *shipping) count(t *testing.T) int {
	t.Helper()
	return one[int](t, c.db, "SELECT count(*) FROM parcel")
}

// exactly waits until it has the effect of each committed event, then makes sure that it has it once
// and in order. Checkouts that come to their end meanwhile may add events. Seen to fail with one effect less, one twice,
// and one of no event.
func (c *shipping) exactly(t *testing.T, orders *pgxpool.Pool) (events int) {
	t.Helper()
	const committedSQL = "SELECT array_agg(event_id::text ORDER BY event_id) FROM slipway.outbox"
	committed := one[[]string](t, orders, committedSQL)
	const missingSQL = "SELECT count(*) FROM unnest($1::uuid[]) c (event) LEFT JOIN parcel p USING (event) WHERE p.n IS NULL"
	require.Eventually(t, func() bool { return one[int](t, c.db, missingSQL, committed) == 0 }, 2*patience, 200*time.Millisecond,
		"not all of %d events have arrived", len(committed))
	require.Zero(t, one[int](t, c.db, "SELECT count(*) - count(DISTINCT event) FROM parcel"), "each once")
	arrived := one[[]string](t, c.db, "SELECT array_agg(event::text) FROM parcel")
	require.Subset(t, asSet(one[[]string](t, orders, committedSQL)), asSet(arrived), "none that was not committed")
	require.Zero(t, one[int](t, c.db, "SELECT count(*) FROM parcel a JOIN parcel b USING (key) WHERE a.n < b.n AND a.version::int >= b.version::int"), "in order")
	require.Zero(t, one[int](t, c.db, "SELECT count(*) FROM slipway.inbox_dead"))
	return len(committed)
}

func asSet(all []string) map[string]bool {
	set := make(map[string]bool, len(all))
	for _, s := range all {
		set[s] = true
	}
	return set
}

func one[T any](t *testing.T, db *pgxpool.Pool, sql string, args ...any) (value T) {
	t.Helper()
	require.NoError(t, db.QueryRow(t.Context(), sql, args...).Scan(&value))
	return value
}

func (s *system) open(t *testing.T) *pgxpool.Pool {
	t.Helper()
	db, err := postgres.Open(t.Context(), postgres.Config{URL: s.database}, nil, nil, nil)
	require.NoError(t, err)
	t.Cleanup(db.Close)
	return db
}

// customers place orders and cancel every third until stop, each call on one replica after the
// other until one has answered. They count the calls that no replica answered.
type customers struct {
	stop    func()
	placed  []string // keys
	refused int
}

func startCustomers(t *testing.T, replicas ...*service) *customers {
	t.Helper()
	var conns []*grpc.ClientConn
	for _, r := range replicas {
		conns = append(conns, r.dial(t))
	}
	c := &customers{}
	ctx, cancel := context.WithCancel(context.Background())
	var done sync.WaitGroup
	done.Go(func() {
		for i := 0; ctx.Err() == nil; i++ {
			c.shop(conns, i)
		}
	})
	c.stop = func() {
		cancel()
		done.Wait()
	}
	t.Cleanup(c.stop)
	return c
}

func (c *customers) shop(conns []*grpc.ClientConn, i int) {
	key := fmt.Sprintf("customer-%06d", i)
	for _, conn := range conns {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		client := orderv1.NewOrderServiceClient(conn)
		placed, err := client.PlaceOrder(ctx, request(key))
		if err == nil && i%3 == 0 {
			_, _ = client.CancelOrder(ctx, &orderv1.CancelOrderRequest{OrderId: placed.GetOrder().GetId(), Reason: "changed my mind"})
		}
		cancel()
		if err == nil {
			c.placed = append(c.placed, key)
			return
		}
	}
	c.refused++
}

// TestEvents_travel follows an event from the call that caused it to the consumer of another
// service: payload, order, and the way back by trace and correlation id.
func TestEvents_travel(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	order := s.startOrder(t)
	shipping := s.startShipping(t)
	client := orderv1.NewOrderServiceClient(order.dial(t))
	const traceID = "0af7651916cd43dd8448eb211c80319c"
	ctx := metadata.AppendToOutgoingContext(t.Context(), "traceparent", "00-"+traceID+"-b7ad6b7169203331-01", "x-correlation-id", "cart-17")
	placed, err := client.PlaceOrder(ctx, request("key-0001"))
	require.NoError(t, err)
	_, err = client.CancelOrder(t.Context(), &orderv1.CancelOrderRequest{OrderId: placed.GetOrder().GetId(), Reason: "a test"})
	require.NoError(t, err)

	require.Equal(t, 2, shipping.exactly(t, s.open(t)))
	require.Equal(t, []string{"order.placed", "order.cancelled"}, one[[]string](t, shipping.db, "SELECT array_agg(type ORDER BY n) FROM parcel"))
	require.EqualValues(t, 700, one[int64](t, shipping.db, "SELECT total FROM parcel WHERE type = 'order.placed'"))

	var span tracetest.SpanStub
	require.Eventually(t, func() bool {
		spans := shipping.spans.GetSpans()
		i := slices.IndexFunc(spans, func(s tracetest.SpanStub) bool { return s.Name == "process order.placed" })
		if i >= 0 {
			span = spans[i]
		}
		return i >= 0
	}, patience, 10*time.Millisecond)
	require.NotEqual(t, traceID, span.SpanContext.TraceID().String(), "a trace of its own")
	require.Len(t, span.Links, 1)
	require.Equal(t, traceID, span.Links[0].SpanContext.TraceID().String())
	require.Contains(t, span.Attributes, attribute.String("inbox.result", "applied"))
	require.Eventually(t, func() bool {
		return strings.Contains(order.get(t, "/metrics"), `outbox_unsent_events_total{sink="broker"} 0`)
	}, patience, 50*time.Millisecond)
}

// TestEvents_surviveReplicas kills the replica that publishes, again and again, with -9. The other
// takes over; nothing is lost, and duplicates stay behind the inbox. With a standby that takes only a lease which was
// given back no event flows again.
func TestEvents_surviveReplicas(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	shipping := s.startShipping(t)
	replicas := []*service{s.startOrder(t), s.startOrder(t)}
	db := s.open(t)
	for range 3 {
		load := startCustomers(t, replicas...)
		active := activeOf(t, db, replicas)
		before := shipping.count(t)
		require.Eventually(t, func() bool { return shipping.count(t) > before }, patience, 10*time.Millisecond)
		term := one[int64](t, db, "SELECT term FROM slipway.outbox_sink")
		require.NoError(t, replicas[active].cmd.Process.Kill())
		killed := time.Now()
		<-replicas[active].exited
		require.Eventually(t, func() bool { return one[int64](t, db, "SELECT term FROM slipway.outbox_sink") > term }, patience, 5*time.Millisecond)
		before = shipping.count(t)
		require.Eventually(t, func() bool { return shipping.count(t) > before }, patience, 5*time.Millisecond)
		t.Logf("events flow again %s after the kill", time.Since(killed).Round(time.Millisecond))
		load.stop()
		require.NotEmpty(t, load.placed)
		require.Zero(t, load.refused)
		replicas[active] = s.startOrder(t)
	}
	t.Logf("%d events", shipping.exactly(t, db))
}

// activeOf waits until a replica holds the lease and returns which.
func activeOf(t *testing.T, db *pgxpool.Pool, replicas []*service) (active int) {
	t.Helper()
	require.Eventually(t, func() bool {
		holder := one[string](t, db, "SELECT coalesce(holder, '') FROM slipway.outbox_sink")
		active = slices.IndexFunc(replicas, func(r *service) bool { return strings.HasSuffix(holder, fmt.Sprintf("/%d", r.cmd.Process.Pid)) })
		return active >= 0
	}, patience, 10*time.Millisecond)
	return active
}

// TestEvents_surviveBroker kills the broker with -9, leaves it away, and at last deletes all that it
// has stored. Orders go on all the time. What the broker had and lost is published again by a
// replay, and every consumer ends with each effect once. With a publisher that declares its stream only once the events
// wait for ever.
func TestEvents_surviveBroker(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	shipping := s.startShipping(t)
	replicas := []*service{s.startOrder(t), s.startOrder(t)}
	db := s.open(t)
	began := one[time.Time](t, db, "SELECT clock_timestamp()")
	load := startCustomers(t, replicas...)
	require.Eventually(t, func() bool { return shipping.count(t) > 20 }, patience, 10*time.Millisecond)
	unsent := func() int64 {
		status, err := outbox.NewOperator(db).Status(t.Context())
		require.NoError(t, err)
		return status.Sinks[0].Unsent
	}

	s.broker.kill()
	count := one[int](t, db, "SELECT count(*) FROM slipway.outbox")
	<-time.After(outage(t))
	require.Greater(t, one[int](t, db, "SELECT count(*) FROM slipway.outbox"), count, "business goes on")
	require.Positive(t, unsent())
	s.broker.start()
	require.Eventually(t, func() bool { return unsent() < 50 }, patience, 50*time.Millisecond)

	s.broker.lose()
	<-time.After(outage(t))
	s.broker.start()
	plan, err := outbox.NewOperator(db).Replay(t.Context(), outbox.By{Who: "e2e", Why: "the broker lost its data"}, "broker", began, false)
	require.NoError(t, err)
	require.True(t, plan.Complete)
	require.Eventually(t, func() bool { return unsent() < 50 }, patience, 50*time.Millisecond)
	load.stop()
	require.Zero(t, load.refused, "no call failed in all that time")
	events := shipping.exactly(t, db)
	t.Logf("%d events, %d of them published again", events, plan.Events)
}

// TestEvents_ofEveryVersionAreUnderstood hands the payloads that were ever published to the consumer.
func TestEvents_ofEveryVersionAreUnderstood(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("../order/testdata/events/*.binpb")
	require.NoError(t, err)
	require.NotEmpty(t, files)
	url := postgrestest.New(t)
	db, err := postgres.Open(t.Context(), postgres.Config{URL: url}, nil, nil, nil)
	require.NoError(t, err)
	defer db.Close()
	_, err = db.Exec(t.Context(), parcels)
	require.NoError(t, err)
	for _, file := range files {
		payload, err := os.ReadFile(file)
		require.NoError(t, err)
		subject, version, _ := strings.Cut(strings.TrimSuffix(filepath.Base(file), ".binpb"), ".v")
		m := broker.Message{
			ID: uuid.NewString(), Subject: subject, Key: "order/1", Payload: payload,
			Headers: map[string]string{broker.HeaderEventVersion: version, broker.HeaderAggregateVersion: "1"},
		}
		require.NoError(t, postgres.InTx(t.Context(), db, postgres.TxOptions{}, func(tx pgx.Tx) error { return ship(t.Context(), tx, m) }), file)
	}
	require.Equal(t, len(files), one[int](t, db, "SELECT count(*) FROM parcel"))
	require.EqualValues(t, 700, one[int64](t, db, "SELECT total FROM parcel WHERE type = 'order.placed'"))
}
