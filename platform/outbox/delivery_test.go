package outbox_test

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/nats-io/nats-server/v2/server"
	natsgo "github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap/zaptest"

	"github.com/slipwayhq/slipway/platform/broker"
	"github.com/slipwayhq/slipway/platform/broker/nats"
	"github.com/slipwayhq/slipway/platform/inbox"
	"github.com/slipwayhq/slipway/platform/internal/faultproxy"
	"github.com/slipwayhq/slipway/platform/postgres/postgrestest"
)

// jet is a JetStream server with a stream that remembers ids for a tenth of a second.
type jet struct {
	server *server.Server
	conn   *nats.Conn
	pub    broker.Publisher
	stream jetstream.Stream
}

const forgetful = 100 * time.Millisecond

func startJet(t *testing.T) *jet {
	t.Helper()
	s, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: server.RANDOM_PORT, JetStream: true, StoreDir: t.TempDir(), NoSigs: true, NoLog: true})
	require.NoError(t, err)
	go s.Start()
	require.True(t, s.ReadyForConnections(patience))
	t.Cleanup(func() {
		s.Shutdown()
		s.WaitForShutdown()
	})
	j := &jet{server: s}
	j.conn, err = nats.Connect(nats.Config{URL: s.ClientURL()}, zaptest.NewLogger(t))
	require.NoError(t, err)
	t.Cleanup(j.conn.Close)
	stream := nats.Stream{Name: "order", Subjects: []string{"order.>"}, Dedup: forgetful}
	require.NoError(t, j.conn.EnsureStream(t.Context(), stream))
	j.pub, err = nats.NewPublisher(j.conn, nats.PublisherConfig{Stream: stream}, nil)
	require.NoError(t, err)
	raw, err := natsgo.Connect(s.ClientURL())
	require.NoError(t, err)
	t.Cleanup(raw.Close)
	js, err := jetstream.New(raw)
	require.NoError(t, err)
	j.stream, err = js.Stream(t.Context(), "order")
	require.NoError(t, err)
	return j
}

func (j *jet) stored(t *testing.T) uint64 {
	t.Helper()
	info, err := j.stream.Info(t.Context())
	require.NoError(t, err)
	return info.State.Msgs
}

// consume runs a consumer with an inbox that counts the effects of each event.
func (j *jet) consume(t *testing.T) *pgxpool.Pool {
	t.Helper()
	db := open(t, postgrestest.New(t, inbox.Migrations())+"&synchronous_commit=on")
	exec(t, db, "create table effect (event uuid)")
	handle := func(ctx context.Context, tx pgx.Tx, m broker.Message) error {
		_, err := tx.Exec(ctx, "insert into effect values ($1)", m.ID)
		return err
	}
	c, err := inbox.NewConsumer(db, nats.NewSubscriber(j.conn, nats.SubscriberConfig{}), inbox.Config{Name: "effects", Subjects: []string{"order.>"}},
		handle, zaptest.NewLogger(t), nil, nil)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- c.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		require.NoError(t, <-done)
	})
	return db
}

// A relay dies between the acknowledgement of the broker and the position, and the next one comes when
// the broker has forgotten the ids: it has each event twice then, and the effect is there once. With
// a handler that does not ask the inbox the effects would be two.
func TestRelay_duplicatesOutliveTheBrokersWindow(t *testing.T) {
	t.Parallel()
	pool := setup(t)
	far, proxy := behind(t, pool)
	j := startJet(t)
	effects := j.consume(t)
	var dying atomic.Bool
	pub := publishFunc(func(ctx context.Context, m []broker.Message) error {
		err := j.pub.Publish(ctx, m)
		if err == nil && dying.Load() {
			proxy.SetFault(faultproxy.Fault{Refuse: true})
			proxy.Cut()
		}
		return err
	})
	dying.Store(true)
	first, _, _ := start(t, far, pub, quick())
	eventually(t, first.Active)
	add(t, t.Context(), pool, event("a", 1), event("a", 2), event("b", 1))
	first.Wake()
	eventually(t, func() bool { return j.stored(t) == 3 && !first.Active() })
	require.Equal(t, []string{"3:3:"}, rows[string](t, pool, "select snapshot::text from slipway.outbox_sink"), "the position is not stored")
	<-time.After(2 * forgetful)

	second, _, _ := start(t, pool, j.pub, quick())
	eventually(t, second.Active)
	eventually(t, func() bool { return j.stored(t) == 6 }, "the broker has each of them twice")
	eventually(t, func() bool { return rows[int](t, effects, "select count(*) from slipway.inbox")[0] == 3 })
	last := event("a", 3)
	add(t, t.Context(), pool, last)
	second.Wake()
	eventually(t, func() bool { return rows[int](t, effects, "select count(*) from effect")[0] == 4 })
	require.Equal(t, 4, rows[int](t, effects, "select count(distinct event) from effect")[0])
}
