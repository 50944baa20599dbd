package sagapg

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"go.uber.org/zap"
)

// errEnded says that others have taken this worker for dead, or must have by now.
var errEnded = errors.New("the worker was taken for dead")

// worker is the membership of this process: a row with a number that grows. Who sees it
// stand still for a lease, by a clock of its own, takes the worker for dead. Only its loop
// uses it, but for id, clock, trust, timely and deadWorkers.
type worker struct {
	db     *pgxpool.Pool
	link   link // of the signs of life
	cfg    Config
	logger *zap.Logger
	id     int64
	clock  *clock // of the process
	trust  trust
	seen   map[int64]sighting
	joined time.Time
	elder  bool        // one that joined before lives
	last   time.Time   // of the last sign of life
	timely atomic.Bool // clock is right: nothing is run before

	mu   sync.Mutex
	dead []int64 // workers whose sagas are free
}

// sighting is when a worker's number was seen to change.
type sighting struct {
	beats int64
	at    time.Time
}

// join makes the process a worker. It is one with a new id each time, and its clock goes on.
func join(ctx context.Context, db *pgxpool.Pool, cfg Config, c *clock, definitions []int32, logger *zap.Logger) (*worker, error) {
	w := &worker{db: db, link: link{db: db, settings: relaxedSession}, cfg: cfg, logger: logger, clock: c, seen: map[int64]sighting{}}
	asked := time.Now()
	var t time.Time
	var adjust string
	err := db.QueryRow(ctx, "INSERT INTO slipway.saga_worker (name, definitions) VALUES ($1, $2) RETURNING id, "+now+
		", (SELECT adjust::text FROM slipway.saga_clock)", cfg.Name, definitions).Scan(&w.id, &t, &adjust)
	if err != nil {
		return nil, fmt.Errorf("register saga worker: %w", missing(err))
	}
	w.timely.Store(w.clock.set(t, asked, adjust) == 0)
	w.trust.renew(asked.Add(cfg.Lease))
	w.joined, w.last = asked, asked
	return w, nil
}

// beat gives a sign of life and reads those of the others. What it writes may be lost in a
// crash of the database: nobody waits for the disk.
const beatSQL = `WITH beat AS (UPDATE slipway.saga_worker SET beats = beats + 1, seen_at = clock_timestamp()
    WHERE id = $1 AND ended_at IS NULL RETURNING id)
SELECT w.id, w.beats, w.ended_at IS NOT NULL, EXISTS (SELECT FROM beat), ` + now + `, c.adjust::text
FROM slipway.saga_worker w, slipway.saga_clock c`

// beat returns errEnded if the worker is one no more.
func (w *worker) beat(ctx context.Context) error {
	asked := time.Now()
	ctx, cancel := context.WithTimeout(ctx, w.cfg.Lease)
	defer cancel()
	conn, err := w.link.get(ctx)
	if err != nil {
		return fmt.Errorf("give a sign of life: %w", err)
	}
	rows, err := conn.Query(ctx, beatSQL, w.id)
	if err != nil {
		return fmt.Errorf("give a sign of life: %w", err)
	}
	others, err := pgx.CollectRows(rows, pgx.RowToStructByPos[sign])
	if err != nil {
		return fmt.Errorf("give a sign of life: %w", err)
	}
	if len(others) == 0 || !others[0].Alive {
		return errEnded
	}
	w.trust.renew(asked.Add(w.cfg.Lease))
	jump := w.clock.set(others[0].Now, asked, others[0].Adjust)
	if jump == 0 {
		w.timely.Store(true)
	} else if err := w.judge(ctx, jump, others); err != nil {
		return err
	}
	return w.watch(ctx, others, asked)
}

// judge decides who is wrong about the time. A worker that has agreed with the database before
// saw its clock jump. One that never has may have stood still itself, as a machine does that is
// suspended. It waits for the workers that were there before it: they take the jump out, or
// live on without having seen one. When there are none the clock has jumped while all were
// away, as that of a standby that has taken over.
func (w *worker) judge(ctx context.Context, jump time.Duration, others []sign) error {
	if w.timely.Load() {
		return w.takeOut(ctx, jump)
	}
	for _, o := range others {
		if s, known := w.seen[o.ID]; known && o.ID < w.id && !o.Ended && o.Beats != s.beats {
			w.elder = true
		}
	}
	switch waited := time.Since(w.joined); {
	case !w.elder && waited > w.cfg.Lease:
		return w.takeOut(ctx, jump)
	case w.elder && waited > 3*w.cfg.Lease:
		w.logger.Warn("this process has stood still: it takes the time of sagas from the others", zap.Duration("by", jump))
		w.clock.forget()
	}
	return nil
}

// sign is one worker as it is seen.
type sign struct {
	ID     int64
	Beats  int64
	Ended  bool
	Alive  bool // the worker that asks
	Now    time.Time
	Adjust string
}

// takeOut takes a jump of the database's clock out of the time of sagas. Of the workers that
// see it one does so; the others find another adjustment.
func (w *worker) takeOut(ctx context.Context, jump time.Duration) error {
	var adjust string
	err := w.db.QueryRow(ctx, `UPDATE slipway.saga_clock SET adjust = adjust - $1::interval WHERE adjust::text = $2
		RETURNING adjust::text`, jump, w.clock.adjustment()).Scan(&adjust)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("take out a jump of the database's clock: %w", err)
	}
	w.clock.adjusted(adjust)
	w.logger.Warn("the database's clock has jumped: the time of sagas has not", zap.Duration("by", jump))
	return nil
}

// watch takes workers for dead that gave no sign of life for a lease. After a pause of its
// own it begins anew: it has not looked.
func (w *worker) watch(ctx context.Context, others []sign, asked time.Time) error {
	paused := asked.Sub(w.last) > w.cfg.Lease
	w.last = asked
	var dead []int64
	defer func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.dead = dead
	}()
	for _, o := range others {
		if o.ID == w.id {
			continue
		}
		if o.Ended {
			dead = append(dead, o.ID)
			continue
		}
		if s, known := w.seen[o.ID]; !known || s.beats != o.Beats || paused {
			w.seen[o.ID] = sighting{o.Beats, time.Now()}
			continue
		}
		if time.Since(w.seen[o.ID].at) < w.cfg.Lease+w.cfg.Lease/10 {
			continue
		}
		tag, err := w.db.Exec(ctx, "UPDATE slipway.saga_worker SET ended_at = clock_timestamp() WHERE id = $1 AND beats = $2 AND ended_at IS NULL",
			o.ID, o.Beats)
		if err != nil {
			return fmt.Errorf("end worker %d: %w", o.ID, err)
		}
		if tag.RowsAffected() == 1 {
			w.logger.Warn("a worker gave no sign of life: its sagas are taken over", zap.Int64("worker", o.ID))
			dead = append(dead, o.ID)
		}
	}
	return nil
}

// ready tells whether the worker may take sagas on.
func (w *worker) ready() bool { return w.trust.holds() && w.timely.Load() }

// deadWorkers returns the workers whose sagas are free.
func (w *worker) deadWorkers() []int64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.dead
}

// leave ends the membership. Sagas that it still has are free at once.
func (w *worker) leave(ctx context.Context) error {
	_, err := w.db.Exec(ctx, "UPDATE slipway.saga_worker SET ended_at = clock_timestamp() WHERE id = $1", w.id)
	if err != nil {
		return fmt.Errorf("leave as saga worker: %w", err)
	}
	return nil
}
