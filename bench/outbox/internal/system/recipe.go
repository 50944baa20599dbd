package system

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/slipwayhq/slipway/bench/internal/lab"
	"github.com/slipwayhq/slipway/platform/broker"
)

// poll is how often the recipes look for events.
const poll = 100 * time.Millisecond

// recipe is an outbox as people write it by hand: a table and a loop.
type recipe struct {
	name  string
	batch int
	xid   bool // the table says which transaction an event is of
	// notify has each insert announce itself within its transaction.
	notify bool
	// step reads a batch in tx, publishes it and settles it.
	step func(ctx context.Context, tx pgx.Tx, batch int, pub broker.Publisher) (int, error)
}

// Claim takes the oldest rows that nobody else has in hand, publishes and deletes
// them, in one transaction.
func Claim(batch int) System {
	return &recipe{name: fmt.Sprintf("claim_%d", batch), batch: batch, step: claim}
}

// Notifying is a plain outbox table whose writers call NOTIFY in their transaction.
func Notifying() System {
	return &recipe{name: "notify", batch: 1000, notify: true, step: claim}
}

// AfterLast publishes the rows whose id is larger than the last one published.
func AfterLast(batch int) System { return &recipe{name: "after_last", batch: batch, step: afterLast} }

// Horizon publishes, ordered by id, the rows of transactions below the horizon: the
// oldest transaction that is still running.
func Horizon() System { return &recipe{name: "horizon", xid: true, step: belowHorizon} }

// Name implements System.
func (r *recipe) Name() string { return r.name }

// Install implements System.
func (r *recipe) Install(ctx context.Context, url string) error {
	statements := []string{
		`CREATE TABLE outbox (id bigserial PRIMARY KEY, event_id uuid NOT NULL, aggregate_type text NOT NULL, aggregate_id text NOT NULL,
			event_type text NOT NULL, payload bytea NOT NULL, headers text NOT NULL, created_at timestamptz NOT NULL DEFAULT clock_timestamp())`,
		`CREATE TABLE outbox_cursor (last_id bigint NOT NULL, last_xid xid8 NOT NULL) WITH (fillfactor = 50)`,
		`INSERT INTO outbox_cursor VALUES (0, '0')`,
	}
	if r.xid {
		statements = append(statements,
			`ALTER TABLE outbox ADD COLUMN xid xid8 NOT NULL DEFAULT pg_current_xact_id()`,
			`CREATE INDEX outbox_xid ON outbox (xid, id)`)
	}
	return lab.Exec(ctx, url, statements...)
}

// Tables implements System.
func (r *recipe) Tables() (events, bookkeeping []string) {
	return []string{"public.outbox"}, []string{"public.outbox_cursor"}
}

// Writer implements System.
func (r *recipe) Writer(context.Context, *pgxpool.Pool) (Writer, error) {
	return writerFunc(r.add), nil
}

func (r *recipe) add(ctx context.Context, tx pgx.Tx, events ...Event) error {
	n := len(events)
	ids, aggregates, payloads := make([][16]byte, n), make([]string, n), make([][]byte, n)
	for i, e := range events {
		id, err := uuid.NewV7()
		if err != nil {
			return fmt.Errorf("draw event id: %w", err)
		}
		ids[i], aggregates[i], payloads[i] = id, strconv.FormatInt(e.Aggregate, 10), e.Payload
	}
	_, err := tx.Exec(ctx, `INSERT INTO outbox (event_id, aggregate_type, aggregate_id, event_type, payload, headers)
		SELECT e.id, $1, e.aggregate, $2, e.payload, $3 FROM unnest($4::uuid[], $5::text[], $6::bytea[]) WITH ORDINALITY
		AS e (id, aggregate, payload, n) ORDER BY e.n`, Kind, Type, headersJSON, ids, aggregates, payloads)
	if err == nil && r.notify {
		_, err = tx.Exec(ctx, "NOTIFY outbox")
	}
	if err != nil {
		return fmt.Errorf("insert event: %w", err)
	}
	return nil
}

// Fill implements System.
func (r *recipe) Fill(ctx context.Context, url string, n int) error {
	insert := fmt.Sprintf(`INSERT INTO outbox (event_id, aggregate_type, aggregate_id, event_type, payload, headers)
		SELECT gen_random_uuid(), '%s', g %% %d, '%s', %s, '%s'`, Kind, fillAggregates, Type, fillPayload, headersJSON)
	return lab.Exec(ctx, url, fillLoop(insert, n, 1)...)
}

// Relay implements System.
func (r *recipe) Relay(ctx context.Context, url string, pub broker.Publisher) (Relay, error) {
	pool, err := lab.OpenPool(ctx, url, 4)
	if err != nil {
		return nil, err
	}
	return &pollRelay{pool: pool, pause: poll, step: func(ctx context.Context, pool *pgxpool.Pool) (n int, err error) {
		err = pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
			n, err = r.step(ctx, tx, r.batch, pub)
			return err
		})
		return n, err
	}}, nil
}

const readColumns = "id, event_id, payload, headers"

// row is an event as the recipes read it.
type row struct {
	id      int64
	message broker.Message
}

// read returns the rows of a query for readColumns, sorted by id.
func read(ctx context.Context, tx pgx.Tx, sql string, args ...any) ([]row, error) {
	found, err := tx.Query(ctx, sql, args...)
	if err != nil {
		return nil, fmt.Errorf("read events: %w", err)
	}
	defer found.Close()
	var all []row
	for found.Next() {
		var r row
		var eventID uuid.UUID
		var payload, text []byte
		if err := found.Scan(&r.id, (*[16]byte)(&eventID), &payload, &text); err != nil {
			return nil, fmt.Errorf("read event: %w", err)
		}
		headers := make(map[string]string, 4)
		if err := json.Unmarshal(text, &headers); err != nil {
			return nil, fmt.Errorf("decode headers: %w", err)
		}
		if r.message, err = convert(eventID.String(), payload, headers); err != nil {
			return nil, err
		}
		all = append(all, r)
	}
	slices.SortFunc(all, func(a, b row) int { return cmp.Compare(a.id, b.id) })
	return all, found.Err()
}

func publish(ctx context.Context, pub broker.Publisher, rows []row) error {
	if len(rows) == 0 {
		return nil
	}
	messages := make([]broker.Message, len(rows))
	for i := range rows {
		messages[i] = rows[i].message
	}
	return pub.Publish(ctx, messages)
}

func claim(ctx context.Context, tx pgx.Tx, batch int, pub broker.Publisher) (int, error) {
	rows, err := read(ctx, tx, fmt.Sprintf(`DELETE FROM outbox WHERE id = ANY (ARRAY(
		SELECT id FROM outbox ORDER BY id LIMIT %d FOR UPDATE SKIP LOCKED)) RETURNING %s`, batch, readColumns))
	if err != nil {
		return 0, err
	}
	return len(rows), publish(ctx, pub, rows)
}

func afterLast(ctx context.Context, tx pgx.Tx, batch int, pub broker.Publisher) (int, error) {
	var last int64
	if err := tx.QueryRow(ctx, "SELECT last_id FROM outbox_cursor FOR UPDATE").Scan(&last); err != nil {
		return 0, fmt.Errorf("read cursor: %w", err)
	}
	rows, err := read(ctx, tx, fmt.Sprintf("SELECT %s FROM outbox WHERE id > $1 ORDER BY id LIMIT %d", readColumns, batch), last)
	if err != nil || len(rows) == 0 {
		return 0, err
	}
	if err := publish(ctx, pub, rows); err != nil {
		return 0, err
	}
	if _, err := tx.Exec(ctx, "UPDATE outbox_cursor SET last_id = $1", rows[len(rows)-1].id); err != nil {
		return 0, fmt.Errorf("store cursor: %w", err)
	}
	return len(rows), nil
}

func belowHorizon(ctx context.Context, tx pgx.Tx, _ int, pub broker.Publisher) (int, error) {
	var from, to string
	// Both in one statement: rows and horizon must be of one snapshot at least.
	err := tx.QueryRow(ctx, "SELECT last_xid::text, pg_snapshot_xmin(pg_current_snapshot())::text FROM outbox_cursor FOR UPDATE").Scan(&from, &to)
	if err != nil {
		return 0, fmt.Errorf("read cursor: %w", err)
	}
	rows, err := read(ctx, tx, "SELECT "+readColumns+" FROM outbox WHERE xid >= $1::text::xid8 AND xid < $2::text::xid8 ORDER BY id", from, to)
	if err != nil || len(rows) == 0 {
		return 0, err
	}
	if err := publish(ctx, pub, rows); err != nil {
		return 0, err
	}
	if _, err := tx.Exec(ctx, "UPDATE outbox_cursor SET last_xid = $1::text::xid8", to); err != nil {
		return 0, fmt.Errorf("store cursor: %w", err)
	}
	return len(rows), nil
}
