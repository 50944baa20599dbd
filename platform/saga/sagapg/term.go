package sagapg

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"go.uber.org/zap"
)

// term is the time for which this process is one worker. When others take it for dead, or
// must have, everything of it ends, and the process begins anew as another worker.
type term struct {
	r       *Runner
	worker  *worker
	journal *journal
	claims  link
	run     func(*claimed) // takes a saga as far as it goes
	freed   chan struct{}  // a place is free
	idle    map[claim]bool // what the last look for sagas to reclaim has found

	mu      sync.Mutex
	closed  bool
	running map[uuid.UUID]int // twice when an operator has taken it from a run that is still at a call
	runs    sync.WaitGroup
}

func newTerm(r *Runner, w *worker) *term {
	t := &term{
		r: r, worker: w, journal: newJournal(r.db, w, r.metrics), claims: link{db: r.db, settings: claimPlans + "; " + relaxedSession}, freed: make(chan struct{}, 1), running: map[uuid.UUID]int{},
	}
	return t
}

// serve runs sagas until ctx or the worker's life ends, and then brings everything to rest.
func (t *term) serve(ctx context.Context) {
	life, die := context.WithCancelCause(context.WithoutCancel(ctx)) // of everything; it ends when the worker is one no more
	defer die(nil)
	var loops sync.WaitGroup
	loops.Go(t.journal.run)
	resting := make(chan struct{})
	loops.Go(func() { t.live(life, die, resting) })
	t.run = func(c *claimed) { t.execute(ctx, life, c) }
	t.r.current.Store(t)
	t.take(ctx, life)
	t.r.current.Store(nil)
	t.rest(die)
	close(resting)
	close(t.journal.records)
	loops.Wait()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), t.r.cfg.Lease)
	defer cancel()
	t.claims.close(ctx)
	t.worker.link.close(ctx)
	if err := t.worker.leave(ctx); err != nil {
		t.r.logger.Warn("sagas of this worker are free only after its lease", zap.Error(err))
	}
}

// live gives signs of life.
func (t *term) live(ctx context.Context, die context.CancelCauseFunc, resting <-chan struct{}) {
	ticker, reclaimed := time.NewTicker(t.r.cfg.Lease/3), time.Now()
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
		case <-resting:
			return
		}
		dead := len(t.worker.deadWorkers())
		err := t.worker.beat(ctx)
		if errors.Is(err, errEnded) || err != nil && !t.worker.trust.holds() {
			t.r.logger.Warn("this worker gives its sagas up and begins anew", zap.Int64("worker", t.worker.id), zap.Error(err))
			t.r.metrics.terms.Inc()
			die(errEnded)
			return
		}
		if err != nil {
			t.r.logger.Warn("sign of life failed", zap.Error(err))
		}
		if len(t.worker.deadWorkers()) > dead {
			t.r.Wake()
		}
		if time.Since(reclaimed) > reclaimEvery {
			reclaimed = time.Now()
			if err := t.reclaim(ctx); err != nil {
				t.r.logger.Warn("reclaim of sagas failed", zap.Error(err))
			}
		}
	}
}

// take claims sagas and runs them.
func (t *term) take(ctx, life context.Context) {
	poll := time.NewTicker(t.r.cfg.Poll)
	defer poll.Stop()
	more := true
	for ctx.Err() == nil && life.Err() == nil {
		if free := t.r.cfg.Concurrency - t.count(); free > 0 && t.worker.ready() {
			more = t.claimAndRun(ctx, free)
		}
		var freed <-chan struct{}
		if more {
			freed = t.freed
		}
		select {
		case <-freed:
		case <-t.r.wake:
		case <-poll.C:
		case <-ctx.Done():
		case <-life.Done():
		}
	}
}

// claimAndRun returns whether there may be more to claim.
func (t *term) claimAndRun(ctx context.Context, free int) (more bool) {
	claimed, err := t.claim(ctx, free)
	if err != nil && ctx.Err() == nil {
		t.r.logger.Warn("claim failed", zap.Error(err))
	}
	for _, c := range claimed {
		t.adopt(c)
	}
	return len(claimed) >= max(1, free/len(t.r.ids))
}

// rest waits for the runs. Calls on their way get some time to come back by themselves.
func (t *term) rest(die context.CancelCauseFunc) {
	t.mu.Lock()
	t.closed = true
	t.mu.Unlock()
	grace := time.AfterFunc(t.r.cfg.Grace, func() { die(context.DeadlineExceeded) })
	defer grace.Stop()
	t.runs.Wait()
}

// adopt runs a saga of this worker. One that comes too late is free when the worker leaves.
func (t *term) adopt(c *claimed) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return
	}
	t.running[c.id]++
	t.runs.Go(func() {
		defer t.end(c.id)
		t.run(c)
	})
}

// launch stores a saga and runs it.
func (t *term) launch(c *claimed, headers string) error {
	t.mu.Lock()
	if t.closed {
		t.mu.Unlock()
		return errEnded
	}
	t.runs.Add(1) // the journal is needed until this is over
	t.mu.Unlock()
	defer t.runs.Done()
	err := t.journal.put(&record{
		id: c.id, token: c.token, instance: c.instance, data: c.data, stored: make(chan error, 1),
		launched: &launched{definition: c.def.id, headers: headers, at: c.created},
	})
	if errors.Is(err, errRefused) {
		err = ErrExists
	}
	if err != nil {
		return fmt.Errorf("start saga %s %s: %w", c.def.plan.Name, c.id, err)
	}
	t.adopt(c)
	return nil
}

func (t *term) end(id uuid.UUID) {
	t.mu.Lock()
	if t.running[id]--; t.running[id] == 0 {
		delete(t.running, id)
	}
	t.mu.Unlock()
	select {
	case t.freed <- struct{}{}:
	default:
	}
}

func (t *term) count() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.running)
}

// left is for a saga that is over or was left to others.
func (t *term) left(n *run, rec *record) {
	if rec.waitsFor != "" { // its signal may be there already
		t.r.Wake()
	}
	t.r.metrics.left(n.def.plan.Name, rec.instance.Status)
}

// reclaim frees sagas that belong to this worker and that it does not run: what is left of
// a run that could not store its progress. The results of its calls are lost. It frees what
// it has found so twice, by the same claim: at the first look it may be on its way from there.
func (t *term) reclaim(ctx context.Context) error {
	rows, err := t.r.db.Query(ctx, "SELECT id, token FROM slipway.saga WHERE owner = $1", t.worker.id)
	if err != nil {
		return err
	}
	owned, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (c claim, err error) {
		return c, row.Scan(&c.id, &c.token)
	})
	if err != nil {
		return err
	}
	before := t.idle
	t.idle = map[claim]bool{}
	t.mu.Lock()
	var ids []uuid.UUID
	var tokens []int64
	for _, c := range owned {
		if t.running[c.id] > 0 {
			continue
		}
		if t.idle[c] = true; before[c] {
			ids, tokens = append(ids, c.id), append(tokens, c.token)
		}
	}
	t.mu.Unlock()
	if len(ids) == 0 {
		return nil
	}
	_, err = t.r.db.Exec(ctx, `UPDATE slipway.saga s SET owner = NULL, claims = claims + 1, next_run_at = `+now+`
		FROM unnest($1::uuid[], $2::bigint[]) AS t (id, token) WHERE s.id = t.id AND s.token = t.token AND s.owner = $3`, ids, tokens, t.worker.id)
	return err
}
