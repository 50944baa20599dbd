package system

import (
	"context"
	"fmt"
	"time"

	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill-sql/v4/pkg/sql"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/slipwayhq/slipway/bench/internal/lab"
	"github.com/slipwayhq/slipway/platform/broker"
)

const topic = "events"

// watermillSQL is watermill-sql with a loop that publishes each message and then
// acknowledges it, as watermill's forwarder does.
type watermillSQL struct {
	name    string
	schema  sql.SchemaAdapter
	offsets sql.OffsetsAdapter
	insert  string
	options WatermillOptions
}

// WatermillOptions are what a service may set. Zero values are watermill's defaults:
// 100 rows, 1 second, 30 seconds.
type WatermillOptions struct {
	Batch       int
	Poll        time.Duration
	AckDeadline time.Duration
}

func bytea(string) string { return "BYTEA" }

// WatermillDefault is watermill-sql with its default schema for PostgreSQL. Payloads
// are BYTEA, which is cheaper than its default JSON.
func WatermillDefault(o WatermillOptions) System {
	return &watermillSQL{
		name:    fmt.Sprintf("watermill_%d", o.Batch),
		schema:  sql.DefaultPostgreSQLSchema{GeneratePayloadType: bytea, SubscribeBatchSize: o.Batch},
		offsets: sql.DefaultPostgreSQLOffsetsAdapter{},
		insert: fmt.Sprintf(`INSERT INTO watermill_%s (uuid, payload, metadata, transaction_id)
			SELECT gen_random_uuid(), %s, '%s', pg_current_xact_id()`, topic, fillPayload, headersJSON),
		options: o,
	}
}

// WatermillQueue is watermill-sql with its queue schema, rows deleted when
// acknowledged.
func WatermillQueue(o WatermillOptions) System {
	return &watermillSQL{
		name:    fmt.Sprintf("watermill_queue_%d", o.Batch),
		schema:  sql.PostgreSQLQueueSchema{GeneratePayloadType: bytea, SubscribeBatchSize: o.Batch},
		offsets: sql.PostgreSQLQueueOffsetsAdapter{DeleteOnAck: true},
		insert: fmt.Sprintf(`INSERT INTO watermill_%s (uuid, payload, metadata)
			SELECT gen_random_uuid(), %s, '%s'`, topic, fillPayload, headersJSON),
		options: o,
	}
}

// Name implements System.
func (w *watermillSQL) Name() string { return w.name }

// Install implements System.
func (w *watermillSQL) Install(ctx context.Context, url string) error {
	pool, err := lab.OpenPool(ctx, url, 2)
	if err != nil {
		return err
	}
	defer pool.Close()
	sub, err := w.subscriber(pool)
	if err != nil {
		return err
	}
	defer sub.Close()
	if err := sub.SubscribeInitialize(topic); err != nil {
		return fmt.Errorf("make tables of watermill: %w", err)
	}
	return nil
}

// Tables implements System.
func (w *watermillSQL) Tables() (events, bookkeeping []string) {
	return []string{"public.watermill_" + topic}, []string{"public.watermill_offsets_" + topic}
}

// Writer implements System.
func (w *watermillSQL) Writer(context.Context, *pgxpool.Pool) (Writer, error) {
	return writerFunc(func(ctx context.Context, tx pgx.Tx, events ...Event) error {
		pub, err := sql.NewPublisher(sql.TxFromPgx(tx), sql.PublisherConfig{SchemaAdapter: w.schema}, watermill.NopLogger{})
		if err != nil {
			return fmt.Errorf("make publisher of watermill: %w", err)
		}
		messages := make([]*message.Message, len(events))
		for i, e := range events {
			id, err := uuid.NewV7()
			if err != nil {
				return fmt.Errorf("draw event id: %w", err)
			}
			messages[i] = message.NewMessageWithContext(ctx, id.String(), e.Payload)
			messages[i].Metadata = headers()
		}
		return pub.Publish(topic, messages...)
	}), nil
}

// Fill implements System.
func (w *watermillSQL) Fill(ctx context.Context, url string, n int) error {
	return lab.Exec(ctx, url, fillLoop(w.insert, n, 1)...)
}

func (w *watermillSQL) subscriber(pool *pgxpool.Pool) (*sql.Subscriber, error) {
	cfg := sql.SubscriberConfig{SchemaAdapter: w.schema, OffsetsAdapter: w.offsets, PollInterval: w.options.Poll}
	if w.options.AckDeadline > 0 {
		cfg.AckDeadline = &w.options.AckDeadline
	}
	sub, err := sql.NewSubscriber(sql.BeginnerFromPgx(pool), cfg, watermill.NopLogger{})
	if err != nil {
		return nil, fmt.Errorf("make subscriber of watermill: %w", err)
	}
	return sub, nil
}

// Relay implements System.
func (w *watermillSQL) Relay(ctx context.Context, url string, pub broker.Publisher) (Relay, error) {
	pool, err := lab.OpenPool(ctx, url, 4)
	if err != nil {
		return nil, err
	}
	sub, err := w.subscriber(pool)
	if err != nil {
		pool.Close()
		return nil, err
	}
	return &watermillRelay{pool: pool, sub: sub, pub: pub}, nil
}

type watermillRelay struct {
	pool *pgxpool.Pool
	sub  *sql.Subscriber
	pub  broker.Publisher
}

// Run implements Relay. It takes a message at a time: that is all that the
// subscriber gives.
func (r *watermillRelay) Run(ctx context.Context) error {
	in, err := r.sub.Subscribe(ctx, topic)
	if err != nil {
		return fmt.Errorf("subscribe with watermill: %w", err)
	}
	for m := range in {
		out, err := convert(m.UUID, m.Payload, m.Metadata)
		if err != nil {
			return err
		}
		// Not the message's context: a real publisher would not stop halfway either.
		if err := r.pub.Publish(ctx, []broker.Message{out}); err != nil {
			m.Nack()
			continue
		}
		m.Ack()
	}
	return nil
}

// Wake implements Relay.
func (r *watermillRelay) Wake() {}

// Close implements Relay.
func (r *watermillRelay) Close() {
	_ = r.sub.Close()
	r.pool.Close()
}
