package outbox

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/jackc/pgx/v5/pgxpool"
)

// parkedTable is shelf in the database.
type parkedTable struct {
	pool *pgxpool.Pool
	sink string
}

const (
	parkAggregateSQL = `INSERT INTO slipway.outbox_parked_aggregate (sink, aggregate_type, aggregate_id, error, attempts, next_attempt_at)
VALUES ($1, $2, $3, $4, $5, clock_timestamp() + make_interval(secs => $6)) ON CONFLICT DO NOTHING`

	parkEventSQL = `INSERT INTO slipway.outbox_parked (sink, aggregate_type, aggregate_id, id, created_at, aggregate_version,
    event_id, event_version, event_type, payload, headers)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) ON CONFLICT DO NOTHING`
)

// store writes them down.
func (p parking) store(ctx context.Context, tx pgx.Tx, sink string) error {
	var b pgx.Batch
	for a, w := range p {
		if w.err != nil {
			b.Queue(parkAggregateSQL, sink, a.kind, a.id, w.err.Error(), w.attempts, seconds(w.delay))
		}
		for _, e := range w.events {
			b.Queue(parkEventSQL, sink, a.kind, a.id, e.id, e.createdAt, e.aggregateVersion, e.eventID, e.eventVersion, e.eventType(), e.payload, e.headers())
		}
	}
	if err := tx.SendBatch(ctx, &b).Close(); err != nil {
		return fmt.Errorf("park outbox events: %w", err)
	}
	return nil
}

// seconds is a delay for the database to add to its own clock, NULL for never.
func seconds(d time.Duration) pgtype.Float8 {
	return pgtype.Float8{Float64: d.Seconds(), Valid: d >= 0}
}

func (p *parkedTable) due(ctx context.Context) ([]due, error) {
	rows, err := p.pool.Query(ctx, `SELECT aggregate_type, aggregate_id, attempts, redrives FROM slipway.outbox_parked_aggregate
		WHERE sink = $1 AND next_attempt_at <= clock_timestamp() ORDER BY next_attempt_at LIMIT 100`, p.sink)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (d due, err error) {
		err = row.Scan(&d.kind, &d.id, &d.attempts, &d.redrives)
		return d, err
	})
}

func (p *parkedTable) events(ctx context.Context, a aggregate, limit int) ([]stored, error) {
	rows, err := p.pool.Query(ctx, fmt.Sprintf(`SELECT '0'::xid8, id, created_at, aggregate_version, event_id, event_version, aggregate_type, aggregate_id,
		event_type, payload, headers, true FROM slipway.outbox_parked
		WHERE sink = $1 AND aggregate_type = $2 AND aggregate_id = $3 ORDER BY id LIMIT %d`, limit), rowFormats, p.sink, a.kind, a.id)
	if err != nil {
		return nil, err
	}
	return collect(rows)
}

func (p *parkedTable) count(ctx context.Context) (n int64, err error) {
	err = p.pool.QueryRow(ctx, "SELECT count(*) FROM slipway.outbox_parked WHERE sink = $1", p.sink).Scan(&n)
	return n, err
}

// store stores what has become of parked events.
func (r redriven) store(ctx context.Context, tx pgx.Tx, sink string) error {
	key := []any{sink, r.kind, r.id}
	_, err := tx.Exec(ctx, `DELETE FROM slipway.outbox_parked WHERE sink = $1 AND aggregate_type = $2 AND aggregate_id = $3 AND id = ANY($4)`, append(key, r.sent)...)
	switch {
	case err != nil:
		return err
	case r.empty:
		_, err = tx.Exec(ctx, `DELETE FROM slipway.outbox_parked_aggregate WHERE sink = $1 AND aggregate_type = $2 AND aggregate_id = $3`, key...)
	case r.err != nil:
		// An operator who has asked for another attempt since this one began gets it.
		_, err = tx.Exec(ctx, `UPDATE slipway.outbox_parked_aggregate SET error = $4, attempts = $5, last_attempt_at = clock_timestamp(),
			next_attempt_at = clock_timestamp() + make_interval(secs => $6)
			WHERE sink = $1 AND aggregate_type = $2 AND aggregate_id = $3 AND redrives = $7`, append(key, r.err.Error(), r.attempts, seconds(r.delay), r.redrives)...)
	}
	return err
}
