package inbox_test

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/attribute"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/slipwayhq/slipway/platform/broker"
	"github.com/slipwayhq/slipway/platform/fault"
	"github.com/slipwayhq/slipway/platform/inbox"
	"github.com/slipwayhq/slipway/platform/internal/correlation"
	"github.com/slipwayhq/slipway/platform/postgres"
	"github.com/slipwayhq/slipway/platform/postgres/postgrestest"
)

// message is the event of an order, whose payload says which it is.
func message(order string, version int) broker.Message {
	return broker.Message{
		ID: newID(), Subject: "order.changed", Key: "order/" + order, Payload: fmt.Appendf(nil, "%s:%d", order, version),
		Headers: map[string]string{
			broker.HeaderAggregateVersion: strconv.Itoa(version),
			broker.HeaderTime:             time.Now().UTC().Format(time.RFC3339Nano),
		},
	}
}

// history is the events of an order, versions 1 to n.
func history(order string, n int) []broker.Message {
	var all []broker.Message
	for v := range n {
		all = append(all, message(order, v+1))
	}
	return all
}

func payloads(messages []broker.Message) []string {
	var all []string
	for _, m := range messages {
		all = append(all, string(m.Payload))
	}
	return all
}

// writing is a handler whose effect is the payload, in the name of the key.
func writing(ctx context.Context, tx pgx.Tx, m broker.Message) error {
	return effect(ctx, tx, m.Key, string(m.Payload))
}

// failing is writing, but for the payloads that fail says an error for.
func failing(fail func(payload string) error) inbox.Handler {
	return func(ctx context.Context, tx pgx.Tx, m broker.Message) error {
		return errors.Join(writing(ctx, tx, m), fail(string(m.Payload)))
	}
}

var modes = []inbox.Mode{inbox.ByID, inbox.ByVersion}

// fresh returns a consumer that is not started, with a database and a stream of its
// own.
func fresh(t *testing.T, mode inbox.Mode) (running, *stream) {
	t.Helper()
	s := &stream{}
	return running{pool: setup(t), sub: s, cfg: quick("shipping", mode)}, s
}

// With the mark, or the watermark, left out each replay doubles the effects.
func TestConsumer_replay(t *testing.T) {
	t.Parallel()
	for _, mode := range modes {
		t.Run(string(mode), func(t *testing.T) {
			t.Parallel()
			r, s := fresh(t, mode)
			one, other := r.start(t, writing), r.start(t, writing)
			a, b := history("a", 20), history("b", 20)
			for range 3 {
				for i := range a {
					s.publish(a[i], b[i])
				}
				s.empty(t)
			}
			if r.cfg.Mode == inbox.ByVersion {
				require.Equal(t, payloads(a), effects(t, r.pool, "order/a"))
			}
			require.ElementsMatch(t, payloads(a), effects(t, r.pool, "order/a"))
			require.ElementsMatch(t, payloads(b), effects(t, r.pool, "order/b"))
			for result, want := range map[string]float64{"applied": 40, "duplicate": 80, "early": 0, "retried": 0, "dead": 0} {
				name := "inbox_messages_total"
				require.InDelta(t, want, one.value(t, name, result)+other.value(t, name, result), 0, result)
			}
			require.InDelta(t, 40, one.value(t, "inbox_lag_seconds", "")+other.value(t, "inbox_lag_seconds", ""), 0)
			require.InDelta(t, 40, one.value(t, "inbox_handle_seconds", "")+other.value(t, "inbox_handle_seconds", ""), 0)
		})
	}
}

func TestConsumer_retry(t *testing.T) {
	t.Parallel()
	for _, mode := range modes {
		t.Run(string(mode), func(t *testing.T) {
			t.Parallel()
			r, s := fresh(t, mode)
			var calls atomic.Int32
			ran := r.start(t, failing(func(string) error {
				switch calls.Add(1) {
				case 1:
					return fault.New(fault.Unavailable, "later")
				case 2:
					panic("at first")
				}
				return nil
			}))
			s.publish(message("a", 1))
			s.empty(t)
			require.Equal(t, []string{"a:1"}, effects(t, r.pool, "order/a"), "what failed left nothing")
			require.InDelta(t, 2, ran.value(t, "inbox_messages_total", "retried"), 0)
		})
	}
}

// A handler that hangs is ended, and counts as failed: here it hangs in the
// database, which costs the connection and must not look like an outage.
func TestConsumer_handlerTimeout(t *testing.T) {
	t.Parallel()
	for _, mode := range modes {
		t.Run(string(mode), func(t *testing.T) {
			t.Parallel()
			r, s := fresh(t, mode)
			r.cfg.HandlerTimeout = 30 * time.Millisecond
			r.start(t, func(ctx context.Context, tx pgx.Tx, _ broker.Message) error {
				_, err := tx.Exec(ctx, "select pg_sleep(600)")
				return err
			})
			s.publish(message("a", 1))
			s.empty(t)
			letters := deadLetters(t, r)
			require.Len(t, letters, 1)
			require.Equal(t, "exhausted", letters[0].Class)
			require.Equal(t, 3, letters[0].Attempts)
		})
	}
}

func TestConsumer_shutdown(t *testing.T) {
	t.Parallel()
	r, s := fresh(t, inbox.ByID)
	begun, finish := make(chan struct{}, 100), make(chan struct{})
	ran := r.start(t, func(ctx context.Context, tx pgx.Tx, m broker.Message) error {
		begun <- struct{}{}
		<-finish
		return writing(ctx, tx, m)
	})
	for i := range 10 {
		s.publish(message(strconv.Itoa(i), 1))
	}
	for range r.cfg.Concurrency {
		<-begun
	}
	ended := make(chan error)
	go func() { ended <- ran.stop() }()
	close(finish)
	require.NoError(t, <-ended)
	require.LessOrEqual(t, s.most, r.cfg.Concurrency)
	require.Equal(t, s.settled, one[int](t, r.pool, "select count(*) from effects"), "what was in hand is finished")
	require.GreaterOrEqual(t, s.settled, r.cfg.Concurrency)
}

func TestConsumer_context(t *testing.T) {
	t.Parallel()
	recorder := tracetest.NewSpanRecorder()
	s := &stream{}
	r := running{
		pool: setup(t), sub: s, cfg: quick("shipping", inbox.ByID),
		tp: sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(recorder)),
	}
	given := make(chan string, 1)
	ran := r.start(t, func(ctx context.Context, _ pgx.Tx, _ broker.Message) error {
		given <- correlation.ID(ctx)
		return nil
	})
	m := message("a", 1)
	m.Headers["traceparent"] = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	m.Headers["correlation_id"] = "cart-17"
	s.publish(m)
	s.empty(t)
	require.NoError(t, ran.stop())
	require.Equal(t, "cart-17", <-given)
	require.Len(t, recorder.Ended(), 1)
	span := recorder.Ended()[0]
	require.Equal(t, "process order.changed", span.Name())
	require.NotEqual(t, "0af7651916cd43dd8448eb211c80319c", span.SpanContext().TraceID().String(), "a trace of its own")
	require.Equal(t, "0af7651916cd43dd8448eb211c80319c", span.Links()[0].SpanContext.TraceID().String())
	require.Contains(t, span.Attributes(), attribute.String("inbox.result", "applied"))
}

// Without blame, which tells the database's errors from the handler's, the outage
// makes dead letters; with the acknowledgement before the commit it loses effects.
func TestConsumer_databaseOutage(t *testing.T) {
	t.Parallel()
	for _, mode := range modes {
		t.Run(string(mode), func(t *testing.T) {
			t.Parallel()
			server := postgrestest.StartServer(t)
			migrated(t, server.URL("postgres"))
			address, err := url.Parse(server.URL("postgres"))
			require.NoError(t, err)
			query := address.Query()
			query.Set("synchronous_commit", "on") // without it a commit is a promise that kill -9 breaks
			address.RawQuery = query.Encode()
			pool := open(t, address.String())
			s := &stream{}
			r := running{pool: pool, sub: s, cfg: quick("shipping", mode)}
			r.cfg.MaxAttempts = 2
			var handled atomic.Int32
			ran := r.start(t, func(ctx context.Context, tx pgx.Tx, m broker.Message) error {
				handled.Add(1)
				return writing(ctx, tx, m)
			})
			const orders, each = 6, 40
			publish := func(from, to int) {
				for v := from; v < to; v++ {
					for o := range orders {
						s.publish(message(strconv.Itoa(o), v+1))
					}
				}
			}
			publish(0, each/2)
			require.Eventually(t, func() bool { return handled.Load() > 20 }, patience, time.Millisecond)
			require.NoError(t, server.Kill())
			publish(each/2, each)
			failed := s.tries()
			require.Eventually(t, func() bool { return s.tries() > failed+20 }, patience, 5*time.Millisecond)
			require.NoError(t, server.Restart(t.Context()))
			s.empty(t)
			require.NoError(t, ran.stop())
			for o := range orders {
				require.ElementsMatch(t, payloads(history(strconv.Itoa(o), each)), effects(t, pool, fmt.Sprintf("order/%d", o)))
			}
			require.Zero(t, one[int](t, pool, "select count(*) from slipway.inbox_dead"))
			require.Zero(t, one[int](t, pool, "select count(*) from slipway.inbox_attempt"))
		})
	}
}

func TestConsumer_Run(t *testing.T) {
	t.Parallel()
	pool := setup(t)

	t.Run("refuses another mode than before", func(t *testing.T) {
		t.Parallel()
		r := running{pool: pool, sub: &stream{}, cfg: quick("mode", inbox.ByID)}
		first := r.start(t, writing)
		require.Eventually(t, func() bool {
			return one[bool](t, pool, "select count(*) > 0 from slipway.inbox_consumer where consumer = 'mode'")
		}, patience, time.Millisecond)
		require.NoError(t, first.stop())
		r.cfg.Mode = inbox.ByVersion
		c, err := inbox.NewConsumer(pool, r.sub, r.cfg, writing, nil, nil, nil)
		require.NoError(t, err)
		require.ErrorContains(t, c.Run(t.Context()), "has not been by_version before")
	})
	t.Run("returns the error of a subscription that is refused", func(t *testing.T) {
		t.Parallel()
		c, err := inbox.NewConsumer(pool, refusing{}, quick("refused", inbox.ByID), writing, nil, nil, nil)
		require.NoError(t, err)
		require.ErrorIs(t, c.Run(t.Context()), errStop)
	})
	t.Run("returns the error of missing tables", func(t *testing.T) {
		t.Parallel()
		c, err := inbox.NewConsumer(open(t, postgrestest.New(t)), &stream{}, quick("none", inbox.ByID), writing, nil, nil, nil)
		require.NoError(t, err)
		require.Equal(t, "42P01", postgres.SQLState(c.Run(t.Context())))
	})
	t.Run("waits for a database that is away, until its context ends", func(t *testing.T) {
		t.Parallel()
		away, err := postgres.Open(t.Context(), postgres.Config{URL: "postgres://x@127.0.0.1:1/x"}, nil, nil, nil)
		require.NoError(t, err)
		t.Cleanup(away.Close)
		c, err := inbox.NewConsumer(away, &stream{}, quick("away", inbox.ByID), writing, nil, nil, nil)
		require.NoError(t, err)
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		require.NoError(t, c.Run(ctx))
	})
}

type refusing struct{}

func (refusing) Subscribe(context.Context, broker.Subscription, broker.Handler) error { return errStop }

// Two replicas with the same message in hand at the same moment, which a broker
// does after a process was taken for dead: the handlers run one after the other,
// and the second one's does not run at all.
func TestConsumer_sameMessageTwice(t *testing.T) {
	t.Parallel()
	for _, mode := range modes {
		t.Run(string(mode), func(t *testing.T) {
			t.Parallel()
			r, _ := fresh(t, mode)
			one, two := &stream{}, &stream{}
			var wg sync.WaitGroup
			for _, s := range []*stream{one, two} {
				r.sub = s
				r.start(t, writing)
			}
			for _, m := range history("a", 100) {
				for _, s := range []*stream{one, two} {
					wg.Go(func() { s.publish(m) })
				}
				wg.Wait()
			}
			one.empty(t)
			two.empty(t)
			require.ElementsMatch(t, payloads(history("a", 100)), effects(t, r.pool, "order/a"))
		})
	}
}
