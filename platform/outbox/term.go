package outbox

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"
)

// What a relay still does when it is told to end takes two seconds at most: the batch
// in hand, and giving the lease back, each in its own time, because a broker that
// hangs is no reason to let the standby wait.
const (
	finishTimeout   = 1500 * time.Millisecond
	handOverTimeout = 500 * time.Millisecond
)

// errDoubt ends a term whose lease may have been taken, because it could not be
// renewed in time.
var errDoubt = errors.New("the lease could not be renewed in time")

// term is the time for which one replica holds the lease: one loop reads, one
// publishes what was read, one gives signs of life, one looks after the rest.
type term struct {
	*Relay
	ledger *ledger
	start  position
	tally  *tally

	chunks   chan chunk
	control  chan struct{} // something in wanted has changed
	wanted   atomic.Pointer[state]
	measure  chan struct{} // the backlog has to be counted
	parked   map[aggregate]bool
	owed     owed
	held     *chunk        // what is next, while the sink is paused
	finished chan struct{} // the publishing loop has ended
	onDisk   string        // the snapshot whose events survive a crash
	tries    tries         // of the replay that is under way
}

func newTerm(r *Relay, l *ledger, pos position) *term {
	t := &term{
		Relay: r, ledger: l, start: pos, tally: newTally(pos),
		chunks: make(chan chunk), control: make(chan struct{}, 1), measure: make(chan struct{}, 1),
		finished: make(chan struct{}),
	}
	t.wanted.Store(&state{})
	t.owed.due = time.NewTimer(storeWithin)
	t.owed.due.Stop()
	return t
}

// run leads until the lease is lost or ctx ends. Then it finishes the publication
// that is running, stores the position and gives the lease back.
func (t *term) run(ctx context.Context) error {
	bounded, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	defer context.AfterFunc(ctx, func() {
		wait(bounded, finishTimeout)
		stop()
	})()
	group, hard := errgroup.WithContext(bounded)
	soft, end := context.WithCancel(hard) // ends when no new work is to be begun
	defer end()
	defer context.AfterFunc(ctx, end)()

	group.Go(func() error { return t.read(soft) })
	group.Go(func() error {
		defer close(t.finished)
		return t.publish(soft, hard)
	})
	group.Go(func() error { return t.live(hard) })
	group.Go(func() error { return t.listen(soft) })
	group.Go(func() error { return t.maintain(soft) })
	err := group.Wait()
	if ctx.Err() != nil && err == nil {
		err = handOver(ctx, t.ledger.free)
	}
	return err
}

// handOver gives the lease back when ctx has ended. If the database does not answer,
// the standby has to wait for the end of the lease.
func handOver(ctx context.Context, free func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), handOverTimeout)
	defer cancel()
	return free(ctx)
}

// live gives signs of life until publishing has ended, and learns what operators
// want.
func (t *term) live(ctx context.Context) error {
	ticker := time.NewTicker(t.ledger.signs())
	defer ticker.Stop()
	for {
		now, err := t.ledger.beat(ctx)
		if err != nil {
			return quiet(ctx, err)
		}
		if old := t.wanted.Swap(&now); *old != now || now.redrive || now.replay {
			signal(t.control)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-t.finished:
			return nil
		case <-ticker.C:
		}
	}
}

// listen waits for other replicas to say that there are events. Without the
// connection the relay still polls.
func (t *term) listen(ctx context.Context) error {
	for ctx.Err() == nil {
		err := t.hear(ctx)
		if ctx.Err() == nil {
			t.log.Warn("cannot listen for events of other replicas, polling goes on", zap.Error(err))
			wait(ctx, time.Second)
		}
	}
	return nil
}

func (t *term) hear(ctx context.Context) error {
	conn, done, err := t.own(ctx, "LISTEN "+channel)
	if err != nil {
		return err
	}
	defer done()
	for {
		n, err := conn.WaitForNotification(ctx)
		if err != nil {
			return fmt.Errorf("wait for notification: %w", err)
		}
		if n.Payload == t.cfg.Sink {
			t.Wake()
		}
	}
}

// read reads ahead of the publishing loop, by one batch.
func (t *term) read(ctx context.Context) error {
	conn, done, err := t.own(ctx, "SELECT 1")
	if err != nil {
		return quiet(ctx, err)
	}
	defer done()
	tables, err := newWindowTables(ctx, conn, t.cfg.Batch)
	if err != nil {
		return quiet(ctx, err)
	}
	r, err := newReader(ctx, tables, t.cfg.Batch, t.start, t.ledger.latest)
	if err != nil {
		return quiet(ctx, err)
	}
	backlog := t.start.target != nil
	if backlog {
		signal(t.measure)
	}
	for handed := time.Now(); ; {
		began := time.Now()
		c, err := r.next(ctx)
		if err != nil {
			return quiet(ctx, err)
		}
		if complete := r.pos.target == nil && !backlog; complete {
			t.tally.window(c.events, r.pos)
		} else if r.pos.target != nil && !backlog {
			signal(t.measure)
		}
		backlog = r.pos.target != nil
		t.m.sync(c.now)
		if len(c.events) > 0 {
			t.m.window.Observe(float64(len(c.events)))
		}
		// An empty chunk now and then: rotation waits for the stored position.
		if len(c.events) > 0 || time.Since(handed) > t.cfg.Maintenance {
			if err := t.hand(ctx, c); err != nil {
				return quiet(ctx, err)
			}
			handed = time.Now()
		}
		if !backlog {
			t.rest(ctx, began, len(c.events))
		}
		if ctx.Err() != nil {
			return nil
		}
	}
}

// hand gives a chunk to the publishing loop, when it is safe from a crash of the
// database.
func (t *term) hand(ctx context.Context, c chunk) error {
	if err := t.settleOnDisk(ctx, c); err != nil {
		return err
	}
	select {
	case t.chunks <- c:
	case <-ctx.Done():
	}
	return nil
}

// settleOnDisk waits until what has been read survives a crash of the database. Only
// events of transactions that did not wait for the disk themselves need it: they are
// seen before they are safe, and a consumer could get an event of something that
// never happened. Once is enough for all pieces of a window.
func (t *term) settleOnDisk(ctx context.Context, c chunk) error {
	risky := 0
	for i := range c.events {
		if !c.events[i].durable {
			risky++
		}
	}
	t.m.async.Add(float64(risky))
	if risky == 0 || t.onDisk == c.end {
		return nil
	}
	at, err := t.wal.end(ctx)
	if err != nil {
		return fmt.Errorf("ask for the end of the log: %w", err)
	}
	for {
		safe, err := t.wal.flushed(ctx, at)
		if err != nil {
			return fmt.Errorf("ask for the end of the log on disk: %w", err)
		}
		if safe {
			t.onDisk = c.end
			return nil
		}
		if t.sleep(ctx, 10*time.Millisecond); ctx.Err() != nil {
			return ctx.Err()
		}
	}
}

// wal is the database's log.
type wal interface {
	end(ctx context.Context) (lsn string, err error)
	// flushed tells whether the log is on disk up to there.
	flushed(ctx context.Context, lsn string) (bool, error)
}

type poolWAL struct{ pool *pgxpool.Pool }

func (w poolWAL) end(ctx context.Context) (lsn string, err error) {
	err = w.pool.QueryRow(ctx, "SELECT pg_current_wal_insert_lsn()::text").Scan(&lsn)
	return lsn, err
}

func (w poolWAL) flushed(ctx context.Context, lsn string) (safe bool, err error) {
	err = w.pool.QueryRow(ctx, "SELECT pg_current_wal_flush_lsn() >= $1::text::pg_lsn", lsn).Scan(&safe)
	return safe, err
}

// rest waits for the next wake-up or poll, and at least for the linger, unless the
// batch was full. Under load it lingers longer: each read costs the database about
// the same, and brings more then.
func (t *term) rest(ctx context.Context, began time.Time, found int) {
	if found >= t.cfg.Batch {
		return
	}
	if found > 0 {
		// More may have come meanwhile, from processes that cannot wake this one.
		t.pause(ctx, 10*t.cfg.Linger)
	} else {
		t.pause(ctx, t.cfg.Poll)
	}
	linger := t.cfg.Linger * time.Duration(min(1+found/16, 8))
	if left := linger - time.Since(began); left > 0 {
		wait(ctx, left)
	}
}

func (t *term) pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-t.wake:
	case <-timer.C:
	}
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// quiet drops an error that is only the end of ctx.
func quiet(ctx context.Context, err error) error {
	if ctx.Err() == nil {
		return err
	}
	return nil
}
