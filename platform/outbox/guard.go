package outbox

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/jackc/pgx/v5"
	"go.uber.org/zap"

	"github.com/slipwayhq/slipway/platform/postgres"
)

// ErrUnsafe is in the error of Run when publishing could lose or reorder events.
// Its text says what to do.
var ErrUnsafe = errors.New("unsafe to publish events")

const undefinedTable = "42P01"

// register makes sure that the sink has its row and that the database is one whose
// events it can read in order. A new sink begins with the oldest event that is kept,
// so the retention of each begins anew.
func register(ctx context.Context, conn *pgx.Conn, sink string, log *zap.Logger) error {
	identifier, err := systemIdentifier(ctx, conn)
	if err != nil {
		log.Warn("cannot ask for the identity of the database: a restored one is recognised only by its transaction ids", zap.Error(err))
	}
	_, err = conn.Exec(ctx, `WITH new AS (INSERT INTO slipway.outbox_sink (sink, system_identifier) VALUES ($1, $2) ON CONFLICT DO NOTHING RETURNING sink)
		UPDATE slipway.outbox_rotation SET passed_at = NULL, passed = NULL WHERE passed_at IS NOT NULL AND EXISTS (SELECT FROM new)`, sink, identifier)
	if postgres.SQLState(err) == undefinedTable {
		return fmt.Errorf("%w: the tables of the outbox are missing: apply its migrations (slipway migrate up)", ErrUnsafe)
	}
	if err != nil {
		return fmt.Errorf("register outbox sink: %w", err)
	}
	if err := checkSequence(ctx, conn); err != nil {
		return err
	}
	return sameCluster(ctx, conn, sink, identifier)
}

// checkSequence makes sure that ids follow the order of events: a session that holds a
// block of them gives a later event of an aggregate a smaller one.
func checkSequence(ctx context.Context, conn *pgx.Conn) error {
	var cache int64
	if err := conn.QueryRow(ctx, "SELECT seqcache FROM pg_sequence WHERE seqrelid = 'slipway.outbox_id_seq'::regclass").Scan(&cache); err != nil {
		return fmt.Errorf("check outbox sequence: %w", err)
	}
	if cache != 1 {
		return fmt.Errorf("%w: slipway.outbox_id_seq has CACHE %d, so that ids do not follow the order of events: ALTER SEQUENCE slipway.outbox_id_seq CACHE 1",
			ErrUnsafe, cache)
	}
	return nil
}

// sameCluster compares the cluster with the one that the sink's snapshot is of. In
// another one transaction ids mean something else: the relay would wait for ever, or
// take unsent events for sent.
func sameCluster(ctx context.Context, conn *pgx.Conn, sink string, identifier *int64) error {
	var known *int64
	var done, now string
	err := conn.QueryRow(ctx, "SELECT system_identifier, snapshot::text, pg_current_snapshot()::text FROM slipway.outbox_position WHERE sink = $1", sink).
		Scan(&known, &done, &now)
	if err != nil {
		return fmt.Errorf("check outbox position: %w", err)
	}
	old, err := parseSnapshot(done)
	if err != nil {
		return err
	}
	current, err := parseSnapshot(now)
	if err != nil {
		return err
	}
	const remedy = "run slipway outbox reset: it renumbers the events that are not published and goes on with them"
	switch {
	case known != nil && identifier != nil && *known != *identifier:
		return fmt.Errorf("%w: the position of sink %q was taken in another database cluster (%s, this is %s), as after a dump and restore or an upgrade: %s",
			ErrUnsafe, sink, strconv.FormatUint(uint64(*known), 10), strconv.FormatUint(uint64(*identifier), 10), remedy)
	case old.xmax > current.xmax:
		return fmt.Errorf("%w: the position of sink %q is at transaction %d, and the database only at %d, as after a restore: %s",
			ErrUnsafe, sink, old.xmax, current.xmax, remedy)
	}
	return nil
}

// systemIdentifier returns that of the cluster, nil where it may not be asked.
func systemIdentifier(ctx context.Context, db rower) (*int64, error) {
	var id int64
	if err := db.QueryRow(ctx, "SELECT system_identifier FROM pg_control_system()").Scan(&id); err != nil {
		return nil, err
	}
	return &id, nil
}
