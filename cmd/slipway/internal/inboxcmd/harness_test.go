package inboxcmd_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/slipwayhq/slipway/cmd/slipway/internal/cli"
	"github.com/slipwayhq/slipway/platform/broker"
	"github.com/slipwayhq/slipway/platform/inbox"
	"github.com/slipwayhq/slipway/platform/postgres"
	"github.com/slipwayhq/slipway/platform/postgres/postgrestest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(postgrestest.Closing(m)) }

// patience is what a test waits for something that takes milliseconds on an idle machine.
const patience = 60 * time.Second

// rig is a database with an inbox, and the command line that operates on it.
type rig struct {
	t    *testing.T
	url  string
	pool *pgxpool.Pool
	in   io.Reader
}

func setup(t *testing.T) *rig {
	t.Helper()
	r := &rig{t: t, url: postgrestest.New(t, inbox.Migrations()), in: strings.NewReader("")}
	var err error
	r.pool, err = postgres.Open(t.Context(), postgres.Config{URL: r.url}, nil, nil, nil)
	require.NoError(t, err)
	t.Cleanup(r.pool.Close)
	r.exec("create table effects (n bigint generated always as identity, key text, what text)")
	return r
}

// call runs slipway inbox in this process.
func call(in io.Reader, environ []string, args ...string) (stdout, stderr string, code int) {
	var out, problem bytes.Buffer
	code = cli.Main(append([]string{"slipway", "inbox"}, args...), environ, cli.Streams{In: in, Out: &out, Err: &problem})
	return out.String(), problem.String(), code
}

func (r *rig) call(args ...string) (stdout, stderr string, code int) {
	return call(r.in, []string{"DATABASE_URL=" + r.url, "SLIPWAY_OPERATOR=ann"}, args...)
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

// asks returns the question of a command: a terminal that has ended gives no answer.
func (r *rig) asks(args ...string) string {
	r.t.Helper()
	null, err := os.Open(os.DevNull)
	require.NoError(r.t, err)
	defer null.Close()
	asked := &rig{t: r.t, url: r.url, in: null}
	question, _, found := strings.Cut(asked.fails(cli.ExitUsage, args...), " [y/N] ")
	require.True(r.t, found, question)
	return question
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

// effects returns what was applied for a key, in order.
func (r *rig) effects(key string) string {
	r.t.Helper()
	var all string
	err := r.pool.QueryRow(r.t.Context(), "select coalesce(string_agg(what, ' ' order by n), '') from effects where key = $1", key).Scan(&all)
	require.NoError(r.t, err)
	return all
}

// becomes waits for the effects of a key.
func (r *rig) becomes(key, want string) {
	r.t.Helper()
	r.eventually(func() bool { return r.effects(key) == want })
}

func message(key string, version int) broker.Message {
	return broker.Message{
		ID: uuid.Must(uuid.NewV7()).String(), Subject: "order.changed", Key: key, Payload: []byte("v" + strconv.Itoa(version)),
		Headers: map[string]string{broker.HeaderAggregateVersion: strconv.Itoa(version), "tenant": "blue"},
	}
}

// service is a consumer whose handler writes the payload, but refuses poison.
type service struct {
	r        *rig
	messages chan broker.Message
	settled  chan struct{}
	mu       sync.Mutex
	poison   map[string]error // by key and payload
}

// consume runs a consumer until the end of the test.
func (r *rig) consume(name string, mode inbox.Mode) *service {
	r.t.Helper()
	s := &service{r: r, messages: make(chan broker.Message), settled: make(chan struct{}), poison: map[string]error{}}
	consumer, err := inbox.NewConsumer(r.pool, s, inbox.Config{
		Name: name, Subjects: []string{"order.>"}, Mode: mode, Poll: 10 * time.Millisecond,
	}, s.handle, nil, nil, nil)
	require.NoError(r.t, err)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- consumer.Run(ctx) }()
	r.t.Cleanup(func() {
		cancel()
		require.NoError(r.t, <-ended)
	})
	return s
}

// Subscribe hands over one message at a time.
func (s *service) Subscribe(ctx context.Context, _ broker.Subscription, handle broker.Handler) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case m := <-s.messages:
			for !handle(ctx, broker.Delivery{Message: m, Attempt: 1}).Settled() && ctx.Err() == nil {
			}
			s.settled <- struct{}{}
		}
	}
}

// deliver hands messages over and waits until they are settled.
func (s *service) deliver(messages ...broker.Message) {
	s.r.t.Helper()
	for _, m := range messages {
		s.messages <- m
		<-s.settled
	}
}

func (s *service) refuse(key, payload string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.poison[key+" "+payload] = err
}

func (s *service) handle(ctx context.Context, tx pgx.Tx, m broker.Message) error {
	s.mu.Lock()
	err := s.poison[m.Key+" "+string(m.Payload)]
	s.mu.Unlock()
	if err != nil {
		return inbox.Permanent(err)
	}
	_, err = tx.Exec(ctx, "insert into effects (key, what) values ($1, $2)", m.Key, string(m.Payload))
	return err
}

var errRefused = errors.New("the currency is\n\x1b[31munknown")
