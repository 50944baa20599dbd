package outbox

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
)

// ReplayPlan is what a replay would publish, or will.
type ReplayPlan struct {
	Replay int64     `json:"replay,omitempty"` // 0 for a dry run
	Sink   string    `json:"sink"`
	Since  time.Time `json:"since"`
	// Events counts them. When it begins there may be a few more: those that the broker
	// acknowledged last, and what is published until then.
	Events int64            `json:"events"`
	Types  map[string]int64 `json:"types"`
	Oldest *time.Time       `json:"oldest,omitempty"`
	// Complete is false when events of that time are no longer kept.
	Complete bool `json:"complete"`
}

// Replay has everything published again that was published to the sink and stored
// since the time, in order, under the same event ids. Live events go on in between,
// batch by batch. It may be asked for while the broker is away: then it begins when
// that is back. With dryRun it only counts.
func (o *Operator) Replay(ctx context.Context, by By, sink string, since time.Time, dryRun bool) (ReplayPlan, error) {
	plan := ReplayPlan{Sink: sink, Since: since}
	if dryRun {
		err := rangesOfIDs(ctx, o.pool, func(tx pgx.Tx) error { return plan.count(ctx, tx) })
		return plan, err
	}
	err := o.act(ctx, by, "replay", func(tx pgx.Tx) ([]entry, error) {
		if err := planRanges(ctx, tx); err != nil {
			return nil, err
		}
		if err := plan.count(ctx, tx); err != nil {
			return nil, err
		}
		err := tx.QueryRow(ctx, `INSERT INTO slipway.outbox_replay (sink, since, snapshot, target, target_done, done, high)
			SELECT s.sink, $2, s.snapshot, s.target, s.target_done, coalesce((SELECT min(i) FROM (`+union("SELECT min(id) AS i FROM $CHILD WHERE created_at >= $2")+`) AS c), 0) - 1,
				(SELECT last_value FROM slipway.outbox_id_seq)
			FROM slipway.outbox_position s WHERE s.sink = $1 RETURNING replay`, sink, since).Scan(&plan.Replay)
		return []entry{{sink: sink, detail: "replay " + strconv.FormatInt(plan.Replay, 10) + ": " + strconv.FormatInt(plan.Events, 10) +
			" events since " + since.UTC().Format(time.RFC3339)}}, err
	})
	return plan, err
}

// ReplayProgress is how far a replay has come.
type ReplayProgress struct {
	Sink string `json:"sink"`
	// Published counts the events that were published again, LeftOut those that the
	// broker refused, or did not take in Config.MaxAttempts.
	Published int64 `json:"published"`
	LeftOut   int64 `json:"left_out"`
	// FinishedAt is nil as long as it goes on.
	FinishedAt *time.Time `json:"finished_at,omitempty"`
	// Cancelled tells whether an operator gave it up.
	Cancelled bool `json:"cancelled,omitempty"`
}

// ReplayProgress returns how far a replay has come.
func (o *Operator) ReplayProgress(ctx context.Context, replay int64) (p ReplayProgress, err error) {
	err = o.pool.QueryRow(ctx, "SELECT sink, published, left_out, finished_at, cancelled FROM slipway.outbox_replay WHERE replay = $1", replay).
		Scan(&p.Sink, &p.Published, &p.LeftOut, &p.FinishedAt, &p.Cancelled)
	if err == pgx.ErrNoRows { //nolint:errorlint // QueryRow returns it as it is
		return p, fmt.Errorf("replay %d: %w", replay, ErrNotFound)
	}
	if err != nil {
		return p, fmt.Errorf("read progress of replay: %w", missing(err))
	}
	return p, nil
}

// CancelReplay gives up a replay that is not finished. What it has published stays
// published, and at most one more batch follows.
func (o *Operator) CancelReplay(ctx context.Context, by By, replay int64) error {
	return o.act(ctx, by, "cancel-replay", func(tx pgx.Tx) ([]entry, error) {
		var e entry
		err := tx.QueryRow(ctx, `UPDATE slipway.outbox_replay SET finished_at = clock_timestamp(), cancelled = true
			WHERE replay = $1 AND finished_at IS NULL RETURNING sink, format('replay %s: %s events published', replay, published)`, replay).Scan(&e.sink, &e.detail)
		if err == pgx.ErrNoRows { //nolint:errorlint // QueryRow returns it as it is
			return nil, fmt.Errorf("open replay %d: %w", replay, ErrNotFound)
		}
		return []entry{e}, err
	})
}

func (p *ReplayPlan) count(ctx context.Context, tx pgx.Tx) error {
	var of extent
	err := tx.QueryRow(ctx, "SELECT "+extentColumns+`, coalesce($2 >= (SELECT min(opened_at) FROM slipway.outbox_rotation), false)
		FROM slipway.outbox_position WHERE sink = $1`, p.Sink, p.Since).Scan(&of.snapshot, &of.target, &of.targetDone, &p.Complete)
	if err == pgx.ErrNoRows { //nolint:errorlint // QueryRow returns it as it is
		return fmt.Errorf("sink %q: %w", p.Sink, ErrNotFound)
	}
	if err != nil {
		return fmt.Errorf("read position of sink: %w", missing(err))
	}
	rows, err := tx.Query(ctx, "SELECT event_type, count(*), min(created_at) FROM ("+
		union("SELECT event_type, created_at "+replayed)+") AS c GROUP BY 1", of.snapshot, p.Since, -1, int64(1)<<62, p.Sink, of.target, of.targetDone)
	if err != nil {
		return fmt.Errorf("count events to replay: %w", err)
	}
	p.Types = map[string]int64{}
	var kind string
	var n int64
	var oldest time.Time
	_, err = pgx.ForEachRow(rows, []any{&kind, &n, &oldest}, func() error {
		p.Events += n
		p.Types[kind] = n
		if p.Oldest == nil || oldest.Before(*p.Oldest) {
			at := oldest
			p.Oldest = &at
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("count events to replay: %w", err)
	}
	return nil
}
