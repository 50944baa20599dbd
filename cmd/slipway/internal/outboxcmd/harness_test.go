package outboxcmd_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/slipwayhq/slipway/cmd/slipway/internal/cli"
	"github.com/slipwayhq/slipway/platform/broker"
	"github.com/slipwayhq/slipway/platform/outbox"
	"github.com/slipwayhq/slipway/platform/postgres"
	"github.com/slipwayhq/slipway/platform/postgres/postgrestest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(postgrestest.Closing(m)) }

// patience is what a test waits for something that takes milliseconds on an idle machine.
const patience = 60 * time.Second

// rig is a database with an outbox, and the command line that operates on it.
type rig struct {
	t    *testing.T
	url  string
	pool *pgxpool.Pool
}

func setup(t *testing.T) *rig {
	t.Helper()
	r := &rig{t: t, url: postgrestest.New(t, outbox.Migrations())}
	var err error
	r.pool, err = postgres.Open(t.Context(), postgres.Config{URL: r.url + "&synchronous_commit=on"}, nil, nil, nil)
	require.NoError(t, err)
	t.Cleanup(r.pool.Close)
	return r
}

// call runs slipway outbox in this process.
func call(environ []string, args ...string) (stdout, stderr string, code int) {
	var out, problem bytes.Buffer
	code = cli.Main(append([]string{"slipway", "outbox"}, args...), environ, cli.Streams{In: strings.NewReader(""), Out: &out, Err: &problem})
	return out.String(), problem.String(), code
}

func (r *rig) call(args ...string) (stdout, stderr string, code int) {
	return call([]string{"DATABASE_URL=" + r.url, "SLIPWAY_OPERATOR=ann"}, args...)
}

// ok runs a command that must succeed and returns what it says.
func (r *rig) ok(args ...string) string {
	r.t.Helper()
	out, problem, code := r.call(args...)
	require.Equal(r.t, cli.ExitOK, code, "%v: %s", args, problem)
	return out
}

// fails runs a command that must fail and returns why.
func (r *rig) fails(code int, args ...string) string {
	r.t.Helper()
	out, problem, got := r.call(args...)
	require.Equal(r.t, code, got, "%v: %s%s", args, out, problem)
	require.Empty(r.t, out, args)
	return problem
}

// notes is what a command has said so far on its error output.
type notes struct {
	mu   sync.Mutex
	text bytes.Buffer
}

// Write appends.
func (n *notes) Write(p []byte) (int, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.text.Write(p)
}

func (n *notes) String() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.text.String()
}

// start runs a command that waits for something.
func (r *rig) start(args ...string) (said *notes, ended <-chan int) {
	said, code := &notes{}, make(chan int, 1)
	go func() {
		code <- cli.Main(append([]string{"slipway", "outbox"}, args...), []string{"DATABASE_URL=" + r.url},
			cli.Streams{In: strings.NewReader(""), Out: io.Discard, Err: said})
	}()
	return said, code
}

// endsWith waits for the end of a command that was started.
func (r *rig) endsWith(code int, ended <-chan int) {
	r.t.Helper()
	select {
	case got := <-ended:
		require.Equal(r.t, code, got)
	case <-time.After(patience):
		require.Fail(r.t, "it never ends")
	}
}

// decoded runs a command that must succeed and reads its JSON.
func decoded[T any](r *rig, args ...string) T {
	r.t.Helper()
	var value T
	text := r.ok(append(args, "--output", "json")...)
	require.NoError(r.t, json.Unmarshal([]byte(text), &value), text)
	return value
}

func (r *rig) eventually(condition func() bool) {
	r.t.Helper()
	require.Eventually(r.t, condition, patience, 10*time.Millisecond)
}

func (r *rig) exec(sql string) {
	r.t.Helper()
	_, err := r.pool.Exec(r.t.Context(), sql)
	require.NoError(r.t, err)
}

func event(id string, version int64) outbox.Event {
	return outbox.Event{
		AggregateType: "order", AggregateID: id, AggregateVersion: version,
		Type: "order.placed", Version: 1, Payload: []byte(`{"total": 7}`), Headers: map[string]string{"tenant": "blue"},
	}
}

// add stores events in a transaction of their own.
func (r *rig) add(events ...outbox.Event) {
	r.t.Helper()
	require.NoError(r.t, postgres.InTx(r.t.Context(), r.pool, postgres.TxOptions{}, func(tx pgx.Tx) error {
		return outbox.Add(r.t.Context(), tx, events...)
	}))
}

// relay publishes to a sink of the name until stop, or the end of the test.
func (r *rig) relay(name string) (s *sink, stop func()) {
	r.t.Helper()
	s = &sink{poison: map[string]bool{}}
	relay, err := outbox.NewRelay(r.pool, s, outbox.Config{
		Sink: name, Holder: "replica-1", Poll: 20 * time.Millisecond, Lease: time.Second, Maintenance: 50 * time.Millisecond,
	}, nil, nil)
	require.NoError(r.t, err)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- relay.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		require.NoError(r.t, <-ended)
	})
	r.t.Cleanup(stop)
	r.eventually(func() bool { // it has the lease
		var held bool
		err := r.pool.QueryRow(r.t.Context(), "select count(*) = 1 from slipway.outbox_sink where sink = $1 and holder = 'replica-1'", name).Scan(&held)
		require.NoError(r.t, err)
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
