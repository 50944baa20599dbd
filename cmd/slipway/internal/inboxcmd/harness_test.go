package inboxcmd_test

import (
	"context"
	"errors"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/slipwayhq/slipway/cmd/slipway/internal/commandtest"
	"github.com/slipwayhq/slipway/platform/broker"
	"github.com/slipwayhq/slipway/platform/inbox"
	"github.com/slipwayhq/slipway/platform/postgres/postgrestest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(postgrestest.Closing(m)) }

// rig is a database with an inbox, and the command line that operates on it.
type rig struct{ *commandtest.Rig }

func setup(t *testing.T) *rig {
	t.Helper()
	r := &rig{commandtest.New(t, "inbox", inbox.Migrations())}
	r.Exec("create table effects (n bigint generated always as identity, key text, what text)")
	return r
}

// decoded runs a command that must succeed and reads its JSON.
func decoded[T any](r *rig, args ...string) T {
	r.T.Helper()
	return commandtest.Decoded[T](r.Rig, args...)
}

// effects returns what was applied for a key, in order.
func (r *rig) effects(key string) string {
	r.T.Helper()
	var all string
	err := r.Pool.QueryRow(r.T.Context(), "select coalesce(string_agg(what, ' ' order by n), '') from effects where key = $1", key).Scan(&all)
	require.NoError(r.T, err)
	return all
}

// becomes waits for the effects of a key.
func (r *rig) becomes(key, want string) {
	r.T.Helper()
	r.Eventually(func() bool { return r.effects(key) == want })
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
	r.T.Helper()
	s := &service{r: r, messages: make(chan broker.Message), settled: make(chan struct{}), poison: map[string]error{}}
	consumer, err := inbox.NewConsumer(r.Pool, s, inbox.Config{
		Name: name, Subjects: []string{"order.>"}, Mode: mode, Poll: 10 * time.Millisecond,
	}, s.handle, nil, nil, nil)
	require.NoError(r.T, err)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- consumer.Run(ctx) }()
	r.T.Cleanup(func() {
		cancel()
		require.NoError(r.T, <-ended)
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
	s.r.T.Helper()
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
