package outbox_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/baggage"
	"go.opentelemetry.io/otel/trace"
	"go.uber.org/goleak"

	"github.com/slipwayhq/slipway/platform/internal/correlation"
	"github.com/slipwayhq/slipway/platform/outbox"
	"github.com/slipwayhq/slipway/platform/postgres"
	"github.com/slipwayhq/slipway/platform/postgres/postgrestest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(postgrestest.Closing(m)) }

func setup(tb testing.TB) *pgxpool.Pool {
	tb.Helper()
	return open(tb, postgrestest.New(tb, outbox.Migrations()))
}

// open returns a pool whose transactions wait for the disk, as in production.
func open(tb testing.TB, url string) *pgxpool.Pool {
	tb.Helper()
	cfg := postgres.Config{URL: url + "&synchronous_commit=on", MaxConns: 20}
	pool, err := postgres.Open(tb.Context(), cfg, nil, nil, nil)
	require.NoError(tb, err)
	tb.Cleanup(pool.Close)
	return pool
}

func event(id string, version int64) outbox.Event {
	return outbox.Event{
		AggregateType: "order", AggregateID: id, AggregateVersion: version,
		Type: "order.placed", Version: 1, Payload: []byte("{}"),
	}
}

// add stores events in a transaction of their own.
func add(tb testing.TB, ctx context.Context, db postgres.Beginner, events ...outbox.Event) {
	tb.Helper()
	require.NoError(tb, postgres.InTx(ctx, db, postgres.TxOptions{}, func(tx pgx.Tx) error {
		return outbox.Add(ctx, tx, events...)
	}))
}

// rows returns the values of a query's only column.
func rows[T any](tb testing.TB, db interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
}, sql string, args ...any,
) []T {
	tb.Helper()
	found, err := db.Query(tb.Context(), sql, args...)
	require.NoError(tb, err)
	values, err := pgx.CollectRows(found, pgx.RowTo[T])
	require.NoError(tb, err)
	return values
}

func exec(tb testing.TB, db interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
}, sql string, args ...any,
) {
	tb.Helper()
	found, err := db.Query(tb.Context(), sql, args...)
	require.NoError(tb, err)
	found.Close()
	require.NoError(tb, found.Err())
}

func TestAdd(t *testing.T) {
	t.Parallel()
	pool := setup(t)
	ctx := t.Context()

	t.Run("stores every field", func(t *testing.T) {
		e := outbox.Event{
			ID: uuid.New(), AggregateType: "invoice", AggregateID: "ä/7", AggregateVersion: 3,
			Type: "invoice.paid", Version: 2, Payload: []byte{0, 255}, Headers: map[string]string{"tenant": "<a&b>"},
		}
		add(t, ctx, pool, e)
		var got outbox.Event
		var lane int16
		var headers string
		var age float64
		require.NoError(t, pool.QueryRow(ctx, `select event_id, aggregate_type, aggregate_id, aggregate_version,
			event_type, event_version, payload, headers, lane, extract(epoch from clock_timestamp() - created_at)
			from slipway.outbox where aggregate_type = 'invoice'`).Scan(&got.ID, &got.AggregateType, &got.AggregateID,
			&got.AggregateVersion, &got.Type, &got.Version, &got.Payload, &headers, &lane, &age))
		require.NoError(t, json.Unmarshal([]byte(headers), &got.Headers))
		require.Equal(t, e, got)
		require.Equal(t, outbox.Lane("invoice", "ä/7"), lane)
		require.InDelta(t, 0, age, 10)
	})
	t.Run("draws a time-ordered id", func(t *testing.T) {
		add(t, ctx, pool, event("ids", 1), event("ids", 2))
		ids := rows[uuid.UUID](t, pool, "select event_id from slipway.outbox where aggregate_id = 'ids' order by id")
		require.Equal(t, uuid.Version(7), ids[0].Version())
		require.Negative(t, slices.Compare(ids[0][:], ids[1][:]))
	})
	t.Run("takes an empty payload", func(t *testing.T) {
		e := event("empty", 1)
		e.Payload = nil
		add(t, ctx, pool, e)
		require.Equal(t, []int{0}, rows[int](t, pool, "select length(payload) from slipway.outbox where aggregate_id = 'empty'"))
	})
	t.Run("without events does nothing", func(t *testing.T) {
		require.NoError(t, outbox.Add(ctx, nil))
	})
	t.Run("takes ten thousand events in one call", func(t *testing.T) {
		events := make([]outbox.Event, 10_000)
		for i := range events {
			events[i] = event("bulk", int64(i))
		}
		add(t, ctx, pool, events...)
		versions := rows[int64](t, pool, "select aggregate_version from slipway.outbox where aggregate_id = 'bulk' order by id")
		require.Len(t, versions, len(events))
		require.True(t, slices.IsSorted(versions), "in the order in which they were given")
	})
}

// With an Add that commits an event exists without its transaction; with a sequence that hands out blocks the later
// of two transactions gets the smaller id.
func TestAdd_transaction(t *testing.T) {
	t.Parallel()
	pool := setup(t)
	ctx := t.Context()

	t.Run("leaves nothing after a rollback", func(t *testing.T) {
		errStop := errors.New("stop")
		err := postgres.InTx(ctx, pool, postgres.TxOptions{}, func(tx pgx.Tx) error {
			require.NoError(t, outbox.Add(ctx, tx, event("1", 1)))
			return errStop
		})
		require.ErrorIs(t, err, errStop)
		require.Equal(t, []int{0}, rows[int](t, pool, "select count(*) from slipway.outbox"))
	})
	t.Run("carries the top-level xid, also from a savepoint", func(t *testing.T) {
		tx, err := pool.Begin(ctx)
		require.NoError(t, err)
		defer tx.Rollback(ctx)
		require.NoError(t, outbox.Add(ctx, tx, event("1", 1)))
		lost, err := tx.Begin(ctx)
		require.NoError(t, err)
		require.NoError(t, outbox.Add(ctx, lost, event("1", 2)))
		require.NoError(t, lost.Rollback(ctx))
		kept, err := tx.Begin(ctx)
		require.NoError(t, err)
		require.NoError(t, outbox.Add(ctx, kept, event("1", 3)))
		require.NoError(t, kept.Commit(ctx))
		xid := rows[string](t, tx, "select pg_current_xact_id()::text")[0]
		require.NoError(t, tx.Commit(ctx))

		require.Equal(t, []int64{1, 3}, rows[int64](t, pool, "select aggregate_version from slipway.outbox where aggregate_id = '1' order by id"))
		require.Equal(t, []string{xid}, rows[string](t, pool, "select distinct xid::text from slipway.outbox"))
	})
	t.Run("gives the later of two serialised transactions the larger id", func(t *testing.T) {
		exec(t, pool, "create table orders (id text primary key, version bigint not null)")
		exec(t, pool, "insert into orders values ('a', 0), ('b', 0)")
		const writers, each = 8, 25
		errs := make(chan error, writers)
		for w := range writers {
			go func() { errs <- change(ctx, pool, fmt.Sprintf("%c", 'a'+w%2), each) }()
		}
		for range writers {
			require.NoError(t, <-errs)
		}
		for _, id := range []string{"a", "b"} {
			versions := rows[int64](t, pool, "select aggregate_version from slipway.outbox where aggregate_id = $1 order by id", id)
			require.Len(t, versions, writers/2*each)
			require.True(t, slices.IsSorted(versions))
		}
	})
}

// change makes n transactions that each lock the order, change it and add an
// event. They have their xid before they get the lock.
func change(ctx context.Context, pool *pgxpool.Pool, id string, n int) error {
	for range n {
		err := postgres.InTx(ctx, pool, postgres.TxOptions{}, func(tx pgx.Tx) error {
			var version int64
			err := tx.QueryRow(ctx, `with early as materialized (select pg_current_xact_id())
				update orders set version = version + 1 from early where id = $1 returning version`, id).Scan(&version)
			if err != nil {
				return err
			}
			return outbox.Add(ctx, tx, event(id, version))
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func TestAdd_headers(t *testing.T) {
	t.Parallel()
	pool := setup(t)
	state, err := trace.ParseTraceState("vendor=x")
	require.NoError(t, err)
	member, err := baggage.NewMemberRaw("tenant", "acme")
	require.NoError(t, err)
	bag, err := baggage.New(member)
	require.NoError(t, err)
	ctx := trace.ContextWithSpanContext(t.Context(), trace.NewSpanContext(trace.SpanContextConfig{
		TraceID: trace.TraceID{1}, SpanID: trace.SpanID{2}, TraceFlags: trace.FlagsSampled, TraceState: state,
	}))
	ctx = baggage.ContextWithBaggage(ctx, bag)
	ctx = correlation.With(ctx, "corr-1")

	own := event("own", 1)
	own.Headers = map[string]string{"correlation_id": "mine", "tenant": "acme"}
	add(t, ctx, pool, event("shared", 1), own)
	add(t, t.Context(), pool, event("bare", 1))

	headers := func(id string) map[string]string {
		var h map[string]string
		text := rows[string](t, pool, "select headers from slipway.outbox where aggregate_id = $1", id)[0]
		require.NoError(t, json.Unmarshal([]byte(text), &h))
		return h
	}
	t.Run("carry trace, baggage and correlation id", func(t *testing.T) {
		h := headers("shared")
		require.Equal(t, "00-01000000000000000000000000000000-0200000000000000-01", h["traceparent"])
		require.Equal(t, "vendor=x", h["tracestate"])
		require.Contains(t, h["baggage"], "tenant=acme")
		require.Equal(t, "corr-1", h["correlation_id"])
	})
	t.Run("of the event itself come first", func(t *testing.T) {
		require.Equal(t, "mine", headers("own")["correlation_id"])
		require.Equal(t, headers("shared")["traceparent"], headers("own")["traceparent"])
	})
	t.Run("are empty without a trace", func(t *testing.T) {
		require.Empty(t, headers("bare"))
	})
}

func TestAdd_invalid(t *testing.T) {
	t.Parallel()
	bad := outbox.Event{
		AggregateID: "a\x00", AggregateVersion: -1, Type: "\xff", Version: math.MaxInt32 + 1,
		Headers: map[string]string{"": "x", "h": "\x00"},
	}
	err := outbox.Add(t.Context(), nil, event("good", 1), bad, outbox.Event{})
	require.ErrorIs(t, err, outbox.ErrInvalid)
	for _, part := range []string{
		"invalid event 1", "invalid event 2", "aggregate type: must not be empty", "aggregate id: must be UTF-8",
		"aggregate version: -1", "type: must be UTF-8", "version: 2147483648", "header name: must not", "header h: must be",
		"version: 0 is not",
	} {
		require.ErrorContains(t, err, part)
	}
	require.NotContains(t, err.Error(), "invalid event 0")
}

func TestLane(t *testing.T) {
	t.Parallel()
	t.Run("never changes", func(t *testing.T) {
		t.Parallel()
		got := []int16{outbox.Lane("order", "1"), outbox.Lane("order", "2"), outbox.Lane("", ""), outbox.Lane("o", "rder1")}
		require.Equal(t, []int16{104, 1345, 15324, 30169}, got)
	})
	t.Run("is FNV-1a, folded", func(t *testing.T) {
		t.Parallel()
		h := fnv.New64a()
		_, _ = h.Write([]byte("order\x001"))
		require.Equal(t, int16((h.Sum64()>>15^h.Sum64())&0x7fff), outbox.Lane("order", "1"))
	})
	t.Run("tells type and id apart", func(t *testing.T) {
		t.Parallel()
		require.NotEqual(t, outbox.Lane("ab", "c"), outbox.Lane("a", "bc"))
	})
	t.Run("spreads aggregates evenly", func(t *testing.T) {
		t.Parallel()
		var counts [16]int
		for i := range 16_000 {
			counts[outbox.Lane("order", fmt.Sprint(i))%16]++
		}
		require.Greater(t, slices.Min(counts[:]), 850)
		require.Less(t, slices.Max(counts[:]), 1150)
	})
}

func BenchmarkAdd(b *testing.B) {
	payload := []byte(strings.Repeat("x", 256))
	for _, n := range []int{1, 10, 100} {
		b.Run(fmt.Sprintf("events=%d", n), func(b *testing.B) {
			pool := setup(b)
			tx, err := pool.Begin(b.Context())
			require.NoError(b, err)
			defer tx.Rollback(b.Context())
			events := make([]outbox.Event, n)
			for i := range events {
				events[i] = event(fmt.Sprint(i), 1)
				events[i].Payload = payload
			}
			b.ReportAllocs()
			for b.Loop() {
				if err := outbox.Add(b.Context(), tx, events...); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.N*n)/b.Elapsed().Seconds(), "events/s")
		})
	}
}
