// Package system holds the ways to get events from transactions to a broker that the
// benchmarks compare: Slipway's outbox, its peers, and the recipes that people
// write by hand. All of them get the same events and give the same messages.
package system

import (
	"context"
	"encoding/binary"
	"fmt"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/slipwayhq/slipway/platform/broker"
)

// Event is what a transaction has to tell.
type Event struct {
	// Aggregate is what it is about, Version that one's version after it.
	Aggregate, Version int64
	// Payload is at least PayloadHead bytes, which Mark fills.
	Payload []byte
}

const (
	// Kind is the aggregate type of all events.
	Kind = "order"
	// Type is the event type of all events.
	Type = "order.placed"
	// PayloadHead is how much of a payload Mark uses.
	PayloadHead = 24
)

// Mark writes who an event is at the beginning of its payload: in the benchmarks
// that count, no other part of a message is trusted.
func Mark(payload []byte, aggregate, version, nonce int64) {
	binary.BigEndian.PutUint64(payload, uint64(aggregate))
	binary.BigEndian.PutUint64(payload[8:], uint64(version))
	binary.BigEndian.PutUint64(payload[16:], uint64(nonce))
}

// Marked reads what Mark has written.
func Marked(payload []byte) (aggregate, version, nonce int64, err error) {
	if len(payload) < PayloadHead {
		return 0, 0, 0, fmt.Errorf("read payload: %d bytes are too few", len(payload))
	}
	return int64(binary.BigEndian.Uint64(payload)), int64(binary.BigEndian.Uint64(payload[8:])),
		int64(binary.BigEndian.Uint64(payload[16:])), nil
}

// System is a way to get events from transactions to a broker.
type System interface {
	// Name is how the figures call it.
	Name() string
	// Install makes the tables in an empty database.
	Install(ctx context.Context, url string) error
	// Tables lists those that hold events, and those for bookkeeping, by their
	// names with schema.
	Tables() (events, bookkeeping []string)
	// Writer returns what adds events. Close it.
	Writer(ctx context.Context, pool *pgxpool.Pool) (Writer, error)
	// Fill stores n committed events of 256 B, in transactions of one event if it
	// can, as a service would have left them.
	Fill(ctx context.Context, url string, n int) error
	// Relay returns what publishes the events to pub.
	Relay(ctx context.Context, url string, pub broker.Publisher) (Relay, error)
}

// Writer adds events to transactions.
type Writer interface {
	Add(ctx context.Context, tx pgx.Tx, events ...Event) error
	Close()
}

// Relay publishes events.
type Relay interface {
	// Run publishes until ctx ends.
	Run(ctx context.Context) error
	// Wake tells that events were committed, if the system has a use for that.
	Wake()
	// Close frees what Run has used.
	Close()
}

// headers are those of every event, as JSON and as a map.
const headersJSON = `{"traceparent":"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"}`

func headers() map[string]string {
	return map[string]string{"traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"}
}

// convert returns the message of an event which a peer's relay has read. Slipway's relay
// makes its own, with more in it.
func convert(id string, payload []byte, headers map[string]string) (broker.Message, error) {
	aggregate, version, _, err := Marked(payload)
	if err != nil {
		return broker.Message{}, err
	}
	if headers == nil {
		headers = make(map[string]string, 4)
	}
	key := keyOf(aggregate)
	headers[broker.HeaderID], headers[broker.HeaderKey] = id, key
	headers[broker.HeaderAggregateVersion] = strconv.FormatInt(version, 10)
	return broker.Message{ID: id, Subject: Type, Key: key, Headers: headers, Payload: payload}, nil
}

func keyOf(aggregate int64) string { return Kind + "/" + strconv.FormatInt(aggregate, 10) }

// pollRelay is a relay that looks for events, publishes what it finds, and waits for
// a while when there was nothing.
type pollRelay struct {
	pool  *pgxpool.Pool
	pause time.Duration
	// step returns how many events it has published.
	step func(ctx context.Context, pool *pgxpool.Pool) (int, error)
}

// Run implements Relay.
func (r *pollRelay) Run(ctx context.Context) error {
	for ctx.Err() == nil {
		n, err := r.step(ctx, r.pool)
		if err != nil && ctx.Err() == nil {
			return err
		}
		if n > 0 {
			continue
		}
		select {
		case <-ctx.Done():
		case <-time.After(r.pause):
		}
	}
	return nil
}

// Wake implements Relay.
func (r *pollRelay) Wake() {}

// Close implements Relay.
func (r *pollRelay) Close() { r.pool.Close() }

// writerFunc is a Writer without anything to close.
type writerFunc func(ctx context.Context, tx pgx.Tx, events ...Event) error

// Add implements Writer.
func (f writerFunc) Add(ctx context.Context, tx pgx.Tx, events ...Event) error {
	return f(ctx, tx, events...)
}

// Close implements Writer.
func (writerFunc) Close() {}

// PayloadSize is that of the events that Fill stores.
const PayloadSize = 256

// fillLoop returns statements that run an INSERT of perTx rows, numbered
// generate_series g, in transactions of their own until there are n. Nobody waits
// for the disk: the rows are there when the run begins, however they came.
func fillLoop(insert string, n, perTx int) []string {
	return []string{"SET synchronous_commit = off", fmt.Sprintf(`DO $fill$
BEGIN
	FOR i IN 0..%d LOOP
		%s FROM generate_series(i * %d + 1, least((i + 1) * %d, %d)) AS g;
		COMMIT;
	END LOOP;
END $fill$`, (n+perTx-1)/perTx-1, insert, perTx, perTx, n)}
}

// fillPayload is the payload of row g as SQL: aggregate, version, number, filler.
var fillPayload = fmt.Sprintf(`int8send(g %% %d) || int8send(g / %d + 1) || int8send(g) || decode(repeat('5a', %d), 'hex')`,
	fillAggregates, fillAggregates, PayloadSize-PayloadHead)

// fillAggregates is over how many aggregates Fill spreads events.
const fillAggregates = 1000
