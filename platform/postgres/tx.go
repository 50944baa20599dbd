package postgres

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/slipwayhq/slipway/platform/failpoint"
)

// Beginner starts transactions: a pool, a connection, or a stub.
type Beginner interface {
	BeginTx(ctx context.Context, opts pgx.TxOptions) (pgx.Tx, error)
}

// TxOptions are the properties of a transaction. The zero value is a read-write
// transaction at the server's default level, READ COMMITTED, that is not retried.
type TxOptions struct {
	Isolation pgx.TxIsoLevel
	ReadOnly  bool
	// MaxRetries is how often the transaction is repeated when it loses against
	// another one (see IsRetryable). The function then runs again from its start.
	MaxRetries int
}

// ErrCommitUnknown is in the error of InTx when COMMIT was sent and its answer
// was lost: the changes are all there or not at all, and only the database knows.
// Look, or repeat the work under an idempotency key.
var ErrCommitUnknown = errors.New("outcome of commit unknown")

const (
	// finishTimeout bounds COMMIT and ROLLBACK, which do not end with the
	// caller's context.
	finishTimeout = 5 * time.Second
	minBackoff    = 5 * time.Millisecond
	maxBackoff    = 500 * time.Millisecond
)

// InTx runs fn in a transaction and commits it. An error of fn, a panic, and the
// end of ctx before the commit roll it back; the error comes back as it is, the
// panic goes on. fn must use tx for all it does in the database and must not
// call other services: the transaction holds locks and a connection.
//
// An error of COMMIT is always returned. Except for ErrCommitUnknown an error
// means that nothing was changed.
func InTx(ctx context.Context, db Beginner, opts TxOptions, fn func(tx pgx.Tx) error) error {
	backoff := minBackoff
	for attempt := 0; ; attempt++ {
		err := once(ctx, db, opts, fn)
		if attempt >= opts.MaxRetries || !IsRetryable(err) {
			return err
		}
		timer := time.NewTimer(rand.N(backoff) + backoff/2)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return fmt.Errorf("retry transaction: %w (last attempt: %w)", ctx.Err(), err)
		}
		backoff = min(2*backoff, maxBackoff)
	}
}

func once(ctx context.Context, db Beginner, opts TxOptions, fn func(tx pgx.Tx) error) error {
	txOpts := pgx.TxOptions{IsoLevel: opts.Isolation}
	if opts.ReadOnly {
		txOpts.AccessMode = pgx.ReadOnly
	}
	tx, err := db.BeginTx(ctx, txOpts)
	if err != nil {
		return fmt.Errorf("begin transaction: %w", err)
	}
	defer rollback(ctx, tx) // does nothing after a commit
	if err := fn(tx); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("commit transaction: %w", err)
	}
	finish, cancel := context.WithTimeout(context.WithoutCancel(ctx), finishTimeout)
	defer cancel()
	failpoint.At(failpoint.BeforeCommit, "")
	if err := tx.Commit(finish); err != nil {
		return commitError(err)
	}
	failpoint.At(failpoint.AfterCommit, "")
	return nil
}

// rollback frees the connection even when ctx is over. An error of it changes
// nothing: the server rolls back what a lost connection leaves.
func rollback(ctx context.Context, tx pgx.Tx) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), finishTimeout)
	defer cancel()
	_ = tx.Rollback(ctx)
}

// commitError tells a commit that failed from one whose answer was lost.
func commitError(err error) error {
	code := SQLState(err)
	switch {
	case code != "" && !strings.HasPrefix(code, "57P"), // the server refused; 57P is its own end
		errors.Is(err, pgx.ErrTxCommitRollback),
		errors.Is(err, pgx.ErrTxClosed),
		pgconn.SafeToRetry(err):
		return fmt.Errorf("commit transaction: %w", err)
	default:
		return fmt.Errorf("commit transaction: %w: %w", ErrCommitUnknown, err)
	}
}
