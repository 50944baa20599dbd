package barrier_test

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/slipwayhq/slipway/platform/saga/barrier"
)

// reserve is how a participant does its step: once for a key, however often it is called, and not at all
// after its undo.
func reserve(ctx context.Context, tx pgx.Tx, key string) (string, error) {
	switch fresh, err := barrier.Act(ctx, tx, key); {
	case errors.Is(err, barrier.ErrUndone):
		return "refused for good", nil
	case err != nil:
		return "", err
	case !fresh:
		return "answered as before", nil
	}
	_, err := tx.Exec(ctx, "UPDATE stock SET reserved = reserved + 1")
	return "reserved", err
}

// release undoes it.
func release(ctx context.Context, tx pgx.Tx, key string) (string, error) {
	needed, err := barrier.Undo(ctx, tx, key)
	if err != nil || !needed {
		return "nothing to release", err
	}
	_, err = tx.Exec(ctx, "UPDATE stock SET reserved = reserved - 1")
	return "released", err
}

func Example() {
	ctx, key := context.Background(), "saga-7/reserve-stock"
	tx := &transaction{answers: []answer{
		{true, false},  // fresh, undone: the first call
		{false, false}, // its repetition
		{true},         // acted: so the undo is needed
		{false, true},  // a call that was on its way for so long that its undo has overtaken it
	}}
	for _, call := range []func(context.Context, pgx.Tx, string) (string, error){reserve, reserve, release, reserve} {
		did, err := call(ctx, tx, key)
		fmt.Println(did, err)
	}
	// Output:
	// reserved <nil>
	// answered as before <nil>
	// released <nil>
	// refused for good <nil>
}

// transaction stands in for one of PostgreSQL: it gives the answers that the table of marks leads to.
type transaction struct {
	pgx.Tx
	answers []answer
}

type answer []bool

func (t *transaction) Exec(context.Context, string, ...any) (pgconn.CommandTag, error) {
	return pgconn.CommandTag{}, nil
}

func (t *transaction) QueryRow(context.Context, string, ...any) pgx.Row {
	next := t.answers[0]
	t.answers = t.answers[1:]
	return next
}

func (a answer) Scan(dest ...any) error {
	for i := range dest {
		*dest[i].(*bool) = a[i]
	}
	return nil
}
