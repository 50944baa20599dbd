package inbox

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"io/fs"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/slipwayhq/slipway/platform/postgres/migrate"
)

//go:embed migrations
var migrations embed.FS

// Migrations returns the tables of the inbox, in the schema slipway.
func Migrations() migrate.Component {
	dir, err := fs.Sub(migrations, "migrations")
	if err != nil {
		panic(err) // the folder is part of the binary
	}
	return migrate.Component{Name: "inbox", FS: dir}
}

// ErrTooOld is in the error of Once for an id whose day is past the retention: its
// mark, if there was one, is gone, so nobody can say whether it was applied.
var ErrTooOld = errors.New("message id is older than the retention of the inbox")

// insertMark returns one row: whether the id is new, whether its mark went into
// the default partition, and whether its day is kept at all.
const insertMark = `WITH horizon AS (
    SELECT $2::date = '-infinity' OR $2 >= oldest AS kept FROM slipway.inbox_horizon
), mark AS (
    INSERT INTO slipway.inbox (consumer, day, message_id) SELECT $1, $2, $3 FROM horizon WHERE kept
    ON CONFLICT DO NOTHING RETURNING tableoid = 'slipway.inbox_default'::regclass AS stray
)
SELECT mark.stray IS NOT NULL, coalesce(mark.stray, false), horizon.kept FROM horizon LEFT JOIN mark ON true`

// Once runs fn if the consumer has not applied the message yet, and marks it as
// applied, both in the caller's transaction. fresh tells whether fn ran.
//
// The mark is inserted before fn runs, and is the lock: a second execution for the
// same id waits at it until the first one's transaction has ended. After a commit
// it sees the duplicate, after a rollback it is the first. A rollback, also one to
// a savepoint, leaves no mark: the message is as new as before.
//
// Any id will do. That of a UUIDv7 is kept for whole days, as long as the package
// comment says; after that it is refused with ErrTooOld rather than taken for new.
// Other ids are kept for the retention too, and are taken for new after that.
//
// After an error, that of fn or another, the transaction must be rolled back.
func Once(ctx context.Context, tx pgx.Tx, consumer, messageID string, fn func() error) (fresh bool, err error) {
	if fresh, err = mark(ctx, tx, consumer, messageID); err != nil || !fresh {
		return false, err
	}
	return true, fn()
}

// mark inserts the id and tells whether it was new.
func mark(ctx context.Context, tx pgx.Tx, consumer, messageID string) (bool, error) {
	day, id := identify(messageID)
	var fresh, stray, kept bool
	err := tx.QueryRow(ctx, insertMark, consumer, day, id).Scan(&fresh, &stray, &kept)
	if err != nil {
		return false, fmt.Errorf("insert inbox mark: %w", err)
	}
	if !kept {
		return false, ErrTooOld
	}
	if stray {
		return true, recheck(ctx, tx, day)
	}
	return fresh, nil
}

// recheck looks at the horizon again when a mark went into the default partition.
// The partition of its day may have been dropped after the snapshot of the
// statement: the horizon had moved before that. FOR SHARE reads what is committed
// now, whatever the snapshot, or fails to serialise.
func recheck(ctx context.Context, tx pgx.Tx, day pgtype.Date) error {
	var kept bool
	err := tx.QueryRow(ctx, "SELECT $1::date >= oldest FROM slipway.inbox_horizon FOR SHARE", day).Scan(&kept)
	if err != nil {
		return fmt.Errorf("look at the horizon of the inbox: %w", err)
	}
	if !kept {
		return ErrTooOld
	}
	return nil
}
