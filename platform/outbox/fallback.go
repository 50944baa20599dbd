package outbox

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"github.com/slipwayhq/slipway/platform/broker"
	"github.com/slipwayhq/slipway/platform/postgres"
	"github.com/slipwayhq/slipway/platform/postgres/migrate"
)

//go:embed fallback
var fallbackFiles embed.FS

// FallbackMigrations returns the tables of a Fallback, instead of Migrations.
func FallbackMigrations() migrate.Component { return component(fallbackFiles, "fallback") }

// Fallback is the relay for a database without the type xid8 and its functions:
// PostgreSQL before 13, forks of it, and what only speaks its protocol. Add is the
// same. Any number of replicas may run; one is active.
//
// It reads what is there in the order of ids, publishes and deletes it. One statement
// reads, so its snapshot sees no later event of an aggregate without the earlier
// ones, and whatever commits late is there at the next read. An aggregate with an
// event that the broker does not take is held, in its place; others flow. Before it
// publishes, it commits a sign of life that waits for the disk: then everything that
// was read is there too, and survives a crash of the database.
//
// What it cannot do: nothing is kept, so nothing can be replayed to a broker that
// lost it; outbox_unsent_events_total counts no further than ten batches, and not
// what is held; a second sink has nothing to read; deleted rows are there for as long as
// somebody holds a snapshot, and reading gets slower with them. A database with more
// than one log, or whose commits never wait, may lose in a crash what is published. The
// commands of slipway outbox know nothing of it: a held aggregate is tried again by
// UPDATE slipway.outbox_held SET next_attempt_at = now(), its event is given up by
// DELETE FROM slipway.outbox WHERE event_id = '...'.
type Fallback struct{ relay *Relay }

// fallbackConnections is how many an active Fallback has.
const fallbackConnections = 2

// NewFallback returns the relay. It takes up to two connections of the pool, and of cfg
// what is not about retention. A nil logger or registerer is none.
func NewFallback(pool *pgxpool.Pool, pub broker.Publisher, cfg Config, log *zap.Logger, reg prometheus.Registerer) (*Fallback, error) {
	r, err := newRelay(pool, fallbackConnections, pub, cfg, log, reg)
	if err != nil {
		return nil, err
	}
	return &Fallback{r}, nil
}

// Run publishes until ctx ends, or stands by. See [Relay.Run].
func (f *Fallback) Run(ctx context.Context) error { return f.relay.persist(ctx, f.campaign) }

// Wake tells the relay that a transaction with events has been committed. It never
// blocks; any goroutine may call it. It wakes this replica only.
func (f *Fallback) Wake() { f.relay.Wake() }

// Active tells whether this replica is the one that publishes.
func (f *Fallback) Active() bool { return f.relay.Active() }

// passes is how many batches one statement reads.
const passes = 10

// claim is the lease in the hands of a replica. Safe for concurrent use.
type claim struct {
	trust

	mu     sync.Mutex
	conn   *pgx.Conn
	sink   string
	term   int64
	fenced func()
}

// fallbackSession is the settings of its connections. Commits wait for the disk, whatever
// the default is. Plans are made once, perhaps for an empty table: the backlog is read in
// the order of its index and never sorted as a whole.
var fallbackSession = []string{
	"SET synchronous_commit = on", "SET enable_seqscan = off", "SET enable_hashjoin = off", "SET enable_mergejoin = off",
}

// own is Relay.own for a database that may not know every setting.
func (f *Fallback) own(ctx context.Context) (conn *pgx.Conn, done func(), err error) {
	if conn, done, err = f.relay.own(ctx, "SELECT 1"); err != nil {
		return nil, nil, err
	}
	for _, setting := range fallbackSession {
		if _, err := conn.Exec(ctx, setting); err != nil {
			f.relay.log.Warn("the database does not take a setting", zap.String("setting", setting), zap.Error(err))
		}
	}
	return conn, done, nil
}

func (f *Fallback) campaign(ctx context.Context) error {
	r := f.relay
	conn, done, err := f.own(ctx)
	if err != nil {
		return err
	}
	defer done()
	_, err = conn.Exec(ctx, "INSERT INTO slipway.outbox_sink (sink) VALUES ($1) ON CONFLICT DO NOTHING", r.cfg.Sink)
	if postgres.SQLState(err) == undefinedTable {
		return fmt.Errorf("%w: the tables of the outbox are missing: apply its migrations (FallbackMigrations)", ErrUnsafe)
	}
	if err != nil {
		return fmt.Errorf("register outbox sink: %w", err)
	}
	if err := checkSequence(ctx, conn); postgres.SQLState(err) == undefinedTable {
		r.log.Warn("cannot ask for CACHE of slipway.outbox_id_seq: it must be 1", zap.Error(err))
	} else if err != nil {
		return err
	}
	c := &claim{conn: conn, trust: trust{lease: r.cfg.Lease, clock: monotonic()}, sink: r.cfg.Sink, fenced: r.m.fenced.Inc}
	if err := c.await(ctx, r.cfg.Holder); err != nil {
		return err
	}
	r.active.Store(true)
	r.m.active.Set(1)
	r.log.Info("outbox relay is active", zap.Int64("term", c.term))
	defer func() {
		r.active.Store(false)
		r.m.inactive()
	}()
	return f.lead(ctx, c)
}

// await takes the lease when its holder gave it back, or no sign of life for a whole
// lease on the clock of this replica.
func (c *claim) await(ctx context.Context, holder string) error {
	var seen sighting
	for since := time.Now(); ; {
		var now sighting
		err := c.conn.QueryRow(ctx, "SELECT term, beat, holder IS NULL FROM slipway.outbox_sink WHERE sink = $1", c.sink).
			Scan(&now.term, &now.beat, &now.free)
		if err != nil {
			return fmt.Errorf("look at outbox lease: %w", err)
		}
		if now != seen {
			seen, since = now, time.Now()
		}
		if now.free || time.Since(since) > c.lease {
			asked := c.clock()
			err := c.conn.QueryRow(ctx, `UPDATE slipway.outbox_sink SET term = term + 1, beat = beat + 1, holder = $4
				WHERE sink = $1 AND term = $2 AND beat = $3 RETURNING term`, c.sink, now.term, now.beat, holder).Scan(&c.term)
			if err == nil {
				c.renew(asked)
				return nil
			}
			if !errors.Is(err, pgx.ErrNoRows) {
				return fmt.Errorf("take outbox lease: %w", err)
			}
		}
		if wait(ctx, c.lease/4); ctx.Err() != nil {
			return ctx.Err()
		}
	}
}

// beat gives a sign of life. When it returns, everything that was visible before is on
// the disk: it is in the log before this commit, which waits for that.
func (c *claim) beat(ctx context.Context) error {
	return c.renewing(func() error { return c.sign(ctx, c.conn) })
}

// within renews the lease and runs fn in one transaction.
func (c *claim) within(ctx context.Context, fn func(tx pgx.Tx) error) error {
	return c.renewing(func() error {
		return pgx.BeginFunc(ctx, c.conn, func(tx pgx.Tx) error {
			if err := c.sign(ctx, tx); err != nil {
				return err
			}
			return fn(tx)
		})
	})
}

// renewing runs fn, which signs, alone.
func (c *claim) renewing(fn func() error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	asked := c.clock()
	if err := fn(); err != nil {
		return wrap("hold outbox lease", err)
	}
	c.renew(asked)
	return nil
}

func (c *claim) sign(ctx context.Context, db interface {
	Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error)
},
) error {
	tag, err := db.Exec(ctx, "UPDATE slipway.outbox_sink SET beat = beat + 1 WHERE sink = $1 AND term = $2", c.sink, c.term)
	if err == nil && tag.RowsAffected() == 0 {
		c.fenced()
		return errFenced
	}
	return err
}

// free gives the lease back, so that a standby need not wait.
func (c *claim) free(ctx context.Context) error {
	_, err := c.conn.Exec(ctx, "UPDATE slipway.outbox_sink SET holder = NULL WHERE sink = $1 AND term = $2", c.sink, c.term)
	return wrap("give back outbox lease", err)
}

// lead publishes until the lease is lost or ctx ends, and gives it back then.
func (f *Fallback) lead(ctx context.Context, c *claim) error {
	group, soft := errgroup.WithContext(ctx)
	hard, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	defer context.AfterFunc(soft, func() {
		wait(hard, finishTimeout)
		stop()
	})()
	group.Go(func() error {
		for soft.Err() == nil {
			if err := c.beat(hard); err != nil {
				return err
			}
			wait(soft, c.signs())
		}
		return nil
	})
	group.Go(func() error {
		conn, done, err := f.own(soft)
		if err != nil {
			return quiet(soft, err)
		}
		defer done()
		for soft.Err() == nil {
			found, err := f.pass(soft, hard, conn, c)
			if err != nil {
				return quiet(soft, err)
			}
			if found < passes*f.relay.cfg.Batch {
				f.rest(soft)
			}
		}
		return nil
	})
	err := group.Wait()
	if ctx.Err() != nil && err == nil {
		err = handOver(ctx, c.free)
	}
	return err
}

// rest waits for the next wake-up or poll, and at least for the linger.
func (f *Fallback) rest(ctx context.Context) {
	wait(ctx, f.relay.cfg.Linger)
	timer := time.NewTimer(f.relay.cfg.Poll)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-f.relay.wake:
	case <-timer.C:
	}
}

// readSQL compares all rows with one moment: of an aggregate whose time comes while they
// are read, those of the later rows would be published first. LIMIT is a literal: with a
// parameter the plan could be a sort of the backlog.
func readSQL(limit int) string {
	return fmt.Sprintf(`SELECT 0::bigint, o.id, o.created_at, o.aggregate_version, o.event_id, o.event_version, o.aggregate_type, o.aggregate_id,
    o.event_type, o.payload, o.headers, true
FROM slipway.outbox o LEFT JOIN slipway.outbox_held h USING (aggregate_type, aggregate_id)
WHERE h.aggregate_id IS NULL OR h.next_attempt_at <= statement_timestamp() ORDER BY o.id LIMIT %d`, limit)
}

// pass publishes what one statement sees, batch by batch, once that is on the disk.
func (f *Fallback) pass(soft, hard context.Context, conn *pgx.Conn, c *claim) (found int, err error) {
	r := f.relay
	rows, err := conn.Query(hard, readSQL(passes*r.cfg.Batch), rowFormats)
	if err != nil {
		return 0, fmt.Errorf("read outbox: %w", err)
	}
	events, err := collect(rows)
	if err != nil {
		return 0, fmt.Errorf("read outbox: %w", err)
	}
	if len(events) > 0 {
		if err := c.beat(hard); err != nil {
			return 0, err
		}
	}
	r.m.unsent.Set(float64(len(events)))
	held := map[aggregate]bool{} // in this pass: their later events come with the next attempt
	for from := 0; from < len(events) && soft.Err() == nil; from += r.cfg.Batch {
		some := events[from:min(from+r.cfg.Batch, len(events))]
		r.m.pending(some)
		if err := f.publish(soft, hard, c, some, held); err != nil {
			return 0, err
		}
		r.m.unsent.Set(float64(len(events) - from - len(some)))
	}
	r.m.pending(nil)
	return len(events), nil
}

// publish settles a batch: what was acknowledged is deleted, an aggregate with what
// was not is held. While the broker is away it tries on.
func (f *Fallback) publish(soft, hard context.Context, c *claim, events []stored, held map[aggregate]bool) error {
	r := f.relay
	for pause := r.cfg.MinBackoff; soft.Err() == nil; pause = r.cfg.longer(pause) {
		b := newBatch(len(events))
		for i := range events {
			if !held[events[i].aggregate()] {
				m, invalid := events[i].message()
				b.add(&events[i], m, invalid)
			}
		}
		if !c.holds() {
			return errDoubt
		}
		fates, settled := r.send(hard, b), outcome{failed: map[aggregate]error{}}
		settled.sort(b, fates)
		if err := c.within(hard, func(tx pgx.Tx) error { return settled.store(hard, tx, r.cfg) }); err != nil {
			return err
		}
		now := r.m.dbNow()
		for _, e := range settled.done {
			r.m.published.Inc()
			r.m.latency.Observe(max(0, now.Sub(e.createdAt).Seconds()))
		}
		for a, err := range settled.failed {
			held[a] = true
			r.m.failures.WithLabelValues(classify(err)).Inc()
			r.log.Error("cannot publish, held the aggregate", zap.String("aggregate_type", a.kind), zap.String("aggregate_id", a.id), zap.Error(err))
		}
		if len(settled.waiting) == 0 {
			return nil
		}
		r.m.failures.WithLabelValues(classUnavailable).Add(float64(len(settled.waiting)))
		events = settled.waiting
		wait(soft, pause)
	}
	return nil // what is left is read again
}

// outcome is what has become of a batch.
type outcome struct {
	done    []*stored
	failed  map[aggregate]error
	waiting []stored
}

func (o *outcome) sort(b *batch, fates []error) {
	for i, err := range fates {
		a := b.events[i].aggregate()
		switch {
		case o.failed[a] != nil: // stays behind the one that failed
		case err == nil:
			o.done = append(o.done, b.events[i])
		case classify(err) == classUnavailable:
			o.waiting = append(o.waiting, *b.events[i])
		default:
			o.failed[a] = err
		}
	}
}

func (o *outcome) store(ctx context.Context, tx pgx.Tx, cfg Config) error {
	ids := make([]int64, len(o.done))
	kinds, names := make([]string, len(o.done)), make([]string, len(o.done))
	for i, e := range o.done {
		ids[i], kinds[i], names[i] = e.id, e.aggregateType(), e.aggregateID()
	}
	if len(ids) > 0 {
		if _, err := tx.Exec(ctx, "DELETE FROM slipway.outbox WHERE id = ANY($1)", ids); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, `DELETE FROM slipway.outbox_held h USING (SELECT unnest($1::text[]) AS kind, unnest($2::text[]) AS id) AS e
			WHERE h.aggregate_type = e.kind AND h.aggregate_id = e.id`, kinds, names); err != nil {
			return err
		}
	}
	for a, cause := range o.failed {
		_, err := tx.Exec(ctx, `INSERT INTO slipway.outbox_held AS h (aggregate_type, aggregate_id, error, attempts, next_attempt_at)
			VALUES ($1, $2, $3, 1, CASE WHEN $4 THEN NULL ELSE clock_timestamp() + make_interval(secs => $5) END)
			ON CONFLICT (aggregate_type, aggregate_id) DO UPDATE SET error = excluded.error, attempts = h.attempts + 1,
				next_attempt_at = CASE WHEN $4 OR h.attempts + 1 >= $7 THEN NULL
					ELSE clock_timestamp() + make_interval(secs => least($5 * 2 ^ least(h.attempts, 20), $6)) END`,
			a.kind, a.id, cause.Error(), classify(cause) == classRefused, cfg.MinBackoff.Seconds(), cfg.MaxBackoff.Seconds(), cfg.MaxAttempts)
		if err != nil {
			return err
		}
	}
	return nil
}
