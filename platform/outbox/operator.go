package outbox

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/slipwayhq/slipway/platform/postgres"
)

// Operator is what people do with an outbox. It needs only the database: it leaves
// its wishes there, and the active relay fulfils them within about half a second.
// Every change is journaled in its own transaction. Safe for concurrent use.
type Operator struct{ pool *pgxpool.Pool }

// NewOperator returns an operator of the outbox in a database.
func NewOperator(pool *pgxpool.Pool) *Operator { return &Operator{pool: pool} }

// By says who does something, and why. Both must be given.
type By struct{ Who, Why string }

var (
	// ErrNotFound is in the error for a sink, an aggregate or an event that is not
	// there.
	ErrNotFound = errors.New("not found")
	// ErrNoReason is in the error of a change without By.
	ErrNoReason = errors.New("who and why must be given")
)

// SinkStatus is how one sink is doing.
type SinkStatus struct {
	Sink string `json:"sink"`
	// Alive tells whether a replica gave a sign of life while it was asked.
	Alive bool `json:"alive"`
	// Holder is the replica that publishes, or the last one that did. Empty when it
	// gave the lease back.
	Holder string `json:"holder"`
	Term   int64  `json:"term"`
	// Unsent is the exact count of committed events that are neither published nor
	// parked.
	Unsent int64 `json:"unsent"`
	// OldestUnsent is the age of the oldest of them, 0 if there is none.
	OldestUnsent     time.Duration `json:"oldest_unsent_ns"`
	ParkedAggregates int64         `json:"parked_aggregates"`
	ParkedEvents     int64         `json:"parked_events"`
	OpenReplays      int64         `json:"open_replays"`
	// Replays are the ids of the replays that are not finished.
	Replays     []int64    `json:"replays,omitempty"`
	PausedAt    *time.Time `json:"paused_at,omitempty"`
	PublishedAt *time.Time `json:"published_at,omitempty"`
}

// Child is one part of the rotating table.
type Child struct {
	Slot     int16      `json:"slot"`
	State    string     `json:"state"` // current, kept, empty
	Bytes    int64      `json:"bytes"`
	OpenedAt *time.Time `json:"opened_at,omitempty"`
	ClosedAt *time.Time `json:"closed_at,omitempty"`
}

// Status is how the outbox is doing.
type Status struct {
	Sinks    []SinkStatus `json:"sinks"`
	Children []Child      `json:"children"`
}

// watched is a sink with what tells whether its relay lives, and publishes.
type watched struct {
	SinkStatus

	beat int64
	// lease is that of the replica that publishes, or of the last one that did.
	lease time.Duration
	// quiet is for how long nothing has been published, if anything ever was.
	quiet time.Duration
}

const statusSQL = `SELECT s.sink, coalesce(s.holder, '') AS holder, s.term, s.beat,
    coalesce(extract(epoch FROM (SELECT lease FROM slipway.outbox_sink l WHERE l.sink = s.sink)), 0)::float8 AS lease,
    coalesce(extract(epoch FROM clock_timestamp() - s.published_at), 0)::float8 AS quiet, s.paused_at, s.published_at,
    (SELECT count(*) FROM slipway.outbox_parked_aggregate p WHERE p.sink = s.sink) AS aggregates,
    (SELECT count(*) FROM slipway.outbox_parked p WHERE p.sink = s.sink) AS events,
    ARRAY(SELECT replay FROM slipway.outbox_replay r WHERE r.sink = s.sink AND r.finished_at IS NULL ORDER BY replay) AS replays
FROM slipway.outbox_position s ORDER BY s.sink`

// Status looks at the outbox. To see signs of life it takes up to a second, or the
// lease of a relay if that is longer.
func (o *Operator) Status(ctx context.Context) (Status, error) {
	all, err := o.watch(ctx)
	if err != nil {
		return Status{}, err
	}
	sinks := make([]SinkStatus, len(all))
	for i, s := range all {
		sinks[i] = s.SinkStatus
		if err := o.unsent(ctx, &sinks[i]); err != nil {
			return Status{}, fmt.Errorf("count unsent events: %w", err)
		}
	}
	children, err := o.children(ctx)
	return Status{Sinks: sinks, Children: children}, err
}

// Sinks lists the sinks that a relay has published to.
func (o *Operator) Sinks(ctx context.Context) ([]string, error) {
	rows, err := o.pool.Query(ctx, "SELECT sink FROM slipway.outbox_sink ORDER BY sink")
	if err != nil {
		return nil, fmt.Errorf("read outbox sinks: %w", missing(err))
	}
	sinks, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return nil, fmt.Errorf("read outbox sinks: %w", missing(err))
	}
	return sinks, nil
}

// watch reads the sinks and waits for their signs of life.
func (o *Operator) watch(ctx context.Context) ([]watched, error) {
	rows, err := o.pool.Query(ctx, statusSQL)
	if err != nil {
		return nil, fmt.Errorf("read outbox sinks: %w", missing(err))
	}
	sinks, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (s watched, err error) {
		var lease, quiet float64
		err = row.Scan(&s.Sink, &s.Holder, &s.Term, &s.beat, &lease, &quiet, &s.PausedAt, &s.PublishedAt, &s.ParkedAggregates, &s.ParkedEvents, &s.Replays)
		s.OpenReplays = int64(len(s.Replays))
		s.lease, s.quiet = time.Duration(lease*float64(time.Second)), time.Duration(quiet*float64(time.Second))
		return s, err
	})
	if err != nil {
		return nil, fmt.Errorf("read outbox sinks: %w", missing(err))
	}
	return sinks, o.lives(ctx, sinks)
}

// lives looks again until every sink has shown a sign of life, each for as long as
// its relay may be silent.
func (o *Operator) lives(ctx context.Context, sinks []watched) error {
	for began := time.Now(); ; {
		open := false
		for i := range sinks {
			s := &sinks[i]
			if s.Alive {
				continue
			}
			var beat int64
			if err := o.pool.QueryRow(ctx, "SELECT beat FROM slipway.outbox_position WHERE sink = $1", s.Sink).Scan(&beat); err != nil {
				return fmt.Errorf("look for signs of life: %w", err)
			}
			s.Alive = beat != s.beat
			open = open || !s.Alive && time.Since(began) < max(time.Second, s.lease)
		}
		if !open {
			return ctx.Err()
		}
		wait(ctx, 100*time.Millisecond)
	}
}

// unsent counts, and finds the oldest of what it counted.
func (o *Operator) unsent(ctx context.Context, s *SinkStatus) error {
	return rangesOfIDs(ctx, o.pool, func(tx pgx.Tx) error {
		pos, end, err := openWindow(ctx, tx, s.Sink)
		if err != nil {
			return err
		}
		if s.Unsent, err = pos.count(ctx, tx, end); err != nil || s.Unsent == 0 {
			return err
		}
		var oldest *float64
		err = tx.QueryRow(ctx, "SELECT extract(epoch FROM clock_timestamp() - min(t))::float8 FROM ("+
			union("SELECT created_at AS t FROM $CHILD WHERE xid >= pg_snapshot_xmin($1) AND NOT pg_visible_in_snapshot(xid, $1) ORDER BY xid, id LIMIT 1000")+") AS c",
			pos.done.text).Scan(&oldest)
		if oldest != nil {
			s.OldestUnsent = time.Duration(*oldest * float64(time.Second))
		}
		return err
	})
}

// openWindow returns where a sink is, and the window that is open for it.
func openWindow(ctx context.Context, tx pgx.Tx, sink string) (pos position, window target, err error) {
	at, err := readStep(ctx, tx, sink)
	if err != nil {
		return pos, window, err
	}
	var now string
	err = tx.QueryRow(ctx, "SELECT pg_current_snapshot()::text, last_value FROM slipway.outbox_id_seq").Scan(&now, &window.high)
	if err != nil {
		return pos, window, fmt.Errorf("look at outbox sequence: %w", err)
	}
	window.lo = -1
	window.end, err = parseSnapshot(now)
	return at.position, window, err
}

func (o *Operator) children(ctx context.Context) ([]Child, error) {
	rows, err := o.pool.Query(ctx, `SELECT slot, CASE WHEN current THEN 'current' WHEN closed_at IS NULL THEN 'empty' ELSE 'kept' END AS state,
		pg_total_relation_size(('slipway.outbox_' || slot)::regclass) AS bytes, opened_at, closed_at
		FROM slipway.outbox_rotation ORDER BY slot`)
	if err != nil {
		return nil, fmt.Errorf("read outbox rotation: %w", err)
	}
	children, err := pgx.CollectRows(rows, pgx.RowToStructByPos[Child])
	if err != nil {
		return nil, fmt.Errorf("read outbox rotation: %w", err)
	}
	return children, nil
}

// Pause stops publishing to a sink, empty for all, until Resume. Business goes on,
// the backlog grows.
func (o *Operator) Pause(ctx context.Context, by By, sink string) (sinks []string, err error) {
	return o.changeSinks(ctx, by, "pause", sink, "UPDATE slipway.outbox_sink SET paused_at = coalesce(paused_at, clock_timestamp())")
}

// Resume lets a sink that was paused go on, empty for all.
func (o *Operator) Resume(ctx context.Context, by By, sink string) (sinks []string, err error) {
	return o.changeSinks(ctx, by, "resume", sink, "UPDATE slipway.outbox_sink SET paused_at = NULL")
}

// RemoveSink forgets a sink that nobody publishes to any more, with its position and
// its parked events: until then the outbox keeps every event for it.
func (o *Operator) RemoveSink(ctx context.Context, by By, sink string) error {
	if sink == "" {
		return fmt.Errorf("remove sink: %w: no name given", ErrNotFound)
	}
	_, err := o.changeSinks(ctx, by, "remove-sink", sink, "WITH steps AS (DELETE FROM slipway.outbox_step WHERE sink = $1) DELETE FROM slipway.outbox_sink")
	return err
}

func (o *Operator) changeSinks(ctx context.Context, by By, action, sink, sql string) (sinks []string, err error) {
	err = o.act(ctx, by, action, func(tx pgx.Tx) ([]entry, error) {
		rows, err := tx.Query(ctx, sql+" WHERE sink = $1 OR $1 = '' RETURNING sink", sink)
		if err != nil {
			return nil, err
		}
		sinks, err = pgx.CollectRows(rows, pgx.RowTo[string])
		if err != nil {
			return nil, err
		}
		if len(sinks) == 0 {
			return nil, fmt.Errorf("sink %q: %w", sink, ErrNotFound)
		}
		entries := make([]entry, len(sinks))
		for i, s := range sinks {
			entries[i] = entry{sink: s}
		}
		return entries, nil
	})
	return sinks, err
}

// JournalEntry is something that an operator did.
type JournalEntry struct {
	At     time.Time `json:"at"`
	Who    string    `json:"who"`
	Action string    `json:"action"`
	Sink   string    `json:"sink"`
	Reason string    `json:"reason"`
	Detail string    `json:"detail"`
}

// Journal returns what operators did last, the latest first.
func (o *Operator) Journal(ctx context.Context, limit int) ([]JournalEntry, error) {
	rows, err := o.pool.Query(ctx, `SELECT at, who, action, coalesce(sink, '') AS sink, reason, detail
		FROM slipway.outbox_journal ORDER BY entry DESC LIMIT $1`, limit)
	if err != nil {
		return nil, fmt.Errorf("read outbox journal: %w", missing(err))
	}
	return pgx.CollectRows(rows, pgx.RowToStructByPos[JournalEntry])
}

// entry is what an action has done, for the journal.
type entry struct {
	sink, detail string
	event        uuid.NullUUID // that it is about, if it is one
}

// act runs an action and journals it in the same transaction.
func (o *Operator) act(ctx context.Context, by By, action string, do func(tx pgx.Tx) ([]entry, error)) error {
	if by.Who == "" || by.Why == "" {
		return fmt.Errorf("%s: %w", action, ErrNoReason)
	}
	err := postgres.InTx(ctx, o.pool, postgres.TxOptions{}, func(tx pgx.Tx) error {
		entries, err := do(tx)
		if err != nil {
			return err
		}
		for _, e := range entries {
			if _, err := tx.Exec(ctx, "INSERT INTO slipway.outbox_journal (who, action, sink, reason, detail, event_id) VALUES ($1, $2, nullif($3, ''), $4, $5, $6)",
				by.Who, action, e.sink, by.Why, e.detail, e.event); err != nil {
				return fmt.Errorf("write journal: %w", err)
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("%s: %w", action, missing(err))
	}
	return nil
}

// missing says what to do when there are no tables.
func missing(err error) error {
	if postgres.SQLState(err) == undefinedTable {
		return fmt.Errorf("this database has no outbox, or an older one: apply the migrations (slipway migrate up); or that of the fallback relay, whose events are in slipway.outbox and slipway.outbox_held: %w", err)
	}
	return err
}

// ParkedAggregate is one whose events wait because one could not be published.
type ParkedAggregate struct {
	Sink          string     `json:"sink"`
	AggregateType string     `json:"aggregate_type"`
	AggregateID   string     `json:"aggregate_id"`
	Events        int64      `json:"events"`
	FirstEvent    uuid.UUID  `json:"first_event"`
	Error         string     `json:"error"`
	Attempts      int        `json:"attempts"`
	ParkedAt      time.Time  `json:"parked_at"`
	NextAttemptAt *time.Time `json:"next_attempt_at,omitempty"` // nil when it waits for an operator
}

// Parked lists parked aggregates of a sink, empty for all, the oldest first.
func (o *Operator) Parked(ctx context.Context, sink string, limit int) ([]ParkedAggregate, error) {
	rows, err := o.pool.Query(ctx, `SELECT a.sink, a.aggregate_type, a.aggregate_id,
			(SELECT count(*) FROM slipway.outbox_parked p WHERE (p.sink, p.aggregate_type, p.aggregate_id) = (a.sink, a.aggregate_type, a.aggregate_id)) AS events,
			coalesce((SELECT event_id FROM slipway.outbox_parked p WHERE (p.sink, p.aggregate_type, p.aggregate_id) = (a.sink, a.aggregate_type, a.aggregate_id)
				ORDER BY id LIMIT 1), '00000000-0000-0000-0000-000000000000') AS first,
			a.error, a.attempts, a.parked_at, a.next_attempt_at
		FROM slipway.outbox_parked_aggregate a WHERE a.sink = $1 OR $1 = '' ORDER BY a.parked_at LIMIT $2`, sink, limit)
	if err != nil {
		return nil, fmt.Errorf("list parked aggregates: %w", missing(err))
	}
	return pgx.CollectRows(rows, pgx.RowToStructByPos[ParkedAggregate])
}
