package inbox

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/slipwayhq/slipway/platform/postgres"
)

// DeadLetter is a message that could not be applied.
type DeadLetter struct {
	ID        int64  `json:"id"`
	Consumer  string `json:"consumer"`
	MessageID string `json:"message_id"`
	Subject   string `json:"subject"`
	Key       string `json:"key"`
	// Version is the aggregate's version, 0 where the consumer keeps no order.
	Version int64 `json:"version,omitempty"`
	// Class is permanent, exhausted, too_old or malformed.
	Class    string    `json:"class"`
	Error    string    `json:"error"`
	Attempts int       `json:"attempts"`
	FirstAt  time.Time `json:"first_at"`
	LastAt   time.Time `json:"last_at"`
	// Waiting counts the later events of the key that it holds up.
	Waiting int64 `json:"waiting"`
	// RedriveRequestedAt is set until the consumer has tried it once more.
	RedriveRequestedAt *time.Time `json:"redrive_requested_at,omitempty"`
	// ResolvedAt and Resolution, redriven or discarded, are set when it is done.
	ResolvedAt *time.Time        `json:"resolved_at,omitempty"`
	Resolution string            `json:"resolution,omitempty"`
	Headers    map[string]string `json:"headers,omitempty"`
	// Payload is only in what Show returns.
	Payload []byte `json:"payload,omitempty"`
}

// Filter selects dead letters, or keys that wait for a version.
type Filter struct {
	// Consumer is whose. Empty means everybody's.
	Consumer string
	// Key is which. Empty means all.
	Key string
	// Limit is how many, the oldest first. 0 means 100.
	Limit int
}

// Selection names dead letters: those with the ids, or without ids all of the
// consumer.
type Selection struct {
	IDs      []int64
	Consumer string
}

// Act says who does something and why. Both are required: they go to the journal.
type Act struct{ Who, Reason string }

var (
	// ErrNotFound is in the error for a dead letter or a key that is not there.
	ErrNotFound = errors.New("not found")
	// ErrInvalid is in the error of an action that lacks what it needs.
	ErrInvalid = errors.New("invalid action")
)

// Operator looks at what consumers could not apply and decides about it. Every
// change is journaled in its own transaction. It is safe for concurrent use, beside
// running consumers and without any.
type Operator struct{ db *pgxpool.Pool }

// NewOperator returns an operator.
func NewOperator(db *pgxpool.Pool) *Operator { return &Operator{db: db} }

const selectDead = `SELECT id, consumer, message_id, subject, key, coalesce(version, 0), class, error, attempts, first_at, last_at,
    (SELECT count(*) FROM slipway.inbox_early e WHERE e.consumer = d.consumer AND e.key = d.key AND d.version < e.version),
    redrive_requested_at, resolved_at, coalesce(resolution, ''), headers, `

// List returns dead letters that are not resolved, without payloads.
func (o *Operator) List(ctx context.Context, f Filter) ([]DeadLetter, error) {
	rows, err := o.db.Query(ctx, selectDead+`''::bytea FROM slipway.inbox_dead d
		WHERE resolved_at IS NULL AND ($1 = '' OR consumer = $1) AND ($2 = '' OR key = $2) ORDER BY id LIMIT $3`,
		f.Consumer, f.Key, cmp.Or(f.Limit, 100))
	if err != nil {
		return nil, fmt.Errorf("list dead letters: %w", missing(err))
	}
	letters, err := pgx.CollectRows(rows, scanDead)
	if err != nil {
		return nil, fmt.Errorf("list dead letters: %w", missing(err))
	}
	return letters, nil
}

// Show returns the whole dead letter, also a resolved one.
func (o *Operator) Show(ctx context.Context, id int64) (DeadLetter, error) {
	rows, err := o.db.Query(ctx, selectDead+`payload FROM slipway.inbox_dead d WHERE id = $1`, id)
	if err != nil {
		return DeadLetter{}, fmt.Errorf("read dead letter: %w", missing(err))
	}
	letter, err := pgx.CollectExactlyOneRow(rows, scanDead)
	if errors.Is(err, pgx.ErrNoRows) {
		return DeadLetter{}, fmt.Errorf("dead letter %d: %w", id, ErrNotFound)
	}
	if err != nil {
		return DeadLetter{}, fmt.Errorf("read dead letter: %w", missing(err))
	}
	return letter, nil
}

func scanDead(row pgx.CollectableRow) (DeadLetter, error) {
	var d DeadLetter
	var headers string
	err := row.Scan(&d.ID, &d.Consumer, &d.MessageID, &d.Subject, &d.Key, &d.Version, &d.Class, &d.Error, &d.Attempts,
		&d.FirstAt, &d.LastAt, &d.Waiting, &d.RedriveRequestedAt, &d.ResolvedAt, &d.Resolution, &headers, &d.Payload)
	if err != nil {
		return d, err
	}
	if err := json.Unmarshal([]byte(headers), &d.Headers); err != nil {
		return d, fmt.Errorf("read headers of dead letter %d: %w", d.ID, err)
	}
	return d, nil
}

// Redrive has the consumer try the dead letters once more, within its Poll if it
// runs, and returns the ids of those that it has marked for that: not those that
// are resolved or marked already. One that fails again is a dead letter as before,
// with the new error. One that is too old is applied although nobody can say
// whether it was before: look first.
func (o *Operator) Redrive(ctx context.Context, which Selection, by Act) ([]int64, error) {
	if len(which.IDs) == 0 && which.Consumer == "" {
		return nil, fmt.Errorf("%w: name ids or a consumer", ErrInvalid)
	}
	var ids []int64
	err := o.act(ctx, "redrive", by, func(tx pgx.Tx) (string, error) {
		rows, err := tx.Query(ctx, `UPDATE slipway.inbox_dead SET redrive_requested_at = clock_timestamp()
			WHERE resolved_at IS NULL AND redrive_requested_at IS NULL AND ($1 = '' OR consumer = $1)
				AND (cardinality($2::bigint[]) = 0 OR id = ANY ($2)) RETURNING id`, which.Consumer, orEmpty(which.IDs))
		if err != nil {
			return "", err
		}
		ids, err = pgx.CollectRows(rows, pgx.RowTo[int64])
		return fmt.Sprintf("asked for dead letters %v", ids), err
	})
	return ids, err
}

// Discard gives dead letters up: their messages will never be applied, also when
// they come again, and what waits behind them goes on without them. It returns the
// ids of those that were not resolved before. It waits for one that is being
// redriven right now, as long as the lock timeout allows; all or none change.
func (o *Operator) Discard(ctx context.Context, ids []int64, by Act) ([]int64, error) {
	if len(ids) == 0 {
		return nil, fmt.Errorf("%w: name ids", ErrInvalid)
	}
	var gone []int64
	err := o.act(ctx, "discard", by, func(tx pgx.Tx) (string, error) {
		gone = nil
		rows, err := tx.Query(ctx, `SELECT id, consumer, key, coalesce(version, 0) FROM slipway.inbox_dead
			WHERE id = ANY ($1) AND resolved_at IS NULL ORDER BY consumer, key, version`, ids)
		if err != nil {
			return "", err
		}
		found, err := pgx.CollectRows(rows, pgx.RowToStructByPos[struct {
			ID            int64
			Consumer, Key string
			Version       int64
		}])
		for _, d := range found {
			if err = discard(ctx, tx, d.ID, position{d.Consumer, d.Key, d.Version}); err != nil {
				return "", err
			}
			gone = append(gone, d.ID)
		}
		return fmt.Sprintf("discarded dead letters %v", gone), err
	})
	return gone, err
}

var errMeanwhile = errors.New("a dead letter was resolved meanwhile, look again")

// discard takes its locks in the order that consumers take them.
func discard(ctx context.Context, tx pgx.Tx, id int64, at position) error {
	if at.version != 0 {
		if held, err := release(ctx, tx, at, ""); err != nil || !held {
			return cmp.Or(err, errMeanwhile)
		}
	}
	tag, err := tx.Exec(ctx, resolveDead+" AND resolved_at IS NULL", id, "discarded")
	if err == nil && tag.RowsAffected() == 0 {
		return errMeanwhile
	}
	return err
}

// Consumers lists the names of the consumers that have run on the database.
func (o *Operator) Consumers(ctx context.Context) ([]string, error) {
	rows, err := o.db.Query(ctx, "SELECT consumer FROM slipway.inbox_consumer ORDER BY consumer")
	if err != nil {
		return nil, fmt.Errorf("read inbox consumers: %w", missing(err))
	}
	names, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return nil, fmt.Errorf("read inbox consumers: %w", missing(err))
	}
	return names, nil
}

// JournalEntry is something that an operator did.
type JournalEntry struct {
	At     time.Time `json:"at"`
	Who    string    `json:"who"`
	Action string    `json:"action"`
	Reason string    `json:"reason"`
	Detail string    `json:"detail"`
}

// Journal returns what operators did last, the latest first.
func (o *Operator) Journal(ctx context.Context, limit int) ([]JournalEntry, error) {
	rows, err := o.db.Query(ctx, "SELECT at, who, action, reason, detail FROM slipway.inbox_journal ORDER BY entry DESC LIMIT $1", limit)
	if err != nil {
		return nil, fmt.Errorf("read inbox journal: %w", missing(err))
	}
	entries, err := pgx.CollectRows(rows, pgx.RowToStructByPos[JournalEntry])
	if err != nil {
		return nil, fmt.Errorf("read inbox journal: %w", missing(err))
	}
	return entries, nil
}

// act does something and journals it, in one transaction. do returns what changed.
func (o *Operator) act(ctx context.Context, action string, by Act, do func(tx pgx.Tx) (string, error)) error {
	if by.Who == "" || by.Reason == "" {
		return fmt.Errorf("%w: say who does it and why", ErrInvalid)
	}
	err := postgres.InTx(ctx, o.db, readCommitted, func(tx pgx.Tx) error {
		detail, err := do(tx)
		if err != nil {
			return err
		}
		_, err = tx.Exec(ctx, "INSERT INTO slipway.inbox_journal (who, action, reason, detail) VALUES ($1, $2, $3, $4)",
			by.Who, action, by.Reason, detail)
		return err
	})
	if err != nil {
		return fmt.Errorf("%s: %w", action, missing(err))
	}
	return nil
}

// missing says what to do when there are no tables.
func missing(err error) error {
	if postgres.SQLState(err) == codeUndefinedTable {
		return fmt.Errorf("this database has no inbox, or an older one: apply the migrations (slipway migrate up): %w", err)
	}
	return err
}

func orEmpty(ids []int64) []int64 {
	if ids == nil {
		return []int64{}
	}
	return ids
}
