package inbox

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// WaitingKey is a key whose events wait for a version that has not come.
type WaitingKey struct {
	Consumer string `json:"consumer"`
	Key      string `json:"key"`
	// Next is the version that must come, First the lowest one that waits: those
	// from Next to First - 1 are missing.
	Next  int64 `json:"next_version"`
	First int64 `json:"first_waiting"`
	// Waiting counts the events of the key that wait, those behind further gaps too.
	Waiting int64 `json:"waiting"`
	// Since is when the first of them came.
	Since time.Time `json:"since"`
}

// Waiting lists the keys that wait for a version, those that have waited longest
// first. Keys that a dead letter holds up are not among them: see List. Nor is what
// the callers of InOrder keep elsewhere.
func (o *Operator) Waiting(ctx context.Context, f Filter) ([]WaitingKey, error) {
	rows, err := o.db.Query(ctx, `SELECT e.consumer, e.key, w.version + 1, e.first, e.waiting, e.since
		FROM (SELECT consumer, key, min(version) AS first, count(*) AS waiting, min(received_at) AS since FROM slipway.inbox_early
			WHERE ($1 = '' OR consumer = $1) AND ($2 = '' OR key = $2) GROUP BY consumer, key) e
		JOIN slipway.inbox_watermark w USING (consumer, key)
		WHERE NOT w.held AND e.first > w.version + 1 ORDER BY e.since, e.consumer, e.key LIMIT $3`,
		f.Consumer, f.Key, cmp.Or(f.Limit, 100))
	if err != nil {
		return nil, fmt.Errorf("list keys that wait: %w", missing(err))
	}
	keys, err := pgx.CollectRows(rows, pgx.RowToStructByPos[WaitingKey])
	if err != nil {
		return nil, fmt.Errorf("list keys that wait: %w", missing(err))
	}
	return keys, nil
}

// Skipped is what Skip has given up.
type Skipped struct {
	Consumer string `json:"consumer"`
	Key      string `json:"key"`
	// From and To are the versions that will never be applied.
	From int64 `json:"from_version"`
	To   int64 `json:"to_version"`
	// Waiting counts the events of the key that wait behind them, and Ready tells
	// whether the next one is there: it is applied now, with what follows it.
	Waiting int64 `json:"waiting"`
	Ready   bool  `json:"ready"`
}

var (
	// ErrSettled is in the error of Skip for versions that are applied, discarded or
	// skipped already.
	ErrSettled = errors.New("settled already")
	// ErrWaiting is in the error of Skip for versions that wait for earlier ones, or
	// to be tried again.
	ErrWaiting = errors.New("has come and is not applied yet")
	// ErrHeld is in the error of Skip for a key that an open dead letter holds up:
	// have that redriven or discarded.
	ErrHeld = errors.New("a dead letter holds the key up")
)

// Skip declares that the versions of the key that have not been applied, up to and
// including version, will never come: what waits behind them is applied, by a
// running consumer within its Poll. One that comes nevertheless is settled, a
// duplicate. It works for the callers of InOrder too.
//
// It waits for a message of the key that is being applied right now, as long as the
// lock timeout allows. It refuses what would lose a message that is there: versions
// that are settled (ErrSettled), wait or are tried again (ErrWaiting), or are an
// open dead letter (ErrHeld). It cannot see one that the broker will hand over
// again because its handler failed. A key that the consumer knows nothing of is
// ErrNotFound.
func (o *Operator) Skip(ctx context.Context, consumer, key string, version int64, by Act) (Skipped, error) {
	if consumer == "" || key == "" || version < 1 {
		return Skipped{}, fmt.Errorf("%w: name the consumer, the key and a positive version", ErrInvalid)
	}
	var done Skipped
	err := o.act(ctx, "skip", by, func(tx pgx.Tx) (detail string, err error) {
		done, err = skip(ctx, tx, position{consumer, key, version})
		return fmt.Sprintf("skipped versions %d to %d of %s for %s", done.From, done.To, key, consumer), err
	})
	if err != nil {
		return Skipped{}, err
	}
	return done, nil
}

// skip takes its locks in the order that consumers take them. What is there is
// looked at under the lock of the watermark, in a statement of its own: events that
// wait are stored under that.
func skip(ctx context.Context, tx pgx.Tx, at position) (Skipped, error) {
	last, held, err := lockWatermark(ctx, tx, at, "")
	if errors.Is(err, pgx.ErrNoRows) {
		return Skipped{}, fmt.Errorf("key %q of consumer %q: %w", at.key, at.consumer, ErrNotFound)
	}
	if err != nil {
		return Skipped{}, err
	}
	done := Skipped{Consumer: at.consumer, Key: at.key, From: last + 1, To: at.version}
	if done.To <= last {
		return done, fmt.Errorf("version %d: %w, as all up to %d", done.To, ErrSettled, last)
	}
	if err := mayLeaveOut(ctx, tx, &done, held); err != nil {
		return done, err
	}
	done.Ready, err = moveWatermark(ctx, tx, at)
	return done, err
}

// mayLeaveOut makes sure that none of the versions is there, and counts those behind
// them.
func mayLeaveOut(ctx context.Context, tx pgx.Tx, s *Skipped, held bool) error {
	var letter, first *int64
	err := tx.QueryRow(ctx, `SELECT count(*), min(version),
		(SELECT min(id) FROM slipway.inbox_dead WHERE consumer = $1 AND key = $2 AND version BETWEEN $3 AND $4 AND resolved_at IS NULL)
		FROM slipway.inbox_early WHERE consumer = $1 AND key = $2 AND version >= $3`,
		s.Consumer, s.Key, s.From, s.To).Scan(&s.Waiting, &first, &letter)
	switch {
	case err != nil:
		return fmt.Errorf("look for what has come: %w", err)
	case letter != nil:
		return fmt.Errorf("%w: have number %d redriven or discarded", ErrHeld, *letter)
	case held:
		return ErrHeld
	case first != nil && *first == s.From:
		return fmt.Errorf("version %d %w", *first, ErrWaiting)
	case first != nil && *first <= s.To:
		return fmt.Errorf("version %d %w: skip those up to %d", *first, ErrWaiting, *first-1)
	}
	return nil
}
