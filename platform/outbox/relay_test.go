package outbox_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap/zaptest"

	"github.com/slipwayhq/slipway/platform/broker"
	"github.com/slipwayhq/slipway/platform/outbox"
)

// patience is what a test waits for something that takes milliseconds on an idle machine.
const patience = 60 * time.Second

// sink is a broker that keeps what it is given. fail, if set, decides the fate of a message.
type sink struct {
	mu       sync.Mutex
	messages []broker.Message
	fail     func(m broker.Message) error
}

func (s *sink) Publish(_ context.Context, messages []broker.Message) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	errs := make([]error, len(messages))
	failed := map[string]bool{}
	for i, m := range messages {
		switch {
		case failed[m.Key]:
			errs[i] = broker.ErrSkipped
		case s.fail != nil:
			errs[i] = s.fail(m)
		}
		if errs[i] != nil {
			failed[m.Key] = true
			continue
		}
		s.messages = append(s.messages, m)
	}
	return broker.Joined(errs)
}

// failing changes how messages fail from now on.
func (s *sink) failing(fail func(m broker.Message) error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fail = fail
}

func (s *sink) all() []broker.Message {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]broker.Message{}, s.messages...)
}

func (s *sink) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.messages)
}

// versions returns the aggregate's versions in the order in which they arrived.
func (s *sink) versions(key string) []string {
	var versions []string
	for _, m := range s.all() {
		if m.Key == key {
			versions = append(versions, m.Headers[broker.HeaderAggregateVersion])
		}
	}
	return versions
}

// quick is a configuration with which a test need not wait.
func quick() outbox.Config {
	return outbox.Config{Poll: 20 * time.Millisecond, Lease: time.Second, MinBackoff: 5 * time.Millisecond, MaxBackoff: 50 * time.Millisecond, Maintenance: 50 * time.Millisecond}
}

// start runs a relay until stop, or the end of the test.
func start(tb testing.TB, pool *pgxpool.Pool, pub broker.Publisher, cfg outbox.Config) (relay *outbox.Relay, reg *prometheus.Registry, stop func()) {
	tb.Helper()
	reg = prometheus.NewRegistry()
	relay, err := outbox.NewRelay(pool, pub, cfg, zaptest.NewLogger(tb), reg)
	require.NoError(tb, err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- relay.Run(ctx) }()
	var once sync.Once
	stop = func() {
		once.Do(func() {
			cancel()
			require.NoError(tb, <-done)
		})
	}
	tb.Cleanup(stop)
	return relay, reg, stop
}

// Broken by: no check, with which a relay over a pool that is too small waits for its own connections.
func TestNewRelay_refusesSmallPools(t *testing.T) {
	t.Parallel()
	for most, relay := range map[string]func(pool *pgxpool.Pool) error{
		"5": func(pool *pgxpool.Pool) error {
			_, err := outbox.NewRelay(pool, &sink{}, outbox.Config{}, nil, nil)
			return err
		},
		"1": func(pool *pgxpool.Pool) error {
			_, err := outbox.NewFallback(pool, &sink{}, outbox.Config{}, nil, nil)
			return err
		},
	} {
		pool, err := pgxpool.New(t.Context(), "postgres://127.0.0.1:1/?pool_max_conns="+most)
		require.NoError(t, err)
		t.Cleanup(pool.Close)
		require.ErrorContains(t, relay(pool), "at most "+most)
	}
}

func eventually(tb testing.TB, condition func() bool, what ...any) {
	tb.Helper()
	require.Eventually(tb, condition, patience, 5*time.Millisecond, what...)
}

func TestRelay_publishes(t *testing.T) {
	t.Parallel()
	pool := setup(t)
	ctx := t.Context()
	for i := range 10 {
		add(t, ctx, pool, event("a", int64(i+1)))
	}
	s := &sink{}
	relay, _, _ := start(t, pool, s, quick())
	eventually(t, func() bool { return s.count() == 10 })
	add(t, ctx, pool, event("a", 11), event("a", 12))
	relay.Wake()
	eventually(t, func() bool { return s.count() == 12 })
	require.Equal(t, []string{"1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "11", "12"}, s.versions("order/a"))
	m := s.all()[11]
	require.NoError(t, uuid.Validate(m.ID))
	require.Equal(t, "order.placed", m.Subject)
	at, err := time.Parse(time.RFC3339Nano, m.Headers[broker.HeaderTime])
	require.NoError(t, err)
	require.WithinDuration(t, time.Now(), at, time.Hour)
	delete(m.Headers, broker.HeaderTime)
	require.Equal(t, map[string]string{
		broker.HeaderEventType: "order.placed", broker.HeaderEventVersion: "1",
		broker.HeaderAggregateType: "order", broker.HeaderAggregateID: "a", broker.HeaderAggregateVersion: "12",
	}, m.Headers)
	require.Equal(t, []byte("{}"), m.Payload)
}
