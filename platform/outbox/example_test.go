package outbox_test

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/slipwayhq/slipway/platform/outbox"
	"github.com/slipwayhq/slipway/platform/postgres"
)

func ExampleAdd() {
	ctx := context.Background()
	place := func(db postgres.Beginner, id string) error {
		return postgres.InTx(ctx, db, postgres.TxOptions{}, func(tx pgx.Tx) error {
			if _, err := tx.Exec(ctx, "INSERT INTO orders (id, version) VALUES ($1, 1)", id); err != nil {
				return err
			}
			return outbox.Add(ctx, tx, outbox.Event{
				AggregateType: "order", AggregateID: id, AggregateVersion: 1,
				Type: "order.placed", Version: 1, Payload: []byte(`{"total":"12.50 EUR"}`),
			})
		})
	}
	_ = place // the order and its event exist together, or neither does

	err := outbox.Add(ctx, nil, outbox.Event{AggregateType: "order", Type: "order.placed", Version: 1})
	fmt.Println(errors.Is(err, outbox.ErrInvalid), err)
	// Output: true invalid event 0 (order.placed): aggregate id: must not be empty
}
