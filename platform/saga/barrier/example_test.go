package barrier_test

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/slipwayhq/slipway/platform/saga/barrier"
)

// reserve is how a participant does its step: once for a key, however often it is called.
func reserve(ctx context.Context, tx pgx.Tx, key string) error {
	fresh, err := barrier.Act(ctx, tx, key)
	if err != nil || !fresh {
		return err
	}
	_, err = tx.Exec(ctx, "UPDATE stock SET reserved = reserved + 1")
	return err
}

func ExampleAct() {
	fmt.Printf("%T\n", reserve)
	// Output: func(context.Context, pgx.Tx, string) error
}
