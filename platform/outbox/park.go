package outbox

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
	"go.uber.org/zap"
)

// parking collects the events of a chunk that cannot be published now, by aggregate.
type parking map[aggregate]*parked

// parked are events of one aggregate, in order. An aggregate that is parked already
// has no error.
type parked struct {
	err      error
	attempts int
	delay    time.Duration // never when only an operator can help
	events   []*stored
}

// never is the delay of an attempt that only an operator brings about.
const never = time.Duration(-1)

func (p parking) first(e *stored, err error, attempts int, delay time.Duration) {
	p[e.aggregate()] = &parked{err: err, attempts: attempts, delay: delay, events: []*stored{e}}
}

// behind adds an event to those that wait.
func (p parking) behind(e *stored) {
	a := e.aggregate()
	if p[a] == nil {
		p[a] = &parked{}
	}
	p[a].events = append(p[a].events, e)
}

const (
	parkAggregateSQL = `INSERT INTO slipway.outbox_parked_aggregate (sink, aggregate_type, aggregate_id, error, attempts, next_attempt_at)
VALUES ($1, $2, $3, $4, $5, clock_timestamp() + make_interval(secs => $6)) ON CONFLICT DO NOTHING`

	parkEventSQL = `INSERT INTO slipway.outbox_parked (sink, aggregate_type, aggregate_id, id, created_at, aggregate_version,
    event_id, event_version, event_type, payload, headers)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) ON CONFLICT DO NOTHING`
)

// store writes them down, nil if there are none.
func (p parking) store(ctx context.Context, sink string) func(tx pgx.Tx) error {
	if len(p) == 0 {
		return nil
	}
	return func(tx pgx.Tx) error {
		var b pgx.Batch
		for a, w := range p {
			if w.err != nil {
				b.Queue(parkAggregateSQL, sink, a.kind, a.id, w.err.Error(), w.attempts, seconds(w.delay))
			}
			for _, e := range w.events {
				b.Queue(parkEventSQL, sink, a.kind, a.id, e.id, e.createdAt, e.aggregateVersion, e.eventID, e.eventVersion, e.eventType, e.payload, e.headers)
			}
		}
		if err := tx.SendBatch(ctx, &b).Close(); err != nil {
			return fmt.Errorf("park outbox events: %w", err)
		}
		return nil
	}
}

// seconds is a delay for the database to add to its own clock, NULL for never.
func seconds(d time.Duration) pgtype.Float8 {
	return pgtype.Float8{Float64: d.Seconds(), Valid: d >= 0}
}

// park takes over what has been stored as parked.
func (t *term) park(ctx context.Context, p parking) error {
	if len(p) == 0 {
		return nil
	}
	for a := range p {
		t.parked[a] = true
	}
	return t.countParked(ctx)
}

// loadParked reads which aggregates are parked.
func (t *term) loadParked(ctx context.Context) error {
	t.parked = map[aggregate]bool{}
	err := t.ledger.within(ctx, func(tx pgx.Tx) error {
		rows, err := tx.Query(ctx, "SELECT aggregate_type, aggregate_id FROM slipway.outbox_parked_aggregate WHERE sink = $1", t.cfg.Sink)
		if err != nil {
			return err
		}
		var a aggregate
		_, err = pgx.ForEachRow(rows, []any{&a.kind, &a.id}, func() error {
			t.parked[a] = true
			return nil
		})
		return err
	})
	if err != nil {
		return fmt.Errorf("read parked aggregates: %w", err)
	}
	return t.countParked(ctx)
}

func (t *term) countParked(ctx context.Context) error {
	t.m.parkedAggregates.Set(float64(len(t.parked)))
	if len(t.parked) == 0 {
		t.m.parkedEvents.Set(0)
		return nil
	}
	var n int64
	if err := t.pool.QueryRow(ctx, "SELECT count(*) FROM slipway.outbox_parked WHERE sink = $1", t.cfg.Sink).Scan(&n); err != nil {
		return fmt.Errorf("count parked events: %w", err)
	}
	t.m.parkedEvents.Set(float64(n))
	return nil
}

// due is a parked aggregate whose time has come.
type due struct {
	aggregate
	attempts, redrives int
}

// redrive tries the parked aggregates that are due. Meanwhile nothing else is
// published, so the events of an aggregate leave in their order: the parked ones
// first, then what is read next.
func (t *term) redrive(soft, hard context.Context) error {
	rows, err := t.pool.Query(hard, `SELECT aggregate_type, aggregate_id, attempts, redrives FROM slipway.outbox_parked_aggregate
		WHERE sink = $1 AND next_attempt_at <= clock_timestamp() ORDER BY next_attempt_at LIMIT 100`, t.cfg.Sink)
	if err != nil {
		return fmt.Errorf("read parked aggregates: %w", err)
	}
	all, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (d due, err error) {
		err = row.Scan(&d.kind, &d.id, &d.attempts, &d.redrives)
		return d, err
	})
	if err != nil {
		return fmt.Errorf("read parked aggregates: %w", err)
	}
	for _, d := range all {
		for more := true; more && soft.Err() == nil; {
			if more, err = t.redriveOne(hard, d); err != nil {
				return err
			}
		}
	}
	if len(all) == 0 {
		return nil
	}
	return t.countParked(hard)
}

// redriveOne publishes the next parked events of an aggregate, and tells whether
// there are more that may follow at once.
func (t *term) redriveOne(ctx context.Context, d due) (more bool, err error) {
	if !t.ledger.holds() {
		return false, errDoubt
	}
	events, err := t.parkedEvents(ctx, d.aggregate)
	if err != nil {
		return false, err
	}
	b := newBatch(len(events))
	for i := range events {
		m, invalid := events[i].message()
		m.DedupID = m.ID + "/redrive-" + strconv.Itoa(d.redrives) + "-" + strconv.Itoa(d.attempts)
		b.add(&events[i], m, invalid)
	}
	fates := t.send(ctx, b)
	sent, now := 0, t.m.dbNow()
	for sent < len(fates) && fates[sent] == nil {
		t.acknowledged(&events[sent], now)
		sent++
	}
	empty := len(events) < t.cfg.Batch && sent == len(events)
	err = t.ledger.within(ctx, func(tx pgx.Tx) error { return t.redriven(ctx, tx, d, events[:sent], fates[sent:], empty) })
	if err != nil {
		return false, fmt.Errorf("redrive parked aggregate: %w", err)
	}
	if empty {
		delete(t.parked, d.aggregate)
		t.log.Info("published what was parked", zap.String("aggregate_type", d.kind), zap.String("aggregate_id", d.id))
	}
	return sent == len(events) && !empty, nil
}

func (t *term) parkedEvents(ctx context.Context, a aggregate) ([]stored, error) {
	rows, err := t.pool.Query(ctx, fmt.Sprintf(`SELECT '0'::xid8, id, created_at, aggregate_version, event_id, event_version, aggregate_type, aggregate_id,
		event_type, payload, headers, true FROM slipway.outbox_parked
		WHERE sink = $1 AND aggregate_type = $2 AND aggregate_id = $3 ORDER BY id LIMIT %d`, t.cfg.Batch), binaryFormat, t.cfg.Sink, a.kind, a.id)
	if err != nil {
		return nil, fmt.Errorf("read parked events: %w", err)
	}
	events, err := collect(rows, nil)
	if err != nil {
		return nil, fmt.Errorf("read parked events: %w", err)
	}
	return events, nil
}

// redriven stores the outcome: the events that were sent are gone, the aggregate too
// if it has no more, else it waits for its next attempt or for an operator.
func (t *term) redriven(ctx context.Context, tx pgx.Tx, d due, sent []stored, fates []error, empty bool) error {
	ids := make([]int64, len(sent))
	for i := range sent {
		ids[i] = sent[i].id
	}
	key := []any{t.cfg.Sink, d.kind, d.id}
	_, err := tx.Exec(ctx, `DELETE FROM slipway.outbox_parked WHERE sink = $1 AND aggregate_type = $2 AND aggregate_id = $3 AND id = ANY($4)`, append(key, ids)...)
	switch {
	case err != nil:
		return err
	case empty:
		_, err = tx.Exec(ctx, `DELETE FROM slipway.outbox_parked_aggregate WHERE sink = $1 AND aggregate_type = $2 AND aggregate_id = $3`, key...)
	case len(fates) > 0:
		attempts, delay := t.nextAttempt(d, fates[0], len(sent) > 0)
		_, err = tx.Exec(ctx, `UPDATE slipway.outbox_parked_aggregate SET error = $4, attempts = $5, last_attempt_at = clock_timestamp(),
			next_attempt_at = clock_timestamp() + make_interval(secs => $6)
			WHERE sink = $1 AND aggregate_type = $2 AND aggregate_id = $3`, append(key, fates[0].Error(), attempts, seconds(delay))...)
	}
	return err
}

// nextAttempt says when a parked aggregate is tried again; never by itself once the
// broker has refused an event or it was tried often enough.
func (t *term) nextAttempt(d due, err error, progress bool) (attempts int, delay time.Duration) {
	class := classify(err)
	t.m.failures.WithLabelValues(class).Inc()
	attempts = d.attempts
	if progress {
		attempts = 0
	}
	if class != classUnavailable {
		attempts++
	}
	if class == classRefused || attempts >= t.cfg.MaxAttempts {
		return attempts, never
	}
	return attempts, min(t.cfg.MinBackoff<<min(attempts, 20), t.cfg.MaxBackoff)
}
