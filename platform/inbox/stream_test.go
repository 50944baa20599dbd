package inbox_test

import (
	"context"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/trace"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest"

	"github.com/slipwayhq/slipway/platform/broker"
	"github.com/slipwayhq/slipway/platform/inbox"
	"github.com/slipwayhq/slipway/platform/postgres/migrate"
)

// stream is a broker in memory: messages of one key one at a time, in order, again
// and again until they are settled.
type stream struct {
	mu       sync.Mutex
	waiting  []*item
	settled  int
	handed   map[string]int
	lose     int
	inFlight int
	most     int
}

type item struct {
	broker.Message
	due  time.Time
	busy bool
}

func (s *stream) publish(messages ...broker.Message) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, m := range messages {
		s.waiting = append(s.waiting, &item{Message: m})
	}
}

// next returns a message that may be handed over.
func (s *stream) next(sub broker.Subscription) *item {
	s.mu.Lock()
	defer s.mu.Unlock()
	blocked := map[string]bool{}
	for _, it := range s.waiting {
		key := it.Key
		if !slices.ContainsFunc(sub.Subjects, func(p string) bool { return broker.Matches(p, it.Subject) }) {
			continue
		}
		if it.busy || key != "" && blocked[key] || time.Now().Before(it.due) {
			blocked[key] = true
			continue
		}
		it.busy = true
		s.inFlight++
		s.most = max(s.most, s.inFlight)
		return it
	}
	return nil
}

func (s *stream) decide(it *item, v broker.Verdict) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.inFlight--
	it.busy, it.due = false, time.Now().Add(v.Delay())
	if s.handed == nil {
		s.handed = map[string]int{}
	}
	s.handed[it.ID]++
	if v.Settled() && s.lose > 0 {
		s.lose-- // the process died before its acknowledgement arrived
		return
	}
	if v.Settled() {
		s.settled++
		s.waiting = slices.DeleteFunc(s.waiting, func(other *item) bool { return other == it })
	}
}

func (s *stream) Subscribe(ctx context.Context, sub broker.Subscription, handle broker.Handler) error {
	var workers sync.WaitGroup
	for range sub.Concurrency {
		workers.Go(func() {
			for ctx.Err() == nil {
				it := s.next(sub)
				if it == nil {
					select {
					case <-ctx.Done():
					case <-time.After(2 * time.Millisecond):
					}
					continue
				}
				s.decide(it, handle(context.WithoutCancel(ctx), broker.Delivery{Message: it.Message, Attempt: 1}))
			}
		})
	}
	workers.Wait()
	return nil
}

// empty waits until everything is settled.
func (s *stream) empty(tb testing.TB) {
	tb.Helper()
	require.Eventually(tb, func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		return len(s.waiting) == 0
	}, patience, 2*time.Millisecond)
}

func (s *stream) deliveries(id string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.handed[id]
}

// quick is a configuration for tests.
func quick(name string, mode inbox.Mode) inbox.Config {
	return inbox.Config{
		Name: name, Subjects: []string{"order.>"}, Mode: mode, Concurrency: 4, MaxAttempts: 3,
		MinBackoff: time.Millisecond, MaxBackoff: 5 * time.Millisecond,
		Poll: 5 * time.Millisecond, MaintenanceInterval: 20 * time.Millisecond,
	}
}

// runner is a consumer that runs until the test ends, or stop is called.
type runner struct {
	reg  *prometheus.Registry
	stop func() error
}

type running struct {
	pool *pgxpool.Pool
	sub  broker.Subscriber
	cfg  inbox.Config
	tp   trace.TracerProvider
}

func (r running) start(tb testing.TB, handle inbox.Handler) runner {
	tb.Helper()
	reg := prometheus.NewRegistry()
	c, err := inbox.NewConsumer(r.pool, r.sub, r.cfg, handle, zaptest.NewLogger(tb, zaptest.Level(zap.PanicLevel)), reg, r.tp)
	require.NoError(tb, err)
	ctx, cancel := context.WithCancel(tb.Context())
	ended := make(chan error, 1)
	go func() { ended <- c.Run(ctx) }()
	stop := sync.OnceValue(func() error {
		cancel()
		return <-ended
	})
	tb.Cleanup(func() { require.NoError(tb, stop()) })
	return runner{reg, stop}
}

// value returns a metric's value, of the series with the result if that is given.
func (r runner) value(tb testing.TB, name, result string) float64 {
	tb.Helper()
	families, err := r.reg.Gather()
	require.NoError(tb, err)
	for _, f := range families {
		for _, m := range f.GetMetric() {
			for _, l := range m.GetLabel() {
				if f.GetName() == name && (result == "" || l.GetName() == "result" && l.GetValue() == result) {
					return m.GetCounter().GetValue() + m.GetGauge().GetValue() + float64(m.GetHistogram().GetSampleCount())
				}
			}
		}
	}
	tb.Fatalf("no metric %s %s", name, result)
	return 0
}

// tries counts deliveries that came to an end.
func (s *stream) tries() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for _, handed := range s.handed {
		n += handed
	}
	return n
}

// migrated applies the migrations to a server of the test's own.
func migrated(tb testing.TB, url string) {
	tb.Helper()
	_, err := migrate.Up(tb.Context(), url, inbox.Migrations())
	require.NoError(tb, err)
}
