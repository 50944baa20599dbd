// Package barrier makes the steps of sagas safe to receive: a participant calls [Act] and [Undo] in the
// transaction in which it does the work, and a call that comes twice, an undo of what never happened, and
// a call that comes after its own undo are harmless.
//
//	err := postgres.InTx(ctx, pool, opts, func(tx pgx.Tx) error {
//		fresh, err := barrier.Act(ctx, tx, req.IdempotencyKey)
//		if err != nil || !fresh {
//			return err // ErrUndone: refuse for good. Not fresh: answer with what is stored
//		}
//		... the work ...
//	})
//
// Key is what saga.Call.Key gives: the same for each attempt of a step and for its undo.
//
//	           Act                 Undo
//	(nothing) ─────► acted ─────────────────► undone     the undo is needed
//	    └──────────────Undo──────────────────► undone    the undo is not: there is nothing
//	                                             └─ Act: ErrUndone, for as long as the key is kept
//
// What is true after a crash: the mark and the work are in one transaction; both are there, or neither.
//
// The idea is the sub-transaction barrier of dtm (en.dtm.pub/practice/barrier.html).
package barrier

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"io/fs"

	"github.com/jackc/pgx/v5"

	"github.com/slipwayhq/slipway/platform/postgres"
	"github.com/slipwayhq/slipway/platform/postgres/migrate"
)

//go:embed migrations
var migrations embed.FS

// Migrations returns the table of marks, in the schema slipway.
func Migrations() migrate.Component {
	dir, err := fs.Sub(migrations, "migrations")
	if err != nil {
		panic(err) // the folder is part of the binary
	}
	return migrate.Component{Name: "barrier", FS: dir}
}

// ErrUndone is in the error of an Act whose Undo has come before it.
var ErrUndone = errors.New("the step was undone before")

// Act marks the action of a key in the caller's transaction. fresh says that it is to be done now: true
// once for a key, until it is undone. Others with the same key wait until the transaction ends; if it is
// rolled back, the next one is fresh. After an Undo of the key it fails with ErrUndone, which leaves the
// transaction usable.
func Act(ctx context.Context, tx pgx.Tx, key string) (fresh bool, err error) {
	var undone bool
	err = tx.QueryRow(ctx, `INSERT INTO slipway.saga_barrier AS b (key, acted) VALUES ($1, true)
		ON CONFLICT (key) DO UPDATE SET key = b.key RETURNING xmax = 0, undone`, key).Scan(&fresh, &undone)
	if err != nil {
		return false, fmt.Errorf("mark action: %w", missing(err))
	}
	if undone {
		return false, fmt.Errorf("act on %s: %w", key, ErrUndone)
	}
	return fresh, nil
}

// Undo marks the undo of a key in the caller's transaction. needed says that there is something to undo:
// true once, if the action has happened. Either way no action of the key happens later. Others with the
// same key wait until the transaction ends. An undo that comes when the action's mark is past its
// retention (see [Config]) finds nothing to undo.
func Undo(ctx context.Context, tx pgx.Tx, key string) (needed bool, err error) {
	err = tx.QueryRow(ctx, `INSERT INTO slipway.saga_barrier AS b (key, undone) VALUES ($1, true)
		ON CONFLICT (key) DO UPDATE SET undone = true WHERE NOT b.undone RETURNING acted`, key).Scan(&needed)
	if errors.Is(err, pgx.ErrNoRows) { // it was undone before
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("mark undo: %w", missing(err))
	}
	return needed, nil
}

// missing says what to do when there is no table.
func missing(err error) error {
	if postgres.SQLState(err) == "42P01" {
		return fmt.Errorf("this database has no barrier: apply the migrations (slipway migrate up): %w", err)
	}
	return err
}
