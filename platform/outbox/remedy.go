package outbox

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// StoredEvent is an event with what has become of it.
type StoredEvent struct {
	ID               uuid.UUID `json:"event_id"`
	Position         int64     `json:"position"`
	CreatedAt        time.Time `json:"created_at"`
	AggregateType    string    `json:"aggregate_type"`
	AggregateID      string    `json:"aggregate_id"`
	AggregateVersion int64     `json:"aggregate_version"`
	Type             string    `json:"event_type"`
	Version          int32     `json:"event_version"`
	Headers          string    `json:"headers"`
	Payload          []byte    `json:"payload"`
	// Sinks maps each sink to published, unsent, parked or discarded.
	Sinks map[string]string `json:"sinks"`
}

// Show returns an event that is still kept, or parked. It looks first where the time
// in the id points to, then everywhere, which takes long in a large outbox.
func (o *Operator) Show(ctx context.Context, id uuid.UUID) (StoredEvent, error) {
	var e StoredEvent
	const columns = `event_id, id, created_at, aggregate_type, aggregate_id, aggregate_version, event_type, event_version, headers, payload`
	scan := func(row pgx.Row, xid *string) error {
		return row.Scan(&e.ID, &e.Position, &e.CreatedAt, &e.AggregateType, &e.AggregateID, &e.AggregateVersion, &e.Type, &e.Version, &e.Headers, &e.Payload, xid)
	}
	sec, nsec := id.Time().UnixTime()
	about := time.Unix(sec, nsec)
	queries := []string{
		union("SELECT " + columns + ", xid::text FROM $CHILD WHERE event_id = $1 AND created_at BETWEEN $2 AND $3"),
		union("SELECT " + columns + ", xid::text FROM $CHILD WHERE event_id = $1 AND $2::timestamptz IS NOT NULL AND $3::timestamptz IS NOT NULL"),
		"SELECT " + columns + ", '' FROM slipway.outbox_parked WHERE event_id = $1 AND $2::timestamptz IS NOT NULL AND $3::timestamptz IS NOT NULL LIMIT 1",
	}
	for _, sql := range queries {
		var xid string
		err := scan(o.pool.QueryRow(ctx, sql, id, about.Add(-time.Hour), about.Add(time.Hour)), &xid)
		if err == nil {
			e.Sinks, err = o.fate(ctx, e, xid)
			return e, err
		}
		if err != pgx.ErrNoRows { //nolint:errorlint // QueryRow returns it as it is
			return e, fmt.Errorf("look for event: %w", missing(err))
		}
	}
	return e, fmt.Errorf("event %s: %w: it was never stored, or its retention is over", id, ErrNotFound)
}

func (o *Operator) fate(ctx context.Context, e StoredEvent, xid string) (map[string]string, error) {
	rows, err := o.pool.Query(ctx, `SELECT s.sink, CASE
			WHEN EXISTS (SELECT FROM slipway.outbox_parked p WHERE p.sink = s.sink AND p.event_id = $1) THEN 'parked'
			WHEN EXISTS (SELECT FROM slipway.outbox_journal j WHERE j.action = 'discard' AND j.sink = s.sink AND j.event_id = $1) THEN 'discarded'
			WHEN $2 = '' OR pg_visible_in_snapshot(nullif($2, '')::xid8, s.snapshot)
				OR $3 <= s.target_done AND pg_visible_in_snapshot(nullif($2, '')::xid8, s.target) THEN 'published'
			ELSE 'unsent' END
		FROM slipway.outbox_position s`, e.ID, xid, e.Position)
	if err != nil {
		return nil, fmt.Errorf("look for fate of event: %w", err)
	}
	fates := map[string]string{}
	var sink, fate string
	_, err = pgx.ForEachRow(rows, []any{&sink, &fate}, func() error {
		fates[sink] = fate
		return nil
	})
	return fates, err
}

// Redrive has parked aggregates tried again at once, with attempts counted from
// zero: those of a sink, empty for all, and of one aggregate, empty for all. It
// returns how many.
func (o *Operator) Redrive(ctx context.Context, by By, sink, aggregateType, aggregateID string) (n int, err error) {
	err = o.act(ctx, by, "redrive", func(tx pgx.Tx) ([]entry, error) {
		rows, err := tx.Query(ctx, `UPDATE slipway.outbox_parked_aggregate SET attempts = 0, redrives = redrives + 1, next_attempt_at = clock_timestamp()
			WHERE (sink = $1 OR $1 = '') AND ($2 = '' OR aggregate_type = $2 AND aggregate_id = $3) RETURNING sink, aggregate_type || '/' || aggregate_id`,
			sink, aggregateType, aggregateID)
		if err != nil {
			return nil, err
		}
		entries, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (e entry, err error) {
			return e, row.Scan(&e.sink, &e.detail)
		})
		if n = len(entries); n == 0 && err == nil {
			err = fmt.Errorf("parked aggregate: %w", ErrNotFound)
		}
		return entries, err
	})
	return n, err
}

// Discard gives up a parked event for a sink, empty for all that have it parked. The
// later events of its aggregate are then tried at once. No replay sends it.
func (o *Operator) Discard(ctx context.Context, by By, sink string, id uuid.UUID) error {
	return o.act(ctx, by, "discard", func(tx pgx.Tx) ([]entry, error) {
		rows, err := tx.Query(ctx, `WITH gone AS (DELETE FROM slipway.outbox_parked WHERE event_id = $2 AND (sink = $1 OR $1 = '')
				RETURNING sink, aggregate_type, aggregate_id, event_type, aggregate_version),
			tried AS (UPDATE slipway.outbox_parked_aggregate a SET attempts = 0, redrives = redrives + 1, next_attempt_at = clock_timestamp() FROM gone
				WHERE (a.sink, a.aggregate_type, a.aggregate_id) = (gone.sink, gone.aggregate_type, gone.aggregate_id))
			SELECT sink, format('event %s %s of %s/%s version %s', $2, event_type, aggregate_type, aggregate_id, aggregate_version) FROM gone`, sink, id)
		if err != nil {
			return nil, err
		}
		entries, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (e entry, err error) {
			e.event = uuid.NullUUID{UUID: id, Valid: true}
			return e, row.Scan(&e.sink, &e.detail)
		})
		if len(entries) == 0 && err == nil {
			err = fmt.Errorf("parked event %s: %w", id, ErrNotFound)
		}
		return entries, err
	})
}

// Reset makes the positions of all sinks those of this database, after it was
// restored into another cluster: what was published by the positions that came with
// it stays published, the rest is published in order. It takes the outbox for itself
// meanwhile, and returns how many events are to be published. An event that only
// some sinks have had is published to all.
func (o *Operator) Reset(ctx context.Context, by By) (unsent int64, err error) {
	err = o.act(ctx, by, "reset", func(tx pgx.Tx) ([]entry, error) {
		for _, sql := range []string{
			"SET LOCAL statement_timeout = 0", "LOCK TABLE slipway.outbox, slipway.outbox_sink, slipway.outbox_step IN ACCESS EXCLUSIVE MODE",
			foldSQL, "TRUNCATE slipway.outbox_step",
		} {
			if _, err := tx.Exec(ctx, sql); err != nil {
				return nil, err
			}
		}
		tag, err := tx.Exec(ctx, `UPDATE slipway.outbox e SET xid = pg_current_xact_id() WHERE EXISTS (
			SELECT FROM slipway.outbox_sink s WHERE NOT pg_visible_in_snapshot(e.xid, s.snapshot)
				AND NOT coalesce(pg_visible_in_snapshot(e.xid, s.target) AND e.id <= s.target_done, false))`)
		if err != nil {
			return nil, err
		}
		unsent = tag.RowsAffected()
		if _, err := tx.Exec(ctx, `UPDATE slipway.outbox SET xid = '3' WHERE xid <> pg_current_xact_id()`); err != nil {
			return nil, err
		}
		identifier, err := systemIdentifier(ctx, tx)
		if err != nil {
			return nil, fmt.Errorf("ask for the identity of the database: %w", err)
		}
		_, err = tx.Exec(ctx, `UPDATE slipway.outbox_sink SET term = term + 1, holder = NULL, system_identifier = $1, floor = 0,
			target = NULL, target_high = NULL, target_floor = NULL, target_done = NULL,
			snapshot = format('%1$s:%1$s:', pg_current_xact_id())::pg_snapshot`, identifier)
		if err != nil {
			return nil, err
		}
		// What a replay is about was said in snapshots of the old cluster: it begins anew.
		if _, err := tx.Exec(ctx, "UPDATE slipway.outbox_replay SET begun_at = NULL WHERE finished_at IS NULL"); err != nil {
			return nil, err
		}
		_, err = tx.Exec(ctx, "UPDATE slipway.outbox_rotation SET closed_xid = '3', passed_at = NULL, passed = NULL WHERE closed_xid IS NOT NULL")
		return []entry{{detail: strconv.FormatInt(unsent, 10) + " events to publish"}}, err
	})
	return unsent, err
}
