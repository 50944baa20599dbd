package inbox

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/slipwayhq/slipway/platform/postgres"
)

// readCommitted has each statement see what was committed before its locks, whatever
// the role or the database has for a default.
var readCommitted = postgres.TxOptions{Isolation: pgx.ReadCommitted}

// State is what has become of an event in order.
type State int8

// The states.
const (
	// Applied means that fn ran: the version was the next one.
	Applied State = iota + 1
	// Duplicate means that the version is settled: it was applied, or is a dead
	// letter of a Consumer.
	Duplicate
	// Early means that an earlier version is missing.
	Early
)

// String returns applied, duplicate or early.
func (s State) String() string {
	switch s {
	case Applied:
		return "applied"
	case Duplicate:
		return "duplicate"
	case Early:
		return "early"
	default:
		return fmt.Sprintf("State(%d)", int8(s))
	}
}

// Outcome tells what InOrder did.
type Outcome struct {
	State State
	// Expected is the version that must come next: after an Applied one the one
	// that follows it, after an Early one the missing one.
	Expected int64
}

// ErrVersion is in the error of InOrder for a version that is not positive.
var ErrVersion = errors.New("aggregate version is not positive")

// InOrder runs fn if version is the next one of the key for the consumer, and
// moves the watermark of the key to it, both in the caller's transaction. The
// first version of a key is 1. An Early event is not stored anywhere: a Consumer
// does that, or the caller gives the message back to its broker.
//
// The watermark is written before fn runs, and is the lock: executions for one key
// are one after the other, whatever their versions, until their transactions end.
// A rollback, also one to a savepoint, leaves the watermark where it was. After an
// error, that of fn or another, the transaction must be rolled back.
func InOrder(ctx context.Context, tx pgx.Tx, consumer, key string, version int64, fn func() error) (Outcome, error) {
	p, err := advance(ctx, tx, position{consumer, key, version}, false)
	if err != nil || p.state != Applied {
		return p.outcome(), err
	}
	return p.outcome(), fn()
}

// position names one event in the order of a consumer.
type position struct {
	consumer, key string
	version       int64
}

// progress is where the watermark of a key stands after advance.
type progress struct {
	state   State
	version int64
	held    bool
	// next tells that the following version is there and may be applied.
	next bool
}

func (p progress) outcome() Outcome { return Outcome{State: p.state, Expected: p.version + 1} }

const (
	// moveMark locks the watermark in every case: a row that the condition leaves
	// alone is locked too.
	moveMark = `INSERT INTO slipway.inbox_watermark AS w (consumer, key, version)
VALUES ($1, $2, CASE WHEN $3::bigint = 1 OR $4 THEN $3::bigint ELSE 0 END)
ON CONFLICT (consumer, key) DO UPDATE SET version = $3 WHERE w.version = $3::bigint - 1 AND NOT w.held
RETURNING true`

	readMark = `SELECT version, held FROM slipway.inbox_watermark WHERE consumer = $1 AND key = $2`

	// wakeNext removes what is no longer early and sets free what comes next. It is
	// a statement of its own because its snapshot must be younger than the lock: the
	// event that waits was stored under that.
	wakeNext = `WITH w AS (
    SELECT FROM slipway.inbox_watermark WHERE consumer = $1 AND key = $2 AND version = $3::bigint AND NOT held
), passed AS (
    DELETE FROM slipway.inbox_early e USING w WHERE e.consumer = $1 AND e.key = $2 AND e.version <= $3
)
UPDATE slipway.inbox_early e SET ready_at = clock_timestamp() FROM w
WHERE e.consumer = $1 AND e.key = $2 AND e.version = $3 + 1 AND e.ready_at IS NULL`
)

// advance locks the watermark of the key and moves it if at is the next version.
// With late the first version of a key may be any.
func advance(ctx context.Context, tx pgx.Tx, at position, late bool) (progress, error) {
	if at.version < 1 {
		return progress{}, fmt.Errorf("%w: %d", ErrVersion, at.version)
	}
	var moved bool
	var p progress
	batch := &pgx.Batch{}
	batch.Queue(moveMark, at.consumer, at.key, at.version, late).QueryRow(func(row pgx.Row) error {
		if err := row.Scan(&moved); !errors.Is(err, pgx.ErrNoRows) {
			return err
		}
		return nil
	})
	batch.Queue(readMark, at.consumer, at.key).QueryRow(func(row pgx.Row) error { return row.Scan(&p.version, &p.held) })
	batch.Queue(wakeNext, at.consumer, at.key, at.version).Exec(func(tag pgconn.CommandTag) error {
		p.next = tag.RowsAffected() > 0
		return nil
	})
	if err := tx.SendBatch(ctx, batch).Close(); err != nil {
		return progress{}, fmt.Errorf("move inbox watermark: %w", err)
	}
	switch {
	case moved && p.version == at.version:
		p.state = Applied
	case at.version <= p.version, p.held && at.version == p.version+1:
		p.state = Duplicate
	default:
		p.state = Early
	}
	return p, nil
}
