package postgres_test

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/slipwayhq/slipway/platform/postgres"
)

func ExampleOpen() {
	ctx := context.Background()
	pool, err := postgres.Open(ctx, postgres.Config{URL: "postgres://127.0.0.1:1/orders", MaxConns: 5}, nil, nil, nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer pool.Close()
	fmt.Println(pool.Stat().MaxConns())
	// Output: 5
}

func ExampleInTx() {
	ctx := context.Background()
	cancel := func(db postgres.Beginner, id string) error {
		opts := postgres.TxOptions{MaxRetries: 3}
		return postgres.InTx(ctx, db, opts, func(tx pgx.Tx) error {
			_, err := tx.Exec(ctx, "UPDATE orders SET state = 'cancelled' WHERE id = $1", id)
			return err
		})
	}
	fmt.Printf("%T\n", cancel)
	// Output: func(postgres.Beginner, string) error
}
