package outboxcmd_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/slipwayhq/slipway/cmd/slipway/internal/commandtest"
	"github.com/slipwayhq/slipway/platform/broker"
	"github.com/slipwayhq/slipway/platform/outbox"
	"github.com/slipwayhq/slipway/platform/postgres"
	"github.com/slipwayhq/slipway/platform/postgres/postgrestest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(postgrestest.Closing(m)) }

// rig is a database with an outbox, and the command line that operates on it.
type rig struct{ *commandtest.Rig }

func setup(t *testing.T) *rig {
	t.Helper()
	return &rig{commandtest.New(t, "outbox", outbox.Migrations())}
}

// decoded runs a command that must succeed and reads its JSON.
func decoded[T any](r *rig, args ...string) T {
	r.T.Helper()
	return commandtest.Decoded[T](r.Rig, args...)
}

func event(id string, version int64) outbox.Event {
	return outbox.Event{
		AggregateType: "order", AggregateID: id, AggregateVersion: version,
		Type: "order.placed", Version: 1, Payload: []byte(`{"total": 7}`), Headers: map[string]string{"tenant": "blue"},
	}
}

// add stores events in a transaction of their own.
func (r *rig) add(events ...outbox.Event) {
	r.T.Helper()
	require.NoError(r.T, postgres.InTx(r.T.Context(), r.Pool, postgres.TxOptions{}, func(tx pgx.Tx) error {
		return outbox.Add(r.T.Context(), tx, events...)
	}))
}

// relay publishes to a sink of the name until stop, or the end of the test.
func (r *rig) relay(name string) (s *sink, stop func()) {
	r.T.Helper()
	s = &sink{poison: map[string]bool{}}
	relay, err := outbox.NewRelay(r.Pool, s, outbox.Config{
		Sink: name, Holder: "replica-1", Poll: 20 * time.Millisecond, Lease: time.Second, Maintenance: 50 * time.Millisecond,
	}, nil, nil)
	require.NoError(r.T, err)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- relay.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		require.NoError(r.T, <-ended)
	})
	r.T.Cleanup(stop)
	r.Eventually(func() bool { // it has the lease
		var held bool
		err := r.Pool.QueryRow(r.T.Context(), "select count(*) = 1 from slipway.outbox_sink where sink = $1 and holder = 'replica-1'", name).Scan(&held)
		require.NoError(r.T, err)
		return held
	})
	return s, stop
}

// sink is a broker that keeps what it takes.
type sink struct {
	mu       sync.Mutex
	messages []broker.Message
	poison   map[string]bool // keys that it refuses
}

// Publish refuses poison for good.
func (s *sink) Publish(_ context.Context, messages []broker.Message) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	errs := make([]error, len(messages))
	for i, m := range messages {
		if s.poison[m.Key] {
			errs[i] = fmt.Errorf("%w: %s is\npoison", broker.ErrRefused, m.Key)
			continue
		}
		s.messages = append(s.messages, m)
	}
	return broker.Joined(errs)
}

func (s *sink) refuse(key string, refuse bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.poison[key] = refuse
}

// versions returns those of an aggregate in the order in which they were published.
func (s *sink) versions(key string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var versions []string
	for _, m := range s.messages {
		if m.Key == key {
			versions = append(versions, m.Headers[broker.HeaderAggregateVersion])
		}
	}
	return strings.Join(versions, " ")
}
