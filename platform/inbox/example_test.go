package inbox_test

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/slipwayhq/slipway/platform/broker"
	"github.com/slipwayhq/slipway/platform/inbox"
	"github.com/slipwayhq/slipway/platform/postgres"
)

func ExampleNewConsumer() {
	reserve := func(ctx context.Context, tx pgx.Tx, m broker.Message) error {
		if m.Headers[broker.HeaderEventVersion] != "1" {
			return inbox.Permanent(errors.New("schema version is unknown"))
		}
		_, err := tx.Exec(ctx, "UPDATE stock SET reserved = reserved + 1 WHERE item = $1", string(m.Payload))
		return err
	}
	run := func(ctx context.Context, db *pgxpool.Pool, sub broker.Subscriber) error {
		cfg := inbox.Config{Name: "inventory", Subjects: []string{"order.confirmed"}}
		consumer, err := inbox.NewConsumer(db, sub, cfg, reserve, nil, nil, nil)
		if err != nil {
			return err
		}
		return consumer.Run(ctx)
	}
	_ = run // until ctx ends

	fmt.Println(inbox.Config{Name: "inventory!", Concurrency: 1, AckWait: 1e9, Mode: "both"}.Validate() != nil)
	// Output: true
}

func ExampleOnce() {
	pay := func(ctx context.Context, db postgres.Beginner, messageID string) error {
		return postgres.InTx(ctx, db, postgres.TxOptions{}, func(tx pgx.Tx) error {
			_, err := inbox.Once(ctx, tx, "payments", messageID, func() error {
				_, err := tx.Exec(ctx, "UPDATE accounts SET balance = balance - 1250")
				return err
			})
			return err // the mark and the payment exist together, or neither does
		})
	}
	_ = pay

	// A version that is none is refused before the database is asked.
	_, err := inbox.InOrder(context.Background(), nil, "payments", "order/42", 0, nil)
	fmt.Println(err)
	// Output: aggregate version is not positive: 0
}
