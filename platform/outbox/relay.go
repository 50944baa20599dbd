package outbox

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/slipwayhq/slipway/platform/broker"
)

// Relay publishes the events of one database to one sink. Any number of replicas may
// run; one is active, the others stand by.
type Relay struct {
	pool *pgxpool.Pool
	pub  broker.Publisher
	cfg  Config
	log  *zap.Logger
	m    *metrics

	shelf shelf
	wal   wal
	sleep func(ctx context.Context, d time.Duration)

	wake   chan struct{}
	active atomic.Bool
}

// connections is how many an active relay has at once. Four are its own for as long as
// it is active, so a pool with fewer than these makes it wait for ever, or the others
// who use the pool.
const connections = 6

// NewRelay returns a relay that reads from pool and publishes to pub. It takes up to
// six connections of the pool, directly to the server: a pooler that hands out
// another session for each transaction breaks the fixed plans and the wake-up. A pool
// of fewer is an error; one that others use needs more. A nil logger or registerer is
// none.
func NewRelay(pool *pgxpool.Pool, pub broker.Publisher, cfg Config, log *zap.Logger, reg prometheus.Registerer) (*Relay, error) {
	return newRelay(pool, connections, pub, cfg, log, reg)
}

// newRelay is NewRelay for a relay that takes as many connections.
func newRelay(pool *pgxpool.Pool, takes int32, pub broker.Publisher, cfg Config, log *zap.Logger, reg prometheus.Registerer) (*Relay, error) {
	cfg.SetDefaults()
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if most := pool.Config().MaxConns; most < takes {
		return nil, fmt.Errorf("the outbox relay takes %d connections and its pool has at most %d: raise the pool's MaxConns (pool_max_conns)", takes, most)
	}
	if log == nil {
		log = zap.NewNop()
	}
	m, err := newMetrics(cfg.Sink, reg)
	if err != nil {
		return nil, err
	}
	log = log.Named("outbox").With(zap.String("sink", cfg.Sink))
	return &Relay{
		pool: pool, pub: pub, cfg: cfg, log: log, m: m,
		shelf: &parkedTable{pool: pool, sink: cfg.Sink}, wal: poolWAL{pool}, sleep: wait,
		wake: make(chan struct{}, 1),
	}, nil
}

// Wake tells the relay that a transaction with events has been committed. It never
// blocks and costs next to nothing; any goroutine may call it. On a standby it wakes
// the active replica, at most once in twice Config.Linger for all transactions
// together: a NOTIFY inside of them would line them up one behind the other.
func (r *Relay) Wake() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// Active tells whether this replica is the one that publishes.
func (r *Relay) Active() bool { return r.active.Load() }

// Run publishes until ctx ends, or stands by. Then it finishes the batch in hand and
// hands the lease over, within two seconds, also while the database or the broker is
// frozen. Before that, one that is away is waited for. It returns an error only for
// what waiting does not mend: see ErrUnsafe.
func (r *Relay) Run(ctx context.Context) error { return r.persist(ctx, r.campaign) }

// persist campaigns again and again.
func (r *Relay) persist(ctx context.Context, campaign func(context.Context) error) error {
	pause := r.cfg.MinBackoff
	for {
		began := time.Now()
		err := quiet(ctx, campaign(ctx))
		switch {
		case err == nil:
			return nil
		case errors.Is(err, ErrUnsafe):
			return err
		case errors.Is(err, errFenced), errors.Is(err, errDoubt):
			r.log.Warn("lost the outbox lease, standing by", zap.Error(err))
		default:
			r.log.Error("outbox relay interrupted", zap.Error(err), zap.Duration("retry_in", pause))
		}
		if time.Since(began) > r.cfg.MaxBackoff {
			pause = r.cfg.MinBackoff
		}
		wait(ctx, pause)
		pause = r.cfg.longer(pause)
	}
}

// campaign stands by until the lease is free, then leads until it is lost.
func (r *Relay) campaign(ctx context.Context) error {
	conn, done, err := r.own(ctx, "SET synchronous_commit = off; "+session)
	if err != nil {
		return err
	}
	defer done()
	if err := register(ctx, conn, r.cfg.Sink, r.log); err != nil {
		return err
	}
	l := r.newLedger(&leaseTable{conn: conn, sink: r.cfg.Sink, holder: r.cfg.Holder, lease: r.cfg.Lease}, &sync.Mutex{}, monotonic())
	pos, err := l.standBy(ctx, func(ctx context.Context, d time.Duration) error { return r.watch(ctx, conn, d) })
	if err != nil {
		return err
	}
	r.active.Store(true)
	r.m.active.Set(1)
	r.log.Info("outbox relay is active", zap.Int64("term", l.term), zap.String("snapshot", pos.done.text))
	defer func() {
		r.active.Store(false)
		r.m.inactive()
	}()
	return newTerm(r, l, pos).run(ctx)
}

func (r *Relay) newLedger(db leases, mu sync.Locker, clock func() time.Duration) *ledger {
	return &ledger{trust: trust{lease: r.cfg.Lease, clock: clock}, mu: mu, db: db, fenced: r.m.fenced.Inc}
}

// watch waits, and meanwhile passes on to the active replica that there are events.
func (r *Relay) watch(ctx context.Context, conn *pgx.Conn, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-timer.C:
			return nil
		case <-r.wake:
			wait(ctx, 2*r.cfg.Linger)
			if _, err := conn.Exec(ctx, "SELECT pg_notify($1, $2)", channel, r.cfg.Sink); err != nil {
				return fmt.Errorf("notify active outbox relay: %w", err)
			}
		}
	}
}

// channel is that of NOTIFY.
const channel = "slipway_outbox"

// own takes a connection out of the pool for good: done closes it, because its
// settings are not those of others.
func (r *Relay) own(ctx context.Context, settings string) (conn *pgx.Conn, done func(), err error) {
	pooled, err := r.pool.Acquire(ctx)
	if err != nil {
		return nil, nil, fmt.Errorf("connect outbox relay: %w", err)
	}
	conn = pooled.Conn()
	done = func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		_ = conn.Close(ctx)
		pooled.Release()
	}
	if _, err := conn.Exec(ctx, settings, pgx.QueryExecModeSimpleProtocol); err != nil {
		done()
		return nil, nil, fmt.Errorf("prepare session of outbox relay: %w", err)
	}
	return conn, done, nil
}

// wait waits for d or until ctx ends.
func wait(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
