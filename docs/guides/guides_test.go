// Package guides_test compiles what the guides show.
package guides_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/trace"
	"go.uber.org/fx"
	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"github.com/slipwayhq/slipway/platform/broker"
	"github.com/slipwayhq/slipway/platform/broker/nats"
	"github.com/slipwayhq/slipway/platform/inbox"
	"github.com/slipwayhq/slipway/platform/outbox"
	"github.com/slipwayhq/slipway/platform/platformfx"
	"github.com/slipwayhq/slipway/platform/postgres"
	"github.com/slipwayhq/slipway/platform/saga"
	"github.com/slipwayhq/slipway/platform/saga/sagapg"
)

// sources are the files that the guides quote.
var sources = []string{"guides_test.go", "../../reference/payment/adapter/provider/client.go"}

// Each block of Go in a guide stands in a file that is compiled, line by line.
func TestGuides_compile(t *testing.T) {
	t.Parallel()
	var compiled strings.Builder
	for _, name := range sources {
		text, err := os.ReadFile(name)
		require.NoError(t, err)
		compiled.WriteString(unindented(string(text)))
	}
	names, err := filepath.Glob("*.md")
	require.NoError(t, err)
	found := 0
	for _, name := range names {
		text, err := os.ReadFile(name)
		require.NoError(t, err)
		for _, rest := range strings.Split(string(text), "```go\n")[1:] {
			block, _, closed := strings.Cut(rest, "```")
			require.True(t, closed, name)
			if !strings.Contains(compiled.String(), unindented(block)) {
				t.Errorf("%s shows Go that stands in none of %v:\n%s", name, sources, block)
			}
			found++
		}
	}
	require.Greater(t, found, 4, "no Go in the guides: are they read?")
}

// unindented is a text without the tabs that begin its lines.
func unindented(text string) string {
	lines := strings.SplitAfter(text, "\n")
	for i, line := range lines {
		lines[i] = strings.TrimLeft(line, "\t")
	}
	return strings.Join(lines, "")
}

// State and what follows is what the guides take for granted.
type State struct{ OrderID, Reservation string }

type reservations interface {
	Reserve(ctx context.Context, r reservation) (*reservation, error)
}

type reservation struct{ Key, ID string }

var (
	inventory  reservations
	cancel     saga.Func[State]
	release    saga.Func[State]
	authorize  saga.Func[State]
	void       saga.Func[State]
	authorized saga.VerifyFunc[State]
	confirm    saga.Func[State]
)

func request(key string, _ *State) reservation { return reservation{Key: key} }

func isSoldOut(err error) bool { return err != nil }

func isBusy(err error) bool { return err != nil }

func store(context.Context, pgx.Tx, string) error { return nil }

var checkout = saga.Define("checkout", 1,
	saga.Undo("cancel-order", cancel), // nothing forward; if all else is undone, this is too
	saga.Step("reserve-stock", reserve).Undo("release-stock", release),
	saga.Step("authorize-payment", authorize).Undo("void-payment", void).Verify(authorized),
	saga.Pivot("confirm-order", confirm), // from here on it only goes forward
).Timeout(15 * time.Minute)

func reserve(ctx context.Context, c *saga.Call[State]) error {
	reply, err := inventory.Reserve(ctx, request(c.Key, c.State)) // c.Key is the same for each attempt and for the undo
	switch {
	case isSoldOut(err):
		return saga.Rejected(err) // no effect, and never will: undo the saga
	case isBusy(err):
		return saga.Retryable(err) // no effect: try again
	case err != nil:
		return err // nobody knows: try again, then verify or undo as if it had happened
	}
	c.State.Reservation = reply.ID
	return nil
}

var _ = func(ctx context.Context, group *errgroup.Group, pool *pgxpool.Pool, orderID string,
	logger *zap.Logger, registry prometheus.Registerer, tracers trace.TracerProvider,
) error {
	runner, err := sagapg.NewRunner(pool, []sagapg.Definition{checkout}, sagapg.Config{}, logger, registry, tracers)
	if err != nil {
		return err
	}
	group.Go(func() error { return runner.Run(ctx) }) // in every replica; with Fx: platformfx.Saga and platformfx.SagaDefinition

	var begin func()
	err = postgres.InTx(ctx, pool, postgres.TxOptions{}, func(tx pgx.Tx) (err error) {
		if err := store(ctx, tx, orderID); err != nil { // the business change
			return err
		}
		begin, err = sagapg.Start(ctx, tx, runner, checkout, orderID, State{OrderID: orderID}) // runs if and only if this commits
		return err
	})
	if err == nil {
		begin()
	}
	return err
}

var _ = func(ctx context.Context, db *pgxpool.Pool, relay *outbox.Relay, id string, version int64, payload []byte) error {
	err := postgres.InTx(ctx, db, postgres.TxOptions{}, func(tx pgx.Tx) error {
		// 1. Lock the aggregate, or check its version: that is what gives its events an order.
		// 2. Change it.
		// 3. As the last statement:
		return outbox.Add(ctx, tx, outbox.Event{
			AggregateType: "order", AggregateID: id, AggregateVersion: version,
			Type: "order.placed", Version: 1, Payload: payload,
		})
	})
	if err == nil {
		relay.Wake() // publish now, not at the next poll
	}
	return err
}

var _ = func(cfg struct {
	Database postgres.Config
	Broker   nats.Config
	Outbox   outbox.Config
},
) {
	fx.New(
		platformfx.Postgres(cfg.Database),
		platformfx.NATS(cfg.Broker),
		platformfx.NATSPublisher(nats.PublisherConfig{Stream: nats.Stream{Name: "order", Subjects: []string{"order.>"}}}),
		platformfx.Outbox(cfg.Outbox, cfg.Database), // a pool of its own, of up to 6 connections
	)
}

var _ = func(db *pgxpool.Pool, subscriber broker.Subscriber,
	logger *zap.Logger, registry prometheus.Registerer, tracers trace.TracerProvider,
) (*inbox.Consumer, error) {
	handle := func(ctx context.Context, tx pgx.Tx, m broker.Message) error {
		// Write with tx only: that happens once. A call to another service happens at least once.
		_, err := tx.Exec(ctx, "INSERT INTO shipment (order_id) VALUES ($1)", m.Headers[broker.HeaderAggregateID])
		return err
	}
	consumer, err := inbox.NewConsumer(db, subscriber, inbox.Config{Name: "shipping", Subjects: []string{"order.>"}}, handle, logger, registry, tracers)
	return consumer, err
}
