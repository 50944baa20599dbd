package outbox

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
	"go.uber.org/zap"

	"github.com/slipwayhq/slipway/platform/postgres"
)

// openReplay is a request to publish again what was published since some time.
type openReplay struct {
	id             int64
	since          time.Time
	of             extent
	begun          bool
	done, high     int64
	publishedSoFar int64
}

// extent is what was settled at some moment: what the snapshot sees and, of a window
// that was being worked through, what the target sees up to an id.
type extent struct {
	snapshot   string
	target     *string
	targetDone *int64
}

const extentColumns = "snapshot::text, target::text, target_done"

// replayed says which events a replay is about: those of its extent, but not those
// that are parked, which have not been published yet, nor those that an operator has
// discarded. $1 is the snapshot, $2 the time,
// $3 and $4 the range of ids, $5 the sink, $6 and $7 the target and how far it is done.
const replayed = `FROM $CHILD e WHERE id + 0 > $3 AND id + 0 <= $4 AND created_at >= $2
    AND (pg_visible_in_snapshot(xid, $1) OR id <= $7 AND pg_visible_in_snapshot(xid, $6))
    AND NOT EXISTS (SELECT FROM slipway.outbox_parked p WHERE p.sink = $5 AND p.event_id = e.event_id)
    AND NOT EXISTS (SELECT FROM slipway.outbox_journal j WHERE j.action = 'discard' AND j.sink = $5 AND j.event_id = e.event_id)`

// replay publishes the next batch of the oldest open request, and tells whether there
// is more to do. It takes turns with the live events.
func (t *term) replay(ctx context.Context) (more bool, err error) {
	var r openReplay
	err = t.pool.QueryRow(ctx, "SELECT replay, since, "+extentColumns+`, begun_at IS NOT NULL, done, high, published FROM slipway.outbox_replay
		WHERE sink = $1 AND finished_at IS NULL ORDER BY replay LIMIT 1`, t.cfg.Sink).
		Scan(&r.id, &r.since, &r.of.snapshot, &r.of.target, &r.of.targetDone, &r.begun, &r.done, &r.high, &r.publishedSoFar)
	if errors.Is(err, pgx.ErrNoRows) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("read outbox replay: %w", err)
	}
	if !r.begun {
		if r.of, err = t.beginReplay(ctx, r.id); err != nil {
			return false, err
		}
	}
	events, upTo, err := t.replayBatch(ctx, r)
	if err != nil {
		return false, fmt.Errorf("read events to replay: %w", err)
	}
	if !t.ledger.holds() {
		return false, errDoubt
	}
	leftOut, ok := t.repeat(ctx, r.id, events)
	if !ok {
		t.sleep(ctx, t.cfg.MinBackoff)
		return true, nil // some may be there twice; that is what a replay is
	}
	return upTo < r.high, t.replayDone(ctx, r, repeated{replay: r.id, upTo: upTo, published: len(events) - leftOut, leftOut: leftOut})
}

// beginReplay fixes what a replay is about. No batch is in hand now, so everything that the
// broker may have had is settled, or will be published after this: when the replay
// was asked for, a part of a batch may have been with a broker that has lost it since.
func (t *term) beginReplay(ctx context.Context, replay int64) (extent, error) {
	if err := t.store(ctx, nil); err != nil {
		return extent{}, err
	}
	return t.ledger.beginReplay(ctx, replay)
}

// replayBatch reads the next events of a replay and up to which id they are
// complete.
func (t *term) replayBatch(ctx context.Context, r openReplay) (events []stored, upTo int64, err error) {
	sql := union(fmt.Sprintf("SELECT %s %s ORDER BY id LIMIT %d", rowColumns, replayed, t.cfg.Batch))
	width := int64(t.cfg.Batch)
	err = rangesOfIDs(ctx, t.pool, func(tx pgx.Tx) error {
		for upTo = r.done; upTo < r.high && len(events) == 0; width = min(2*width, 64*int64(t.cfg.Batch)) {
			lo := upTo
			upTo = min(lo+width, r.high)
			rows, err := tx.Query(ctx, sql, rowFormats, r.of.snapshot, r.since, lo, upTo, t.cfg.Sink, r.of.target, r.of.targetDone)
			if err != nil {
				return err
			}
			if events, err = collect(rows); err != nil {
				return err
			}
		}
		return nil
	})
	sortByID(events)
	if len(events) >= t.cfg.Batch {
		events = events[:t.cfg.Batch]
		upTo = events[len(events)-1].id
	}
	return events, upTo, err
}

// rangesOfIDs runs fn in a transaction with the plans for ranges of ids.
func rangesOfIDs(ctx context.Context, db postgres.Beginner, fn func(tx pgx.Tx) error) error {
	return postgres.InTx(ctx, db, postgres.TxOptions{ReadOnly: true}, func(tx pgx.Tx) error {
		if err := planRanges(ctx, tx); err != nil {
			return err
		}
		return fn(tx)
	})
}

func planRanges(ctx context.Context, tx pgx.Tx) error {
	_, err := tx.Exec(ctx, "SET LOCAL enable_seqscan = off; SET LOCAL statement_timeout = '60s'", pgx.QueryExecModeSimpleProtocol)
	return err
}

// repeated is a step of a replay.
type repeated struct {
	replay, upTo       int64
	published, leftOut int
}

// tries is how often each event of a batch of a replay was tried without success.
type tries struct {
	replay int64
	of     map[int64]int
}

// repeat publishes the events under new ids for the broker's own deduplication, and
// the same ids for consumers. An event that the broker refuses is left out, and one
// that it does not take in as many attempts as a parked one has: an operator who asks
// for a replay waits for its end. Unless it is done, the rest is to be tried again.
func (t *term) repeat(ctx context.Context, replay int64, events []stored) (leftOut int, done bool) {
	if t.tries.replay != replay {
		t.tries = tries{replay: replay, of: map[int64]int{}}
	}
	b := newBatch(len(events))
	for i := range events {
		if t.tries.of[events[i].id] >= t.cfg.MaxAttempts {
			leftOut++
			continue
		}
		m, invalid := events[i].message()
		m.DedupID = m.ID + "/replay-" + strconv.FormatInt(replay, 10)
		b.add(&events[i], m, invalid)
	}
	done = true
	for i, err := range t.send(ctx, b) {
		switch {
		case err == nil:
			t.m.published.Inc()
		case t.leaveOut(b.events[i], err):
			leftOut++
		case done:
			done = false
			t.log.Warn("cannot replay, trying on", zap.Stringer("event_id", b.events[i].eventID), zap.Error(err))
		}
	}
	if done {
		clear(t.tries.of)
	}
	return leftOut, done
}

// leaveOut tells whether a replay goes on without an event that the broker did not
// take.
func (t *term) leaveOut(e *stored, err error) bool {
	class := classify(err)
	t.m.failures.WithLabelValues(class).Inc()
	switch class {
	case classRefused:
		t.tries.of[e.id] = t.cfg.MaxAttempts
	case classOther:
		t.tries.of[e.id]++
	}
	if t.tries.of[e.id] < t.cfg.MaxAttempts {
		return false
	}
	t.log.Error("cannot replay, left out the event", zap.Stringer("event_id", e.eventID), zap.String("event_type", e.eventType()),
		zap.String("class", class), zap.Error(err))
	return true
}

func (t *term) replayDone(ctx context.Context, r openReplay, step repeated) error {
	if err := t.ledger.replayed(ctx, step); err != nil {
		return err
	}
	if step.upTo >= r.high {
		t.log.Info("replay finished", zap.Int64("replay", r.id), zap.Int64("events", r.publishedSoFar+int64(step.published)))
	}
	return nil
}
