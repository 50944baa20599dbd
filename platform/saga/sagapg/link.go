package sagapg

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// The plans are fixed: each statement has one index that it must use, and the statistics of
// tables that are filled and emptied all the time would suggest to read them whole. They are
// made once: a new one for each claim would cost the database more than the claim.
const (
	// claimPlans are for claims, which read their indexes in order.
	claimPlans = "SET enable_seqscan = off; SET enable_hashjoin = off; SET enable_mergejoin = off; SET jit = off; SET max_parallel_workers_per_gather = 0; SET plan_cache_mode = force_generic_plan"
	// journalPlans are for the journal, which looks each saga up by its id: where reading an
	// index in order is allowed, one whose table was analysed when it was empty is read whole.
	journalPlans = claimPlans + "; SET enable_indexscan = off; SET enable_indexonlyscan = off"
	// relaxedSession is for what a crash of the database may undo without harm: nobody waits for
	// the disk.
	relaxedSession = "SET synchronous_commit = off"
)

// link is a connection with settings of its own, opened again when it breaks. One goroutine
// at a time may use it.
type link struct {
	db       *pgxpool.Pool
	settings string
	conn     *pgx.Conn
}

func (l *link) get(ctx context.Context) (*pgx.Conn, error) {
	if l.conn != nil && !l.conn.IsClosed() {
		return l.conn, nil
	}
	pooled, err := l.db.Acquire(ctx)
	if err != nil {
		return nil, fmt.Errorf("connect to database: %w", err)
	}
	conn := pooled.Hijack()
	if _, err := conn.Exec(ctx, l.settings, pgx.QueryExecModeSimpleProtocol); err != nil {
		_ = conn.Close(ctx)
		return nil, fmt.Errorf("prepare session: %w", err)
	}
	l.conn = conn
	return conn, nil
}

// close must be called when the link is not used any more.
func (l *link) close(ctx context.Context) {
	if l.conn == nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	_ = l.conn.Close(ctx)
	l.conn = nil
}
